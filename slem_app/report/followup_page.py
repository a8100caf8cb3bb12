"""What changed between a patient's visits, as a page of PDF (A4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from slem_app.files import atomic_file
from slem_app.report.followup import FollowUp
from slem_app.report.sheet import FONT, MARGIN, RED, WIDTH, Sheet, latin

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
    data = followup_pdf(contents)
    with atomic_file(path) as file:
        file.write(data)
    return path


def followup_pdf(contents: FollowUp) -> bytes:
    """The page as PDF. A sign that its font lacks is shown as '?'."""
    page = _Page(contents)
    page.add_page()
    page.visits()
    page.response()
    page.pictures()
    page.totals()
    page.lesions()
    page.remarks()
    return bytes(page.output())


class _Page(Sheet):
    def __init__(self, contents: FollowUp) -> None:
        status = (
            "DRAFT: not all labels are confirmed" if contents.draft else "All labels confirmed by readers"
        )
        super().__init__("Follow-up", contents.case, status, contents.draft)
        self.contents = contents

    def title_of(self, text: str) -> None:
        self.set_font(FONT, "B", 10)
        self.line_of(text)

    def visits(self) -> None:
        self.set_font(FONT, "", 9)
        for number, one in enumerate(self.contents.visits, 1):
            by = one.label.version.record.who
            state = f"confirmed by {by}" if one.confirmed else f"draft by {by}"
            self.line_of(
                f"Visit {number}: {one.visit.when or 'no date'}, case {one.visit.case}, {state}", height=4.5
            )
        self.ln(2)

    def response(self) -> None:
        found = self.contents.response
        if found is None:
            return
        self.title_of(
            f"RANO 2.0 on images alone: {found.category.name}, {found.category.value} "
            f"(by volume: {found.by_volume.name})"
        )
        self.set_font(FONT, "", 9)
        for text in found.reasons:
            self.line_of(text, height=4.5)
        self.ln(2)

    def pictures(self) -> None:
        """The same slice at both visits, beside each other."""
        shown = list(self.contents.pictures.items())
        wide, top, tallest = (WIDTH - 4) / 2, self.get_y(), 0.0
        for number, (title, picture) in enumerate(shown):
            width = min(wide, 85 * picture.shape[1] / picture.shape[0])
            x, tall = MARGIN + number * (wide + 4), width * picture.shape[0] / picture.shape[1]
            self.set_xy(x, top)
            self.set_font(FONT, "", 8)
            self.cell(wide, 4, latin(title))
            self.image(Image.fromarray(picture), x=x, y=top + 4, w=width)
            tallest = max(tallest, tall + 6)
        self.set_xy(MARGIN, top + tallest)

    def totals(self) -> None:
        first, last = (self.contents.visits[n].visit for n in (0, -1))
        if len(self.contents.visits) < 2:
            return
        self.title_of(f"In sum, {first.when or first.case} and {last.when or last.case}")
        self.head()
        for row in self.contents.totals():
            self.row(str(row["name"]), row["volumes_ml"], row["sums_of_products_mm2"], row)
        self.ln(2)

    def lesions(self) -> None:
        if not self.contents.changes:
            return
        self.title_of(f"Lesions of {self.contents.followed} since the visit before")
        self.head()
        for number, one in enumerate(self.contents.changes, 1):
            table = one.table()
            name = f"{number}: {KINDS[one.pair.kind]}"
            self.row(name, one.volumes_ml, one.products, table)
        self.ln(2)

    def head(self) -> None:
        self.set_font(FONT, "B", 8)
        for title, share in CHANGES.items():
            self.cell(share * WIDTH, 5, title, border="B", align="L" if not title else "R")
        self.ln(6)
        self.set_font(FONT, "", 9)

    def row(
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
        for text, share, align in zip(cells, CHANGES.values(), "LRRRRRR", strict=True):
            self.cell(share * WIDTH, 5, latin(text), align=align)
        self.ln(5)

    def remarks(self) -> None:
        self.set_font(FONT, "", 8)
        move = self.contents.move
        if move is not None and not move.doubt:
            self.line_of(
                f"The visit before was moved by {move.distance:.1f} mm on average, by its {move.sequence}; "
                f"the brains overlap by {move.agreement:.2f}. Volumes and diameters are of each visit's "
                "own label. Products in the sums count lesions of 10 mm and more in both diameters; those of "
                "single lesions are told whatever their size.",
                height=4,
            )
        for text in self.contents.response.limits if self.contents.response else ():
            self.line_of(text, height=4)
        self.set_text_color(*RED)
        for text in self.contents.doubts:
            self.line_of(f"! {text}", height=4)
        self.set_text_color(0)


def _signed(change: object) -> str:
    return f"{change:+.0f} %" if isinstance(change, (int, float)) else "-"
