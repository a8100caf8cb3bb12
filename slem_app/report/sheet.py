"""What every page of a report has: what it is and whether it is a draft at its top, its use at its bottom;
and the tables, pictures and remarks that reports are made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from PIL import Image

from slem_app import __version__
from slem_app.files import atomic_file
from slem_app.report.contents import RESEARCH

__all__ = ["FONT", "MARGIN", "WIDTH", "Sheet", "write_page"]

FONT = "helvetica"  # one of the fonts that every reader of PDF has; it holds Latin-1 alone
MARGIN = 12.0  # mm
WIDTH = 210 - 2 * MARGIN
RED = (190, 0, 0)


class Sheet(FPDF):
    """Pages of A4.

    Args:
        title: what the report is.
        case: whose.
        status: who has confirmed it, or that nobody has.
        draft: nobody has.
    """

    def __init__(self, title: str, case: str, status: str, draft: bool) -> None:
        super().__init__(format="A4")
        self.report_title, self.status, self.draft = title, status, draft
        self.set_margins(MARGIN, MARGIN)
        self.set_auto_page_break(True, margin=MARGIN + 6)
        self.set_title(f"SLeM Label: {latin(case)}")
        self.set_creator(f"SLeM Label {__version__}")

    def header(self) -> None:
        """At the top of each page."""
        self.set_font(FONT, "B", 14)
        self.cell(WIDTH / 2, 8, self.report_title)
        self.set_font(FONT, "B", 10)
        self.set_text_color(*(RED if self.draft else (0, 90, 0)))
        self.line_of(self.status, align="R", width=WIDTH / 2)
        self.set_text_color(0)
        self.ln(5)

    def footer(self) -> None:
        """At the bottom of each page."""
        self.set_y(-MARGIN - 2)
        self.set_font(FONT, "", 8)
        self.set_text_color(90)
        self.cell(
            WIDTH, 4, f"{RESEARCH} SLeM Label {__version__}, page {self.page_no()} of {{nb}}", align="C"
        )
        self.set_text_color(0)

    def line_of(self, text: str, align: str = "L", width: float = WIDTH, height: float = 5) -> None:
        """A paragraph."""
        self.multi_cell(width, height, latin(text), align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def title_of(self, text: str) -> None:
        """A heading of what follows."""
        self.set_font(FONT, "B", 10)
        self.line_of(text)

    def entry(self, name: str, value: str) -> None:
        """A line of a list: its name in bold, then its value."""
        self.set_font(FONT, "B", 9)
        self.cell(32, 4.5, latin(name))
        self.set_font(FONT, "", 9)
        self.line_of(value, width=WIDTH - 32, height=4.5)

    def lines(self, texts: Iterable[str]) -> None:
        """Paragraphs of the size of what is reported."""
        self.set_font(FONT, "", 9)
        for text in texts:
            self.line_of(text, height=4.5)

    def remarks(self, texts: Iterable[str]) -> None:
        """Small paragraphs."""
        self.set_font(FONT, "", 8)
        for text in texts:
            self.line_of(text, height=4)

    def alarms(self, texts: Iterable[str]) -> None:
        """Small paragraphs that must be seen."""
        self.set_text_color(*RED)
        self.remarks(f"! {text}" for text in texts)
        self.set_text_color(0)

    def head(self, columns: Mapping[str, float]) -> None:
        """The titles of a table.

        Args:
            columns: title -> share of the page's width; the first is on the left, others on the right.
        """
        self.set_font(FONT, "B", 8)
        for number, (title, share) in enumerate(columns.items()):
            self.cell(share * WIDTH, 5, title, border="B", align="R" if number else "L")
        self.ln(6)
        self.set_font(FONT, "", 9)

    def row(self, cells: Sequence[str], columns: Mapping[str, float], indent: float = 0.0) -> None:
        """One row of a table; the first cell begins `indent` mm further right."""
        for number, (text, share) in enumerate(zip(cells, columns.values(), strict=True)):
            width = share * WIDTH - (0 if number else indent)
            self.cell(width, 5, latin(text), align="R" if number else "L")
        self.ln(5)

    def pictures_of(self, pictures: Mapping[str, np.ndarray], tallest: float) -> None:
        """Pictures under their titles, two beside each other.

        Args:
            pictures: title -> (H, W, 3) uint8.
            tallest: mm that each may be high.
        """
        wide, rows = (WIDTH - 4) / 2, list(pictures.items())
        for number in range(0, len(rows), 2):
            top, lowest = self.get_y(), 0.0
            for column, (title, picture) in enumerate(rows[number : number + 2]):
                height, width = picture.shape[:2]
                shown = min(wide, tallest * width / height)
                x = MARGIN + column * (wide + 4)
                self.set_xy(x, top)
                self.set_font(FONT, "", 8)
                self.cell(wide, 4, latin(title))
                self.image(Image.fromarray(picture), x=x, y=top + 4, w=shown)
                lowest = max(lowest, shown * height / width)
            self.set_xy(MARGIN, top + lowest + 6)


def write_page(data: bytes, path: Path) -> Path:
    """Write a PDF, whole or not at all.

    Raises:
        StorageFailed: the disk refused.
    """
    with atomic_file(path) as file:
        file.write(data)
    return path


def latin(text: str) -> str:
    """The text in the signs that the font has, others as '?'."""
    return text.encode("latin-1", "replace").decode("latin-1")
