"""The form by which a reader chooses which series is which sequence: on a case's page, and in OHIF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slem_app.errors import BadSetting
from slem_app.grouping import Grouping
from slem_app.serving.cases.models_for_case import fitting
from slem_app.serving.cases.series_by_hand import slots
from slem_app.serving.server import Serving
from slem_app.store.series_choices import SeriesChoice

__all__ = ["SeriesField", "SeriesForm", "chosen_series", "series_form", "series_form_of"]

RULES, NONE, ID = "rules", "none", "id:"


@dataclass(frozen=True)
class SeriesField:
    """The list from which a reader chooses the series of one sequence."""

    sequence: str
    """E.g. 't1c'."""
    options: tuple[tuple[str, str], ...]
    """(value, text)."""
    value: str
    """The one that counts now."""
    other: bool
    """No model that fits the case knows the sequence."""


@dataclass(frozen=True)
class SeriesForm:
    """The whole form."""

    fields: tuple[SeriesField, ...]
    """One a sequence."""
    history: tuple[SeriesChoice, ...]
    """What was chosen so far, the newest first."""
    by_hand: bool
    """Something is chosen by hand now."""
    names: Mapping[str, str]
    """Series id -> what a reader calls the series: its description, with the id where several have it."""


def series_form_of(serving: Serving, case: str, grouping: Grouping) -> SeriesForm:
    """The form of a case of a server; arguments as those of `series_form`."""
    cards = serving.cards
    models = [name for name in fitting(grouping, cards) if name in serving.automatic]
    known = frozenset(name for card in cards.values() for name in card.sequences)
    usual = frozenset(name for model in models for name in cards[model].sequences)
    return series_form(grouping, known, usual, serving.cases.choices.history(case))


def series_form(
    grouping: Grouping,
    known: frozenset[str],
    usual: frozenset[str],
    history: tuple[SeriesChoice, ...],
) -> SeriesForm:
    """The form of a case.

    Args:
        grouping: the case.
        known: sequences that a served model knows.
        usual: those that one which fits the case knows; empty: none fits.
        history: of its choices, oldest first.
    """
    names = _names(grouping)
    texts = [(f"{ID}{id}", name) for id, name in names.items()]
    fields = []
    for slot in slots(grouping, known):
        now = "" if slot.by_hand else f": {names.get(slot.series, 'none')}"
        options = ((RULES, f"automatic{now}"), (NONE, "none of them"), *texts)
        by_hand = f"{ID}{slot.series}" if slot.series else NONE
        value = by_hand if slot.by_hand else RULES
        other = bool(usual) and slot.sequence not in usual and not (slot.series or slot.by_hand)
        fields.append(SeriesField(slot.sequence, options, value, other))
    return SeriesForm(tuple(fields), history[::-1], bool(grouping.by_hand), names)


def _names(grouping: Grouping) -> dict[str, str]:
    """Series id -> its name for people."""
    series = grouping.study.series
    counts = Counter(one.name for one in series)
    return {one.id: one.name if counts[one.name] == 1 else f"{one.name} ({one.id})" for one in series}


def chosen_series(sequences: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """Sequence -> series id, empty: none, of those that are not left to the rules.

    Args:
        sequences: of the form, in its order.
        values: what was chosen for each.

    Raises:
        BadSetting: a form that is not ours.
    """
    if len(sequences) != len(values) or len(set(sequences)) != len(sequences):
        raise BadSetting("a choice of series needs one value for each sequence: load the page again")
    chosen = {}
    for sequence, value in zip(sequences, values, strict=True):
        if value == RULES:
            continue
        if value != NONE and not (value.startswith(ID) and value != ID):
            raise BadSetting(f"{value[:100]!r} cannot be chosen for {sequence[:100]}: load the page again")
        chosen[sequence] = "" if value == NONE else value.removeprefix(ID)
    return chosen
