"""The strategies: cases in the order in which they should be labelled, each with its reason.

The server and the benchmark both ask `choices`. It gives one case after the other, and each that was given
counts as labelled for the next, so that several cases chosen together are not all of one kind. A case without
measures is never compared with one that has them: cases with measures come first, the others after them at
random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy  # whose parts are loaded when they are first used; `stats` takes a second

from slem_app.errors import NotFound
from slem_app.selection.coreset import distances
from slem_app.selection.measures import Measures

__all__ = ["DEFAULT", "STRATEGIES", "CaseChoice", "Pool", "choices"]

STRATEGIES: Mapping[str, str] = {
    "diverse": "The case that is least like any labelled one (core-set on the network's features)",
    "balanced": (
        "Uncertain, changed, unlike the labelled cases, and of the classes that are rare among "
        "them; the mean of these ranks"
    ),
    "uncertainty": "Where the model is least sure of what it finds (entropy over mirrored passes)",
    "disagreement": "Where this model and the one before differ most (1 - Dice)",
    "foreground_random": "Random, in proportion to the predicted volume",
    "random": "Random; a case that was given out lately is less likely",
    "first": "The first by name",
}
"""Name -> what the client shows."""
DEFAULT = "diverse"
LONG = 1e9  # seconds: never given out


@dataclass(frozen=True)
class Pool:
    """What may be chosen, and what is known."""

    candidates: tuple[str, ...]
    """Cases that may be chosen."""
    measures: Mapping[str, Measures] = field(default_factory=dict)
    """Of any cases, all by the same model."""
    taken: tuple[str, ...] = ()
    """Cases that are labelled or in somebody's hands."""
    labelled_ml: Mapping[str, float] = field(default_factory=dict)
    """Label -> millilitres in the labels that were saved."""
    idle: Mapping[str, float] = field(default_factory=dict)
    """Case -> seconds since it was last given out, where it was."""


@dataclass(frozen=True)
class CaseChoice:
    """A case, and why it."""

    case: str
    """Its id."""
    reason: str
    """In words, for the reader."""
    score: float | None = None
    """The larger, the sooner; None for a case that was drawn."""
    details: Mapping[str, float] = field(default_factory=dict)
    """What the score is made of."""
    notes: tuple[str, ...] = ()
    """What a reader should know, e.g. that most cases are not measured yet."""


def choices(strategy: str, pool: Pool, random: np.random.Generator) -> Iterator[CaseChoice]:
    """The candidates, the best first; each that was given counts as taken for the next.

    Raises:
        NotFound: no such strategy.
    """
    if strategy not in STRATEGIES:
        raise NotFound(f"no strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
    if strategy == "first":
        yield from (CaseChoice(case, "the first by name that is left") for case in sorted(pool.candidates))
        return
    strategy, notes = (strategy, ()) if strategy == "random" else _possible(strategy, pool)
    left, taken = dict.fromkeys(pool.candidates), list(pool.taken)
    while left:
        known = [
            case
            for case in left
            if case in pool.measures
            and (strategy != "disagreement" or pool.measures[case].change is not None)
        ]
        if strategy == "random" or not known:
            unmeasured = "no case that is left is measured yet: drawn at random"
            yield from _drawn(
                list(left), pool, random, notes if strategy == "random" else (*notes, unmeasured)
            )
            return
        some = (
            (f"{len(known)} of {len(left)} cases are measured so far: the best of these",)
            if len(known) < len(left)
            else ()
        )
        choice = ORDERS[strategy](Candidates(tuple(known), tuple(taken), pool, random), (*notes, *some))
        del left[choice.case]
        taken.append(choice.case)
        yield choice


def _possible(strategy: str, pool: Pool) -> tuple[str, tuple[str, ...]]:
    """The strategy that can be followed, and a note if it is another one."""
    there = [pool.measures[case] for case in pool.candidates if case in pool.measures]
    if strategy == "disagreement" and there and all(one.change is None for one in there):
        return "uncertainty", ("there is no earlier model to compare with: ordered by uncertainty",)
    return strategy, ()


def _drawn(
    cases: Sequence[str], pool: Pool, random: np.random.Generator, notes: tuple[str, ...]
) -> Iterator[CaseChoice]:
    """All cases in a random order, those given out lately later."""
    # weighted draws without replacement (Efraimidis and Spirakis 2006): by exponential variates, each
    # divided by its weight, the smallest first
    idle = np.array([max(1.0, pool.idle.get(case, LONG)) for case in cases])
    keys = random.exponential(size=len(cases)) / idle
    yield from (CaseChoice(cases[number], "drawn at random", notes=notes) for number in np.argsort(keys))


@dataclass(frozen=True)
class Candidates:
    """The cases among which one is chosen now."""

    cases: tuple[str, ...]
    """Candidates with measures."""
    taken: tuple[str, ...]
    """Labelled, in somebody's hands, or chosen before."""
    pool: Pool
    """What is known."""
    random: np.random.Generator
    """For draws, and where several cases are equal."""

    @property
    def measures(self) -> list[Measures]:
        """Of the candidates, in their order."""
        return [self.pool.measures[case] for case in self.cases]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(self.measures[0].volumes_ml)

    @cached_property
    def shares(self) -> np.ndarray:
        """(C,) share of each label in what is labelled; what was chosen before counts as predicted. With a
        millilitre more of each: none is 0.
        """
        total = np.array([1.0 + self.pool.labelled_ml.get(name, 0.0) for name in self.labels])
        candidates = frozenset(self.pool.candidates)
        for case in self.taken:
            if case in self.pool.measures and case in candidates:
                total += [self.pool.measures[case].volumes_ml[name] for name in self.labels]
        return total / total.sum()

    @cached_property
    def weights(self) -> np.ndarray:
        """(C,) weight of each label, the larger the rarer it is; their sum is 1."""
        return (1 / self.shares) / (1 / self.shares).sum()

    def far(self) -> np.ndarray:
        """(n,) distance to the nearest case that is taken."""
        features = np.stack([one.features for one in self.measures])
        known = [self.pool.measures[case].features for case in self.taken if case in self.pool.measures]
        return distances(features, np.stack(known) if known else np.empty((0, features.shape[1])))

    def rarity(self) -> np.ndarray:
        """(n,) bits: cross-entropy of the case's predicted labels with those that are labelled; 0 where
        nothing is predicted.
        """
        found = np.array([[one.volumes_ml[name] for name in self.labels] for one in self.measures])  # n C
        return (found / np.maximum(found.sum(axis=1, keepdims=True), 1e-9)) @ -np.log2(self.shares)

    def by_label(self, field_name: str) -> np.ndarray:
        """(n, C) of a measure that is there for each label; 0 where it is not."""
        return np.array(
            [[getattr(one, field_name).get(name, 0.0) for name in self.labels] for one in self.measures]
        )

    def best(self, scores: np.ndarray) -> int:
        """Where the scores are largest; drawn among equals."""
        return int(self.random.choice(np.flatnonzero(scores >= scores.max() - 1e-12)))


def _foreground_random(scene: Candidates, notes: tuple[str, ...]) -> CaseChoice:
    """Like the case of a random voxel of all that is predicted."""
    ml = np.array([one.foreground_ml for one in scene.measures])
    if not ml.any():
        nothing = (*notes, "the model finds nothing in any case: drawn at random")
        return next(_drawn(scene.cases, scene.pool, scene.random, nothing))
    n = int(scene.random.choice(len(ml), p=ml / ml.sum()))
    return CaseChoice(
        scene.cases[n],
        f"drawn in proportion to the predicted volume, here {ml[n]:.1f} ml",
        None,
        {"foreground_ml": float(ml[n])},
        notes,
    )


def _uncertainty(scene: Candidates, notes: tuple[str, ...]) -> CaseChoice:
    scores = np.array([one.uncertainty for one in scene.measures])
    n = scene.best(scores)
    most = scene.labels[int(scene.by_label("uncertainty_in")[n].argmax())]
    where = f"most about {most}" if scene.measures[n].foreground_ml else "though it finds nothing"
    reason = f"the model is unsure here ({scores[n]:.2f} bit a voxel of what it finds), {where}"
    return CaseChoice(scene.cases[n], reason, float(scores[n]), dict(scene.measures[n].uncertainty_in), notes)


def _disagreement(scene: Candidates, notes: tuple[str, ...]) -> CaseChoice:
    scores = np.array([one.change or 0.0 for one in scene.measures])
    n = scene.best(scores)
    most = scene.labels[int(scene.by_label("change_in")[n].argmax())]
    reason = f"this model and the one before differ here (1 - Dice {scores[n]:.2f}), most in {most}"
    return CaseChoice(scene.cases[n], reason, float(scores[n]), dict(scene.measures[n].change_in), notes)


def _diverse(scene: Candidates, notes: tuple[str, ...]) -> CaseChoice:
    scores = scene.far()
    n = scene.best(scores)
    reason = (
        "least like any labelled case"
        if scores[n] >= 0
        else "the most typical case; none that is labelled is measured yet"
    )
    return CaseChoice(scene.cases[n], reason, float(scores[n]), notes=notes)


def _balanced(scene: Candidates, notes: tuple[str, ...]) -> CaseChoice:
    """Mean of ranks. Uncertainty and change are ranked label by label and weighed by how rare each label is
    in what is labelled.
    """
    by_label = {"uncertainty": scene.by_label("uncertainty_in")}
    if any(one.change is not None for one in scene.measures):
        by_label["change"] = scene.by_label("change_in")
    ranks = {
        name: np.stack([_ranks(column) for column in table.T], axis=1) @ scene.weights
        for name, table in by_label.items()
    }
    ranks |= {"diversity": _ranks(scene.far()), "rarity": _ranks(scene.rarity())}
    scores = np.mean(list(ranks.values()), axis=0)
    n = scene.best(scores)
    found = np.array([scene.measures[n].volumes_ml[name] for name in scene.labels])
    words = {
        name: f"{word} {scene.labels[int((table[n] * scene.weights).argmax())]}"
        for (name, table), word in zip(by_label.items(), ("unsure about", "changed its mind about"))
    }
    unlike = (
        "unlike the labelled cases"
        if any(case in scene.pool.measures for case in scene.taken)
        else "typical of all cases"
    )
    words |= {
        "diversity": unlike,
        "rarity": f"much {scene.labels[int((found * scene.weights).argmax())]}, which is rare in them",
    }
    first = sorted(ranks, key=lambda name: -ranks[name][n])[:2]
    return CaseChoice(
        scene.cases[n],
        "; ".join(words[name] for name in first),
        float(scores[n]),
        {name: round(float(r[n]), 3) for name, r in ranks.items()},
        notes,
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    """(n,) ranks between 0 and 1, the largest value's the highest; equal values share theirs."""
    return (scipy.stats.rankdata(values) - 0.5) / len(values)


ORDERS: Mapping[str, Callable[[Candidates, tuple[str, ...]], CaseChoice]] = {
    "foreground_random": _foreground_random,
    "uncertainty": _uncertainty,
    "disagreement": _disagreement,
    "diverse": _diverse,
    "balanced": _balanced,
}
