"""`slem models`: the versions of the models that learn on a server: list and compare them, serve another one,
take one back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from slem_app.errors import BadSetting, NotFound

if TYPE_CHECKING:
    from slem_app.weights.published import Published
    from slem_app.weights.version import ModelVersion

__all__ = ["Models", "published_in"]

HEAD = ("VERSION", "SERVED", "CREATED (UTC)", "FROM", "LEARNT", "HELD OUT", "MEAN DICE", "BEFORE", "WHY")
WIDTHS = (22, 6, 19, 4, 6, 8, 9, 7)  # the reason takes what is left


@dataclass(frozen=True)
class Models:
    """List the versions of the models that are trained on a server; serve another one, or go back to the
    previous one.

    A running server takes up another version within a second or two, without a restart.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """The server's store, or the studies folder whose `.slem` it is."""
    model: str = ""
    """Only this model. Needed for `--serve`, `--back` and `--compare` if several were trained."""
    serve: int | None = None
    """Serve this version; 0 is the bundled model."""
    back: bool = False
    """Serve the version that was served before."""
    compare: tuple[int, int] | None = None
    """Show the differences between two versions: figures, labels, settings."""
    check: bool = False
    """Read all weights to check that they are complete."""
    models_dir: Path | None = None
    """As the server's setting: the folder that is searched for version 0 first."""

    def run(self) -> int:
        """Do it; 1 if a version cannot be used."""
        every = published_in(self.folder, self.model, self.models_dir)
        if self.serve is None and not self.back and self.compare is None:
            return max([self._list(one) for one in every], default=0)
        one = _single(every, self.folder)
        if self.compare is not None:
            print("\n".join(compared(one, *self.compare)))
            return 0
        one.serve(one.served_before() if self.serve is None else self.serve)
        print(f"{one.name}: version {one.served_number()} is served from now on")
        return 0

    def _list(self, published: Published) -> int:
        versions = published.versions(self.check)
        print(f"{published.name} in {published.path}")
        for cells in (HEAD, *(row(one) for one in (*versions, *published.refused()))):
            print(
                "  ".join([*(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS)), cells[-1]]).rstrip()
            )
        return int(any(one.problem for one in versions))


def published_in(folder: Path, model: str = "", models_dir: Path | None = None) -> list[Published]:
    """The models that have versions in a store.

    Args:
        folder: the store, or the studies folder whose `.slem` it is.
        model: only this one, whether it has versions or not.
        models_dir: where version 0 is looked for first.

    Raises:
        NotFound: no such folder, no versions, or no version 0.
    """
    from slem_app.weights import find
    from slem_app.weights.card import CARD_FILE
    from slem_app.weights.published import Published

    root = _store(folder)
    names = [model] if model else sorted(path.name for path in (root / "models").glob("*") if path.is_dir())
    if not names:
        raise NotFound(f"no model was published in {root}: the bundled models are served")
    own = {
        name: models_dir / name for name in names if models_dir and (models_dir / name / CARD_FILE).is_file()
    }
    return [Published(root / "models", name, own.get(name) or find(name)) for name in names]


def row(version: ModelVersion) -> tuple[str, ...]:
    """One line of the table."""
    record, name = version.record, str(version.number) if version.number >= 0 else version.folder.name
    mark = "yes" if version.served else ""
    if record is None:
        bundled = f"bundled: {version.card.name} {version.card.version}" if version.card else ""
        return (
            name,
            mark,
            "",
            "",
            "",
            "",
            "",
            "",
            version.problem or bundled,
        )
    figures = (_figure(record.figures.get("mean")), _figure(record.before.get("mean")))
    why = version.problem or record.reason + (
        "" if record.trusted or not record.figures else " (not trusted: few labels)"
    )
    return (
        name,
        mark,
        record.created[:19],
        str(record.parent),
        str(len(record.labels)),
        str(len(record.held_out)),
        *figures,
        why,
    )


def compared(published: Published, first: int, second: int) -> list[str]:
    """Where two versions differ, a line each.

    Raises:
        NotFound: there is no such version.
    """
    tables = [_table(published, number) for number in (first, second)]
    lines = [f"{'':<44}{f'version {first}':>22}{f'version {second}':>22}"]
    for key in dict.fromkeys(key for table in tables for key in table):
        a, b = (str(table.get(key, "")) for table in tables)
        if a != b or key.startswith(("figure", "created")):
            lines.append(f"{key:<44}{a:>22}{b:>22}")
    return lines


def _table(published: Published, number: int) -> dict[str, Any]:
    found = next((one for one in published.versions() if one.number == number), None)
    if found is None:
        raise NotFound(
            f"{published.name} has no version {number}; there are {', '.join(map(str, published.numbers()))}"
        )
    record = found.record
    if record is None:
        return {"created": "bundled"}
    table: dict[str, Any] = {
        "created": record.created[:19],
        "parent": record.parent,
        "round": record.round,
        "trusted": record.trusted,
    }
    table |= {f"figure {name}": _figure(value) for name, value in record.figures.items()}
    table |= {f"figure {name}, parent": _figure(value) for name, value in record.before.items()}
    table |= {f"held out {case}": version for case, version in record.held_out.items()}
    table |= {f"learnt {case}": version for case, version in record.labels.items()}
    return table | dict(_flat(record.settings, "setting "))


def _flat(table: Mapping[str, Any], above: str) -> list[tuple[str, Any]]:
    """Nested settings with dotted names."""
    found = []
    for key, value in table.items():
        found += _flat(value, f"{above}{key}.") if isinstance(value, dict) else [(f"{above}{key}", value)]
    return found


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _store(folder: Path) -> Path:
    if not folder.is_dir():
        raise NotFound(f"no folder {folder}: give the server's store, or its studies folder")
    return folder / ".slem" if (folder / ".slem").is_dir() else folder


def _single(every: list[Published], folder: Path) -> Published:
    if len(every) > 1:
        raise BadSetting(
            f"several models were trained in {folder}: choose one with --model: "
            f"{', '.join(one.name for one in every)}"
        )
    return every[0]
