"""What `active_learning.py` compares: strategies, and how large the comparison is."""

from __future__ import annotations

from dataclasses import dataclass

from slem_app.selection import STRATEGIES


@dataclass(frozen=True)
class Setting:
    """What all strategies share; network, spacing and patches are those of `pretraining.py`'s setting of the
    same name.
    """

    about: str
    """One line for the table."""
    first: int
    """Steps of the first round, from nothing."""
    steps: int
    """Steps of every further round, from the weights that are there."""
    start: int = 2
    """Labelled cases of the first round."""
    each: int = 2
    """Cases that are labelled after a round."""
    rounds: int = 6
    """Rounds, the first included."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the first cases, the patches and the draws."""


SETTINGS = {
    "tiny": Setting(
        "1 CPU core: whole heads at 4 mm, network of 0.1 M weights, 300 steps of 4, then 140 a round",
        300,
        140,
    ),
    "small": Setting(
        "2 CPU cores: whole heads at 3 mm, network of 0.4 M weights, 240 steps of 4, then 120 a round",
        240,
        120,
    ),
    "large": Setting(
        "one GPU: whole heads at 1.5 mm, network of 7 M weights, 600 steps of 4, then 300 a round", 600, 300
    ),
    "smoke": Setting("some steps, to see that it runs", 8, 4, start=1, each=1, rounds=3, seeds=(0,)),
}


REGIONS = ("wt", "tc", "et")


BASELINES = ("random", "foreground_random")


ARMS = (*BASELINES, *(name for name in STRATEGIES if name not in (*BASELINES, "first")))
