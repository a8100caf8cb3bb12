"""A report as one page of PDF (A4)."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from slem_app.files import atomic_file
from slem_app.measure import Structure
from slem_app.report.contents import Contents
from slem_app.report.sheet import FONT, MARGIN, RED, WIDTH, Sheet, latin

__all__ = ["pdf", "write_pdf"]

COLUMNS = {
    "": 0.22,
    "Volume [ml]": 0.12,
    "Largest diameter [mm]": 0.19,
    "Lesions": 0.09,
    "Long x short [mm]": 0.18,
    "Sum of products [mm2]": 0.2,
}


def write_pdf(contents: Contents, path: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        StorageFailed: the disk refused.
    """
    data = pdf(contents)
    with atomic_file(path) as file:
        file.write(data)
    return path


def pdf(contents: Contents) -> bytes:
    """The page as PDF. A sign that its font lacks is shown as '?'."""
    page = _Page(contents)
    page.add_page()
    page.facts()
    page.pictures()
    page.numbers()
    page.warnings()
    return bytes(page.output())


class _Page(Sheet):
    """Each page says at its top whether it is a draft, and at its bottom what it may be used for."""

    def __init__(self, contents: Contents) -> None:
        super().__init__("Segmentation report", contents.case, contents.status, contents.draft)
        self.contents = contents

    def facts(self) -> None:
        self.set_font(FONT, "", 9)
        rows = {"Case": self.contents.case, **self.contents.facts}
        if self.contents.made_by:
            rows["Segmented by"] = self.contents.made_by
        for name, value in rows.items():
            self.set_font(FONT, "B", 9)
            self.cell(32, 4.5, latin(name))
            self.set_font(FONT, "", 9)
            self.line_of(value, width=WIDTH - 32, height=4.5)
        self.ln(2)

    def pictures(self) -> None:
        """At most four, two beside each other, in the shape of the slice."""
        shown = list(self.contents.pictures.items())[:4]
        if not shown:
            return
        height, width = shown[0][1].shape[:2]
        wide = min((WIDTH - 4) / 2, 90 * width / height)
        tall = wide * height / width
        top = self.get_y()
        for number, (title, picture) in enumerate(shown):
            x = MARGIN + (number % 2) * (wide + 4)
            y = top + (number // 2) * (tall + 6)
            self.set_xy(x, y)
            self.set_font(FONT, "", 8)
            self.cell(wide, 4, latin(title))
            self.image(Image.fromarray(picture), x=x, y=y + 4, w=wide, h=tall)
        self.set_xy(MARGIN, top + (len(shown) + 1) // 2 * (tall + 6) + 2)

    def numbers(self) -> None:
        self.set_font(FONT, "B", 8)
        for title, share in COLUMNS.items():
            self.cell(share * WIDTH, 5, title, border="B", align="L" if not title else "R")
        self.ln(6)
        self.set_font(FONT, "", 9)
        for one in self.contents.found.structures:
            self.row(one)
        for name in self.contents.found.not_assessable:
            self.colour_of(name)
            self.line_of(f"{name}: not assessable with the sequences of this study")
        self.ln(2)

    def row(self, one: Structure) -> None:
        pair = one.diameters
        self.colour_of(one.name)
        cells = (
            one.name,
            f"{one.volume_ml:.2f}",
            f"{one.diameter:.1f}",
            str(len(one.lesions)),
            f"{pair.long:.1f} x {pair.short:.1f}" if pair else "-",
            f"{one.product:.0f}" if one.product else "-",
        )
        for text, share, align in zip(cells, COLUMNS.values(), "LRRRRR", strict=True):
            indent = 4 if align == "L" else 0
            self.cell(share * WIDTH - indent, 5, latin(text), align=align)
        self.ln(5)

    def colour_of(self, name: str) -> None:
        """A square in the label's colour, where it is one."""
        colours = {label.name: label.color for label in self.contents.labels.labels}
        if name in colours:
            self.set_fill_color(*colours[name])
            self.rect(self.get_x(), self.get_y() + 1.2, 2.6, 2.6, style="F")
        self.set_x(self.get_x() + 4)

    def warnings(self) -> None:
        self.set_font(FONT, "", 8)
        self.line_of(
            "Diameters are measured in the plane of acquisition, outer edge to outer edge; the white cross "
            "is the larger lesion's. Products count lesions of 10 mm and more in both diameters (RANO 2.0).",
            height=4,
        )
        for text in self.contents.notes:
            self.line_of(text, height=4)
        for text in self.contents.doubts:
            self.line_of(text, height=4)
        self.set_text_color(*RED)
        for one in self.contents.warnings:
            self.line_of(f"! {one.text}", height=4)
        self.set_text_color(0)
