"""A report as one page of PDF (A4)."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from slem_app.measure import Structure
from slem_app.report.contents import Contents
from slem_app.report.sheet import Sheet, write_page

__all__ = ["pdf", "write_pdf"]

MEASURED = (
    "Diameters are measured in the plane of acquisition, outer edge to outer edge; the white cross is the "
    "larger lesion's. Products count lesions of 10 mm and more in both diameters (RANO 2.0). In axial and "
    "coronal pictures the patient's right is on the left."
)
PLACES = 6  # lesions whose place is told
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
    return write_page(pdf(contents), path)


def pdf(contents: Contents) -> bytes:
    """The page as PDF. A sign that its font lacks is shown as '?'."""
    page = _Page(contents)
    page.add_page()
    page.facts()
    shown = dict(islice(contents.pictures.items(), 4))
    page.pictures_of(shown, 90 if len(shown) <= 2 else 60)  # mm, so that all is on one page
    page.numbers()
    page.places()
    page.remarks([MEASURED, *contents.notes, *contents.limits, *contents.doubts])
    page.alarms(one.text for one in contents.warnings)
    return bytes(page.output())


class _Page(Sheet):
    """Each page says at its top whether it is a draft, and at its bottom what it may be used for."""

    def __init__(self, contents: Contents) -> None:
        super().__init__("Segmentation report", contents.case, contents.status, contents.draft)
        self.contents = contents

    def facts(self) -> None:
        rows = {"Case": self.contents.case, **self.contents.facts}
        if self.contents.made_by:
            rows["Segmented by"] = self.contents.made_by
        for name, value in rows.items():
            self.entry(name, value)
        self.ln(2)

    def numbers(self) -> None:
        self.head(COLUMNS)
        for one in self.contents.found.structures:
            self.structure(one)
        for name in self.contents.found.not_assessable:
            self.colour_of(name)
            self.line_of(f"{name}: not assessable with the sequences of this study")
        self.ln(2)

    def structure(self, one: Structure) -> None:
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
        self.row(cells, COLUMNS, indent=4)

    def colour_of(self, name: str) -> None:
        """A square in the label's colour, where it is one."""
        colours = {label.name: label.color for label in self.contents.labels.labels}
        if name in colours:
            self.set_fill_color(*colours[name])
            self.rect(self.get_x(), self.get_y() + 1.2, 2.6, 2.6, style="F")
        self.set_x(self.get_x() + 4)

    def places(self) -> None:
        """Where the lesions lie, the largest first."""
        told = self.contents.places
        if not told:
            return
        self.lines(told[:PLACES])
        if len(told) > PLACES:
            self.lines([f"{len(told) - PLACES} smaller lesions: see the JSON"])
        self.ln(1)
