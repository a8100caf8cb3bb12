"""Where names and headers leave open which sequence a series is, or fit several series alike, its looks are a
second opinion. A name that tells is never overruled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from math import exp, log

from slem_app.grouping import Grouping, load_rules
from slem_app.grouping.grouped import Leftover, SequenceChoice
from slem_app.result_warning import ResultWarning
from slem_app.studies import Series
from slem_app.volumes.looks.look import NAMES, Looks, look_at_series
from slem_app.volumes.looks.network import CLASSES
from slem_app.volumes.looks.weights import load_looks_network

__all__ = ["BY_LOOKS", "settle"]

BY_LOOKS = "sequence-by-looks"
"""Code of the warning that a series was named by its looks."""
OPEN = ("unknown", "tie")  # kinds of series that names and headers leave open
MOST = 8  # series of a study that are looked at; each takes a second or two
T1 = ("t1n", "t1c")
TINY = 1e-6


class _Known:
    """What series look like, those looked at last, as long as their files are as they were."""

    def __init__(self, most: int = 256) -> None:
        self.most, self.guard = most, threading.Lock()
        self.kept: dict[Hashable, Looks] = {}

    def __call__(self, series: Series) -> Looks:
        key = (series.id, series.paths, series.channel, series.state)
        with self.guard:
            if key in self.kept:
                return self.kept[key]
        looks = look_at_series(series)
        with self.guard:
            self.kept[key] = looks
            while len(self.kept) > self.most:
                del self.kept[next(iter(self.kept))]
        return looks


KNOWN = _Known()


def settle(
    grouping: Grouping, wanted: Collection[str] = CLASSES, seen: Callable[[Series], Looks] = KNOWN
) -> Grouping:
    """Name series that the rules have left open, for sequences that the study lacks.

    Args:
        grouping: as the rules made it.
        wanted: sequences that somebody can use.
        seen: what a series looks like; default: what `look_at_series` says, which is kept.

    Returns:
        The grouping with what could be settled, and a warning for each such series; the same object where
        nothing is open. Series that stay open tell what they look like.

    Raises:
        NotFound, BadCard, BadWeights: a network is not there or cannot be used.
    """
    decided = {*grouping.sequences, *grouping.by_hand}
    lacking = [name for name in CLASSES if name in wanted and name != "other" and name not in decided]
    left = [one for one in grouping.leftovers if one.kind in OPEN and one.series.paths]
    if not lacking or not left or len(left) > MOST:
        return grouping
    least = load_looks_network()[0].settles
    found = {one.series.id: seen(one.series) for one in left}
    named = _pair(found, lacking, least) or {}
    for name in lacking:
        alike = [id for id, looks in found.items() if looks.shares.get(name, 0.0) >= least]
        if name not in named and len(alike) == 1 and alike[0] not in named.values():
            named[name] = alike[0]
    series = {one.series.id: one.series for one in left}
    choices = list(grouping.choices)
    warnings = list(grouping.warnings)
    for name, id in named.items():
        one = series[id]
        choices.append(SequenceChoice(name, one, f"no name or header tells; it looks like {found[id]}"))
        text = (
            f"{name} was chosen by its looks alone ({found[id].shares[name]:.0%}): {one.name or one.id}; see "
            f"whether it is {NAMES[name]}"
        )
        warnings.append(ResultWarning(BY_LOOKS, text))
    order = {name: place for place, name in enumerate(load_rules(grouping.study.rules).order)}
    rest = [_told(one, found) for one in grouping.leftovers if one.series.id not in named.values()]
    return replace(
        grouping,
        choices=tuple(sorted(choices, key=lambda one: order[one.sequence])),
        leftovers=tuple(rest),
        warnings=tuple(warnings),
    )


def _pair(found: dict[str, Looks], lacking: list[str], least: float) -> dict[str, str] | None:
    """Two T1, of which neither is named: that which looks more like one after contrast is it, if the two
    differ surely; None where there are not exactly two, or they do not.
    """
    if not set(T1) <= set(lacking):
        return None
    both = {id: looks for id, looks in found.items() if sum(looks.shares.get(n, 0.0) for n in T1) >= least}
    if len(both) != 2:
        return None
    weight = {id: log((one.shares["t1c"] + TINY) / (one.shares["t1n"] + TINY)) for id, one in both.items()}
    before, after = sorted(both, key=lambda id: weight[id])
    sure = 1 / (1 + exp(weight[before] - weight[after]))
    return {"t1n": before, "t1c": after} if sure >= least else None


def _told(one: Leftover, found: dict[str, Looks]) -> Leftover:
    """A series that stays open, with what it looks like."""
    if one.series.id not in found:
        return one
    return replace(one, reason=f"{one.reason}; it looks like {found[one.series.id]}")
