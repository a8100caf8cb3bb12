"""What every page of a report has: what it is and whether it is a draft at its top, its use at its bottom."""

from __future__ import annotations

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from slem_app import __version__
from slem_app.report.contents import RESEARCH

__all__ = ["FONT", "MARGIN", "RED", "WIDTH", "Sheet", "latin"]

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


def latin(text: str) -> str:
    """The text in the signs that the font has, others as '?'."""
    return text.encode("latin-1", "replace").decode("latin-1")
