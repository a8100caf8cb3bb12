"""What became of each case of a folder: a table for programs and a page for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from slem_app.store.export.layouts import write_text

__all__ = ["COLUMNS", "write_report"]

COLUMNS = (
    *("case", "state", "reason", "reference", "sequences", "moved_mm", "left_out", "grid", "brain"),
    *("mask_ml", "outside_ml", "defaced", "warnings", "seconds"),
)
STYLE = (
    "body{font:15px sans-serif;margin:1.5em;max-width:60em}article{border-top:1px solid #999;padding:.7em 0}"
    "img{max-width:100%;background:#000}.bad{color:#b00}dt{font-weight:bold}dl{display:grid;"
    "grid-template-columns:max-content 1fr;gap:.1em .8em}dd{margin:0}"
)


def write_report(out: Path, records: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]) -> None:
    """Write `report.csv` and `report.html`.

    Args:
        out: where.
        records: of the cases that are done.
        failed: case -> why it was left out.

    Raises:
        StorageFailed: the disk refused.
    """
    rows = [_row(records[id]) for id in sorted(records)]
    rows += [{"case": id, "state": "left out", "reason": failed[id]} for id in sorted(failed)]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(out / "report.csv", text.getvalue())
    write_text(out / "report.html", _page(rows, records))


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    done = record["preparation"]
    mask = done["brain_mask"]
    return {
        "case": record["case"],
        "state": "done",
        "reference": record["reference"],
        "sequences": " ".join(record["series"]),
        "moved_mm": " ".join(f"{name}:{mm}" for name, mm in done["moved_mm"].items()),
        "left_out": "; ".join(f"{name}: {why}" for name, why in done["left_out"].items()),
        "grid": record["grid"],
        "brain": mask["method"] if mask else "stripped before",
        "mask_ml": record["mask_ml"],
        "outside_ml": record["outside_ml"],
        "defaced": record["defaced"],
        "warnings": "; ".join(one["text"] for one in record["warnings"]),
        "seconds": record["seconds"],
    }


def _page(rows: list[dict[str, Any]], records: Mapping[str, Mapping[str, Any]]) -> str:
    """The page; pictures lie beside it."""
    bad = sum(row["state"] != "done" for row in rows)
    head = f"{len(rows) - bad} cases prepared, {bad} left out"
    parts = [
        _article(row, records.get(row["case"])) for row in sorted(rows, key=lambda r: r["state"] == "done")
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{head}</title><style>{STYLE}</style>'
        f"<h1>{head}</h1><p>The mask is outlined in red: look whether it holds all of the brain and nothing "
        f"else, and whether the sequences lie on each other.</p>{''.join(parts)}</html>\n"
    )


def _article(row: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    """One case."""
    shown = {
        name.replace("_", " "): row[name] for name in COLUMNS[2:] if row.get(name) not in (None, "", False)
    }
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd{_class(name)}>{escape(str(value))}</dd>" for name, value in shown.items()
    )
    picture = next((file for file in record["files"] if file.endswith(".png")), "") if record else ""
    image = (
        f'<img src="{escape(picture)}" alt="slices of {escape(row["case"])}" loading="lazy">'
        if picture
        else ""
    )
    return f"<article><h2>{escape(row['case'])}</h2><dl>{lines}</dl>{image}</article>"


def _class(name: str) -> str:
    return ' class="bad"' if name in ("reason", "warnings", "left out") else ""
