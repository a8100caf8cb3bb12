"""What a person has decided of a study's series: wins over every rule, as far as it can be followed."""

from __future__ import annotations

from collections.abc import Mapping

from slem_app.errors import BadSetting, NotFound
from slem_app.grouping.grouped import SequenceChoice
from slem_app.grouping.rules import Rules
from slem_app.result_warning import ResultWarning
from slem_app.studies import Series, Study

__all__ = ["followed", "picked"]

GONE = "chosen-series-gone"


def followed(study: Study, rules: Rules) -> tuple[dict[str, str], tuple[ResultWarning, ...]]:
    """The choices that are kept with a study (`Study.by_hand`) and can be followed, and a warning for each
    that cannot: its series is no longer there, or its sequence is not known any more.
    """
    kept, warnings = {}, []
    for sequence, id in study.by_hand.items():
        if sequence in rules.order and (not id or study.find(id) is not None):
            kept[sequence] = id
            continue
        what = f"series {id!r}" if sequence in rules.order else f"the sequence {sequence}"
        text = (
            f"{sequence} was chosen by hand to be series {id!r}, and {what} is no longer there: the rules "
            f"have decided; look at the choice of series again"
        )
        warnings.append(ResultWarning(GONE, text))
    return kept, tuple(warnings)


def picked(study: Study, rules: Rules, wanted: Mapping[str, str]) -> list[SequenceChoice]:
    """The series that a person has chosen.

    Args:
        study: the case.
        rules: which sequences there are.
        wanted: sequence -> series id, description or number; empty: no series is that sequence.

    Raises:
        BadSetting: an unknown sequence, or one series that is to be two.
        NotFound: a series that the study does not have.
    """
    choices: dict[str, SequenceChoice] = {}
    for sequence, text in wanted.items():
        if sequence not in rules.order:
            raise BadSetting(
                f"unknown sequence {sequence!r} chosen for series {text!r}: known are "
                f"{', '.join(rules.order)}"
            )
        if not text:
            continue
        series = _named(study, sequence, text)
        if series.id in choices:
            raise BadSetting(
                f"series {series.id!r} of case {study.id!r} is chosen for both {choices[series.id].sequence} "
                f"and {sequence}: an image is one sequence; choose another series for one of the two, or none"
            )
        choices[series.id] = SequenceChoice(sequence, series, "chosen by hand", by_hand=True)
    return list(choices.values())


def _named(study: Study, sequence: str, text: str) -> Series:
    """The series that a person means: by its id, else by its description, else by its number.

    Raises:
        NotFound: none, or several of that description or number.
    """
    if series := study.find(text):
        return series
    same = [one for one in study.series if one.name.casefold() == text.casefold()]
    if not same and text.isdigit():
        same = [one for one in study.series if str(one.header.get("SeriesNumber", "")) == text]
    if len(same) == 1:
        return same[0]
    if same:
        raise NotFound(
            f"case {study.id!r} has {len(same)} series {text!r} for {sequence}: choose one by its id: "
            f"{', '.join(one.id for one in same)}"
        )
    raise NotFound(
        f"case {study.id!r} has no series {text!r} for {sequence}: it has "
        f"{', '.join(one.id for one in study.series)}"
    )
