"""What grouping finds: which series of a study is which sequence, and why; which are not used, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slem_app.errors import BadStudy, NotFound
from slem_app.grouping.facts import shortened
from slem_app.result_warning import ResultWarning
from slem_app.studies import Series, Study

__all__ = ["Grouping", "Leftover", "SequenceChoice"]


@dataclass(frozen=True)
class SequenceChoice:
    """A series that is used."""

    sequence: str
    """E.g. 't1c'."""
    series: Series
    """The series."""
    reason: str
    """Why it is that sequence, and why it rather than another."""
    by_hand: bool = False
    """A person chose it, whatever the rules say."""


@dataclass(frozen=True)
class Leftover:
    """A series that is not used."""

    series: Series
    """The series."""
    kind: str
    """'derived' (no sequence of a model), 'unknown', 'tie' (undecided), 'duplicate' (another one is
    preferred) or 'by hand' (a person chose that no series is the sequence that it would be).
    """
    reason: str
    """Why."""


@dataclass(frozen=True)
class Grouping:
    """A study whose series are named."""

    study: Study
    """The study."""
    choices: tuple[SequenceChoice, ...]
    """One a sequence, in the order of the rules."""
    leftovers: tuple[Leftover, ...]
    """All other series."""
    preferred: tuple[str, ...] = ()
    """Sequences in the order in which one stands for the case."""
    by_hand: Mapping[str, str] = field(default_factory=dict)
    """What a person has chosen of the study, see `Study.by_hand`."""
    warnings: tuple[ResultWarning, ...] = ()
    """Choices by hand that cannot be followed any more."""

    @property
    def sequences(self) -> dict[str, Series]:
        """Sequence -> series."""
        return {choice.sequence: choice.series for choice in self.choices}

    def reference(self, order: Sequence[str] = ()) -> str:
        """The first sequence of `order` that is there, else of the rules' `reference`, else any that is.

        Raises:
            BadStudy: no series has a known sequence.
        """
        there = self.sequences
        for name in (*order, *self.preferred, *there):
            if name in there:
                return name
        seen = (
            "; ".join(f"{shortened(one.series.name)}: {one.reason}" for one in self.leftovers[:8])
            or "it has no images"
        )
        raise BadStudy(
            f"case {self.study.id!r} has no known sequence ({seen}). Choose by hand which series is "
            f"which, or add its words to the rules"
        )

    def resolve(self, id: str) -> str:
        """The sequence that a series id, or the name of a sequence, means here.

        Raises:
            NotFound: neither.
        """
        if id in self.sequences:  # first: a series may be called like a sequence that another one is
            return id
        if used := self.used_as(id):
            return used
        for one in self.leftovers:
            if id == one.series.id:
                raise NotFound(f"series {id!r} of case {self.study.id!r} is not used: {one.reason}")
        raise NotFound(
            f"case {self.study.id!r} has no sequence {id!r}: it has {', '.join(self.sequences) or 'none'}"
        )

    def used_as(self, series: str) -> str:
        """The sequence that a series is used as, by its id; empty where it is not used."""
        return next((one.sequence for one in self.choices if one.series.id == series), "")

    def image(self, id: str) -> tuple[str, Series | None]:
        """What an id names: a sequence, or, where it is the id of a series that is not used, that series."""
        if id in self.sequences:
            return id, None
        return "", next((one.series for one in self.leftovers if one.series.id == id), None)
