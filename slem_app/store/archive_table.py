"""One table of a whole archive: what became of each case, as CSV or Parquet."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slem_app.errors import BadSetting, NotFound
from slem_app.files import atomic_file
from slem_app.store.drafts import Drafts
from slem_app.store.provenance import PROVENANCE
from slem_app.store.work_queue import Counts

__all__ = ["check_table", "write_table"]

FIXED = (
    *("case", "state", "reason", "label", "model", "version", "weights_sha256", "code", "ts", "warnings"),
    "quality",
)
MEASURED = ("_ml", "_dice")
"""How names of columns end that depend on the model: millilitres, and the Dice that it expects."""
ENDINGS = (".csv", ".parquet")


def check_table(path: Path) -> None:
    """Refuse a table before hours of work, not after.

    Raises:
        BadSetting: its name ends in neither .csv nor .parquet, or what writes it is not installed.
    """
    if path.suffix not in ENDINGS:
        raise BadSetting(f"--table {path}: its name must end in {' or '.join(ENDINGS)}")
    if path.suffix == ".parquet":
        _parquet()


def write_table(path: Path, drafts: Drafts, counts: Counts) -> int:
    """Write a row for each case of the archive that has a draft by this model, or that was left out or held
    back.

    Args:
        path: ends in .csv or .parquet.
        drafts: which.
        counts: of the run: what was left out, and why.

    Returns:
        How many rows.

    Raises:
        BadSetting: as `check_table`.
        StorageFailed: the disk refused.
    """
    rows = list(_rows(drafts, counts))
    measured = sorted({name for row in rows for name in row if name.endswith(MEASURED)})
    names = [*FIXED, *measured]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        if path.suffix == ".parquet":
            arrow, parquet = _parquet()
            columns = {name: [row.get(name) for row in rows] for name in names}
            parquet.write_table(arrow.table(columns), file)
        else:
            text = io.StringIO(newline="")
            table = csv.DictWriter(text, names, restval="")
            table.writeheader()
            table.writerows(rows)
            file.write(text.getvalue().encode())
    return len(rows)


def _rows(drafts: Drafts, counts: Counts) -> Iterator[dict[str, Any]]:
    """The rows, by case."""
    foreign = frozenset(counts.foreign)
    for case in drafts.cases or drafts.labels.ids():
        if case in counts.quarantined:
            yield _row(case, "quarantined", counts.quarantined[case])
        elif case in counts.held:
            yield _row(case, "held back", counts.held[case])
        elif case in foreign:
            yield _row(case, "foreign", "none of its sequences is the model's")
        else:
            try:
                version = drafts.labels.store.latest(case, drafts.tag)
            except NotFound:
                continue
            record = version.record
            if record.model_sha256 != drafts.sha256:
                continue
            quality = record.trust.quality
            made: Mapping[str, Any] = version.meta.get(PROVENANCE, {})  # type: ignore[assignment]
            yield {
                **_row(case, "made", ""),
                "label": str(version.label.relative_to(drafts.labels.root)),
                "model": record.model,
                "version": record.model_version,
                "weights_sha256": record.model_sha256,
                "code": str(made.get("code", "")),
                "ts": record.ts,
                "warnings": " ".join(one.code for one in record.warnings),
                "quality": quality.step if quality else "",
                **{f"{region}_dice": dice for region, dice in (quality.dice if quality else {}).items()},
                **{f"{name}_ml": ml for name, ml in made.get("volumes_ml", {}).items()},
            }


def _row(case: str, state: str, reason: str) -> dict[str, Any]:
    return {**dict.fromkeys(FIXED, ""), "ts": 0.0, "case": case, "state": state, "reason": reason}


def _parquet() -> tuple[Any, Any]:
    """Pyarrow and its part for Parquet.

    Raises:
        BadSetting: it is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise BadSetting(
            "a .parquet table needs pyarrow: pip install 'slem-label[parquet]', or name a .csv"
        ) from error
