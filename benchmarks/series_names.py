"""How many of the series descriptions of a public archive the rules name rightly, by the name alone.

    python benchmarks/series_names.py [--list]

Reads `series_names.tsv` of SLEM_DATA: label, description, how often.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections import Counter
from pathlib import Path

from slem_app.grouping import group
from slem_app.studies import Series, Study

SEQUENCES = {"T1": "t1n", "T1C": "t1c", "T2": "t2w", "FLAIR": "t2f"}
"""What the table calls them -> what the rules do."""
VERDICTS = ("right", "not named", "wrong")


def named(description: str) -> str:
    """The sequence that the rules take a description for; empty: none."""
    series = Series.described("1", description, {})
    return next(iter(group(Study("case", "nifti", Path(), (series,))).sequences), "")


def main() -> None:
    """Print the table; with --list also every name that is wrong or not named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="list what is not right")
    listed = parser.parse_args().list
    data = Path(os.environ.get("SLEM_DATA", Path(__file__).parents[2] / "shared/data"))
    counts: dict[str, Counter[str]] = {sequence: Counter() for sequence in SEQUENCES.values()}
    with (data / "series_names.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            true, found = SEQUENCES[row["label"]], named(row["series_description"])
            verdict = "right" if found == true else "wrong" if found else "not named"
            counts[true][verdict] += int(row["count"])
            if listed and verdict != "right":
                print(verdict, true, found or "-", repr(row["series_description"]), row["count"], sep="\t")
    print("| | series | right | not named | wrong |\n|---|---|---|---|---|")
    for sequence, one in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        total = one.total()
        cells = " | ".join(f"{one[word]} ({one[word] / total:.1%})" for word in VERDICTS)
        print(f"| {sequence} | {total} | {cells} |")


if __name__ == "__main__":
    main()
