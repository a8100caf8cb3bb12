"""What `slem predict` tells of one case, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slem_app.predict import Prediction

__all__ = ["report", "table"]


def report(case: str, result: Prediction, path: Path) -> str:
    """What is printed for one case."""
    steps = result.timings
    volumes = result.volumes_ml()
    width = max(map(len, volumes))
    lines = [
        f"{case}: {path}",
        f"  grid       {result.grid}",
        f"  sequences  {' '.join(result.used)}"
        + (f"; missing: {' '.join(result.missing)}" if result.missing else ""),
        *(f"  {name:<{width}} {ml:9.2f} ml" for name, ml in volumes.items()),
        (
            f"  time       {sum(steps.values()):.2f} s "
            f"({', '.join(f'{step} {s:.2f}' for step, s in steps.items())})"
        ),
        *(f"  note       {note}" for note in result.notes),
        *(f"  WARNING    {one.text}" for one in result.warnings),
    ]
    return "\n".join(lines)


def table(
    case: str, result: Prediction, path: Path, picture: Path | None, before: Path | None
) -> dict[str, object]:
    """The same for programs."""
    return {
        "case": case,
        "file": str(path),
        "preview": None if picture is None else str(picture),
        "kept": None if before is None else str(before),
        "shape": list(result.grid.shape),
        "spacing_mm": [round(float(one), 4) for one in result.grid.spacing],
        "used": list(result.used),
        "missing": list(result.missing),
        "volumes_ml": {name: round(ml, 3) for name, ml in result.volumes_ml().items()},
        "notes": list(result.notes),
        "warnings": [one.table() for one in result.warnings],
        "seconds": {step: round(spent, 3) for step, spent in result.timings.items()},
    }
