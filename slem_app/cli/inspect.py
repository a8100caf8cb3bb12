"""`slem inspect`: what the package sees in a folder, before anything is segmented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from slem_app.errors import SlemError

if TYPE_CHECKING:
    from slem_app.grouping import Grouping, Rules
    from slem_app.grouping.grouped import Leftover, SequenceChoice
    from slem_app.studies import Series, Study, StudySource
    from slem_app.volumes.looks import Looks

__all__ = ["Inspect"]

COLUMNS = (28, 9, 30, 42)  # case, sequence, series, grid; the reason takes what is left


@dataclass(frozen=True)
class Inspect:
    """Show every case of a folder: its sequences, their grids, and the reason for each series.

    Reads headers only, one case after the other, unless `looks` is given. Ends with 1 if no case can be
    segmented.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """A folder of cases in any layout, or one case."""
    coding: str | None = None
    """Label coding, e.g. brats2023. Default: the one in the folder's slem.yaml; otherwise it is determined
    from the values later.
    """
    rules: Path | None = None
    """Your own rules file; start it with `base: default` to add to the package's rules. Default: the one in
    the folder's slem.yaml.
    """
    limit: int = 0
    """Show only this many cases; 0: all."""
    looks: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read the images, too, and tell which sequence each looks like, with a probability. Series that names
    and headers leave open are named by it, as `slem predict` does. A second or two for each series.
    """
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one line of JSON for each case instead of the table."""

    def run(self) -> int:
        """Print the table; 0 if at least one case can be used."""
        from slem_app.grouping import load_rules
        from slem_app.studies import open_source

        rules = load_rules(self.rules) if self.rules else None
        source = open_source(self.path, self.coding)
        ids = source.ids()
        if self.json:
            found = [case_table(id, source, rules, self.looks) for id in ids[: self.limit or None]]
            for one in found:
                print(dumps(one))
            return 0 if any(one["sequences"] for one in found) else 1
        print(
            f"{source.root}: {len(ids)} case{'s' * (len(ids) != 1)}, layout {source.layout}, label coding "
            f"{source.coding or 'not declared'}"
        )
        print(row("CASE", "SEQUENCE", "SERIES", "GRID", "WHY"))
        tally: Counter[str] = Counter()
        for id in ids[: self.limit or None]:
            for line in case_rows(id, source, rules, tally, self.looks):
                print(line, flush=True)
        print(summary(tally))
        return 0 if tally["usable"] else 1


def opened(
    id: str, source: StudySource, rules: Rules | None, looks: bool
) -> tuple[Grouping, dict[str, Looks]]:
    """A case's series, named, and by series id what each looks like, where that is asked for.

    Raises:
        SlemError: the case cannot be read.
    """
    from slem_app.grouping import group

    grouping = group(source.study(id), rules)
    if not looks:
        return grouping, {}
    from slem_app.volumes.looks import look_at_series, settle

    used: list[SequenceChoice | Leftover] = [
        *grouping.choices,
        *(one for one in grouping.leftovers if one.kind != "derived"),
    ]
    seen = {one.series.id: look_at_series(one.series) for one in used if one.series.paths}
    return settle(grouping, seen=lambda series: seen[series.id]), seen


def case_table(id: str, source: StudySource, rules: Rules | None, looks: bool = False) -> dict[str, Any]:
    """What is seen of one case, for programs."""
    try:
        grouping, seen = opened(id, source, rules, looks)
    except SlemError as error:
        return {"case": id, "error": str(error), "sequences": {}, "unused": [], "labels": []}
    studies = (grouping.study, *grouping.study.parts)
    return {
        "case": id,
        "error": None,
        "sequences": {
            one.sequence: {"series": one.series.id, "grid": grid_of(one.series), "why": one.reason}
            | ({"looks": dict(seen[one.series.id].shares)} if one.series.id in seen else {})
            for one in grouping.choices
        },
        "unused": [
            {"series": one.series.id, "kind": one.kind, "why": one.reason}
            | ({"looks": dict(seen[one.series.id].shares)} if one.series.id in seen else {})
            for one in grouping.leftovers
        ],
        "labels": [
            {"series": one.label.id, "grid": grid_of(one.label), "coding": one.coding}
            for one in studies
            if one.label is not None
        ],
    }


def case_rows(
    id: str, source: StudySource, rules: Rules | None, tally: Counter[str], looks: bool = False
) -> Iterator[str]:
    """The lines of one case; what was found is counted in `tally`."""
    tally["cases"] += 1
    try:
        grouping, seen = opened(id, source, rules, looks)
    except SlemError as error:
        tally["unreadable"] += 1
        yield row(id, "error", "", "", str(error))
        return
    tally["usable"] += bool(grouping.choices)
    tally["labelled"] += any(one.label is not None for one in (grouping.study, *grouping.study.parts))
    tally[f"with {' '.join(grouping.sequences) or 'no known sequence'}"] += 1
    first, damaged = id, False
    for line in rows(grouping, seen):
        damaged = damaged or line[2].startswith("BAD")
        yield row(first, *line)
        first = ""
    tally["damaged"] += damaged


def rows(grouping: Grouping, seen: Mapping[str, Looks] | None = None) -> Iterator[tuple[str, str, str, str]]:
    """(sequence or kind, series, grid, reason) of every series of a case; at least one row.

    Args:
        grouping: the case.
        seen: series id -> what it looks like.
    """
    study: Study = grouping.study

    def why(one: SequenceChoice | Leftover) -> str:
        looks = (seen or {}).get(one.series.id)
        told = looks is None or "it looks like" in one.reason
        return one.reason if told else f"{one.reason}; it looks like {looks}"

    for choice in grouping.choices:
        yield choice.sequence, choice.series.id, grid_of(choice.series), why(choice)
    for leftover in grouping.leftovers:
        yield f"({leftover.kind})", leftover.series.id, "", why(leftover)
    for one in (study, *study.parts):
        if one.label is not None:
            yield (
                "label",
                one.label.id,
                grid_of(one.label),
                f"layout {one.layout}, coding {one.coding or 'not declared'}",
            )
    if not grouping.choices:
        yield "none", "", "", "this case cannot be segmented: no series has a known sequence"


def grid_of(series: Series) -> str:
    """The grid as text, or what is wrong with the file."""
    from slem_app.volumes.geometry import check_grid

    try:
        check_grid(series.grid, f"series {series.id}")
        return str(series.grid)
    except SlemError as error:
        return f"BAD: {error}"


def row(*cells: str) -> str:
    """One line of the table; a cell that is too long for its column is cut in the middle, an error is not."""
    fitted = [
        cell if len(cell) <= width or cell.startswith("BAD") else f"{cell[: width - 9]}...{cell[-6:]}"
        for cell, width in zip(cells, COLUMNS)
    ]
    return "  ".join(
        [*(f"{cell:<{width}}" for cell, width in zip(fitted, COLUMNS)), *cells[len(COLUMNS) :]]
    ).rstrip()


def summary(tally: Counter[str]) -> str:
    """The last line."""
    kinds = ", ".join(
        f"{n} {what}"
        for what, n in sorted(tally.items(), key=lambda pair: -pair[1])
        if what.startswith("with ")
    )
    broken = f", {tally['unreadable']} unreadable" if tally["unreadable"] else ""
    broken += f", {tally['damaged']} with a file that cannot be used" if tally["damaged"] else ""
    return f"{tally['cases']} shown: {kinds}{broken}; {tally['labelled']} with a label"
