"""What changed between a patient's visits, as a page of PDF (A4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from slem_app.report.followup import FollowUp
from slem_app.report.sheet import Sheet, write_page

__all__ = ["followup_pdf", "write_followup_pdf"]

CHANGES = {
    "": 0.25,
    "Before [ml]": 0.13,
    "Now [ml]": 0.13,
    "Change": 0.11,
    "Before [mm2]": 0.13,
    "Now [mm2]": 0.13,
    "Change ": 0.12,
}
KINDS = {
    "same": "followed",
    "new": "NEW",
    "gone": "gone",
    "merged": "merged",
    "split": "split",
    "regrouped": "merged and split",
}


def write_followup_pdf(contents: FollowUp, path: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        StorageFailed: the disk refused.
    """
    return write_page(followup_pdf(contents), path)


def followup_pdf(contents: FollowUp) -> bytes:
    """The page as PDF. A sign that its font lacks is shown as '?'."""
    page = _Page(contents)
    page.add_page()
    page.visits()
    page.response()
    page.pictures_of(contents.pictures, 85)
    page.totals()
    page.lesions()
    page.remarks(contents.remarks)
    page.alarms(contents.doubts)
    return bytes(page.output())


class _Page(Sheet):
    def __init__(self, contents: FollowUp) -> None:
        status = (
            "DRAFT: not all labels are confirmed" if contents.draft else "All labels confirmed by readers"
        )
        super().__init__("Follow-up", contents.case, status, contents.draft)
        self.contents = contents

    def visits(self) -> None:
        told = []
        for number, one in enumerate(self.contents.visits, 1):
            by = one.label.version.record.who
            state = f"confirmed by {by}" if one.confirmed else f"draft by {by}"
            told.append(f"Visit {number}: {one.visit.when or 'no date'}, case {one.visit.case}, {state}")
        self.lines(told)
        self.ln(2)

    def response(self) -> None:
        found = self.contents.response
        if found is None:
            return
        self.title_of(
            f"RANO 2.0 on images alone: {found.category.name}, {found.category.value} "
            f"(by volume: {found.by_volume.name})"
        )
        self.lines(found.reasons)
        self.ln(2)

    def totals(self) -> None:
        first, last = (self.contents.visits[n].visit for n in (0, -1))
        if len(self.contents.visits) < 2:
            return
        self.title_of(f"In sum, {first.when or first.case} and {last.when or last.case}")
        self.head(CHANGES)
        for row in self.contents.totals():
            self.change(str(row["name"]), row["volumes_ml"], row["sums_of_products_mm2"], row)
        self.ln(2)

    def lesions(self) -> None:
        if not self.contents.changes:
            return
        self.title_of(f"Lesions of {self.contents.followed} since the visit before")
        self.head(CHANGES)
        for number, one in enumerate(self.contents.changes, 1):
            self.change(f"{number}: {KINDS[one.pair.kind]}", one.volumes_ml, one.products, one.table())
        self.ln(2)

    def change(
        self, name: str, volumes: Sequence[float], products: Sequence[float], change: Mapping[str, object]
    ) -> None:
        cells = (
            name,
            f"{volumes[0]:.2f}",
            f"{volumes[-1]:.2f}",
            _signed(change["volume_change_percent"]),
            f"{products[0]:.0f}",
            f"{products[-1]:.0f}",
            _signed(change["product_change_percent"]),
        )
        self.row(cells, CHANGES)


def _signed(change: object) -> str:
    return f"{change:+.0f} %" if isinstance(change, (int, float)) else "-"
