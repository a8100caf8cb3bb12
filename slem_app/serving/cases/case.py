"""What an id that a client sends stands for: a case, and one of its images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from slem_app.grouping import Grouping
from slem_app.result_warning import ResultWarning
from slem_app.serving.cases.dicom_view import DicomView
from slem_app.studies import Series
from slem_app.types import Grid

__all__ = ["Case"]


@dataclass(frozen=True, eq=False)
class Case:
    """What an id stands for."""

    id: str
    """Case id, without a sequence."""
    grouping: Grouping
    """Its series, named."""
    sequence: str
    """The sequence that was asked for, or the reference."""
    warnings: tuple[ResultWarning, ...] = ()
    """What a reader should know, e.g. that a sequence was assumed."""
    onto: Series | None = None
    """A series that is none of the sequences, such as an ADC map, where the result is wanted on its grid."""
    lasting: bool = True
    """False: an upload that is not kept, of a session or of one request."""
    view: DicomView = field(default_factory=lambda: DicomView("", ""))
    """How DICOM viewers know it."""
    by_uid: bool = False
    """A DICOM viewer has asked for it."""

    @property
    def displayed(self) -> Grid:
        """Grid of the image as the client has it: a DICOM viewer has the slices that it was shown, anybody
        else the image itself.
        """
        shown = self.view.of(self.series) if self.by_uid else None
        return shown.layout.grid if shown else self.series.grid

    @property
    def series(self) -> Series:
        """The image that was asked for: its grid is the result's."""
        return self.onto or self.grouping.sequences[self.sequence]

    @property
    def image(self) -> str:
        """What tells this image from the case's others: its sequence, or its series' id."""
        return self.onto.id if self.onto else self.sequence

    @cached_property
    def state(self) -> tuple:
        """Changes when a file of one of its sequences changes."""
        own = (("", self.onto.state),) if self.onto else ()
        return (*own, *self.grouping_state)

    @cached_property
    def grouping_state(self) -> tuple:
        """The same, whichever image was asked for; another choice by hand is another state, too."""
        by_hand = tuple(sorted(self.grouping.by_hand.items()))
        files = tuple((name, series.state) for name, series in sorted(self.grouping.sequences.items()))
        return (*files, *((by_hand,) if by_hand else ()))
