"""A reader's own choice which series of a case is which sequence, and what there is to choose from."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from slem_app.errors import BadSetting, NotFound, SlemError
from slem_app.grouping import Grouping, load_rules
from slem_app.serving.auth.identity import reader_of, user_of
from slem_app.serving.cases.catalogue import Cases
from slem_app.store.record import NOBODY
from slem_app.store.series_choices import SeriesChoice
from slem_app.studies import Study
from slem_app.volumes.geometry import check_grid

__all__ = ["SequenceSlot", "choose_series", "slots"]

BROWSER = re.compile(r"[0-9a-f]{32}")  # what stands for a browser that nobody has logged in with


@dataclass(frozen=True)
class SequenceSlot:
    """A sequence, and what is it in a case."""

    sequence: str
    """E.g. 't1c'."""
    series: str
    """The id of the series that is used; empty: none is."""
    by_hand: bool
    """A person has chosen it, or that there is none."""


def slots(grouping: Grouping, known: frozenset[str]) -> tuple[SequenceSlot, ...]:
    """The sequences that a person may choose series for, in the order of the rules.

    Args:
        grouping: the case.
        known: sequences that a served model knows; those that the case has are listed, too.
    """
    used = {name: series.id for name, series in grouping.sequences.items()}
    shown = known | set(used) | set(grouping.by_hand)
    order = load_rules(grouping.study.rules).order
    return tuple(
        SequenceSlot(name, used.get(name, ""), name in grouping.by_hand) for name in order if name in shown
    )


def choose_series(cases: Cases, case: str, wanted: Mapping[str, str], client_id: str = "") -> Grouping:
    """Keep which series of a case are which sequences, as the reader of this request says; it counts at once.

    Args:
        cases: of the server.
        case: case id.
        wanted: sequence -> series id; empty id: no series is that sequence. All others the rules decide;
            without any the choice is automatic again.
        client_id: as the client names its reader.

    Returns:
        The case as it is used from now on.

    Raises:
        NotFound: no such case, or no such series in it.
        BadSetting: an unknown sequence, or one series for two.
        BadVolume, BadGrid: a series that is no volume.
        StorageFailed: the disk refused; the choice of before counts.
    """
    before = cases.grouping(case)
    for sequence, id in wanted.items():
        _check(before.study, sequence, id)
    choice = SeriesChoice(dict(wanted), _who(client_id), time.time())
    if dict(wanted) != dict(cases.choices.of(case)):
        cases.choices.choose(case, choice)
    return cases.grouping(case)


def _who(client_id: str) -> str:
    """Whoever sends this request, for people: the user who is logged in, else the reader as the client says,
    else where they are.
    """
    if user := user_of():
        return user
    name, _, place = reader_of(client_id).rpartition("@")
    if name not in NOBODY:
        return name
    return "a browser" if BROWSER.fullmatch(place) else place


def _check(study: Study, sequence: str, id: str) -> None:
    """Whether a series can be a sequence at all."""
    order = load_rules(study.rules).order
    if sequence not in order:
        raise BadSetting(f"unknown sequence {sequence[:100]!r}: known are {', '.join(order)}")
    if not id:
        return
    series = study.find(id)
    if series is None:
        there = ", ".join(one.id for one in study.series)
        raise NotFound(f"case {study.id!r} has no series {id[:200]!r} for {sequence}: it has {there}")
    try:
        check_grid(series.grid, f"series {series.id}")
    except SlemError as error:
        raise type(error)(f"series {series.id!r} cannot be {sequence}: {error}") from error
