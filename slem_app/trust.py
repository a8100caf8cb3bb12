"""What a model says of its own result: where it is likely wrong, and how good it probably is.

Kept with drafts and told with results; nothing in it changes a label map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slem_app.errors import BadSetting

__all__ = ["AS_EXPECTED", "DO_NOT_USE", "LOOK_CLOSER", "NOTHING", "STEPS", "Place", "Quality", "Trust"]

AS_EXPECTED, LOOK_CLOSER, DO_NOT_USE = "as expected", "look closer", "do not use"
STEPS = (AS_EXPECTED, LOOK_CLOSER, DO_NOT_USE)
"""Best first."""


@dataclass(frozen=True)
class Place:
    """One place where a result is likely wrong."""

    text: str
    """For a reader: what lies there, how much, what it may be instead."""
    ml: float
    """Volume of what is in doubt."""
    centre: tuple[float, float, float]
    """World, RAS mm; a point in it."""
    given: str
    """The label that the result has there; empty: none."""
    instead: str
    """The label that it may be instead; empty: none."""


@dataclass(frozen=True)
class Quality:
    """How good a result probably is.

    Raises:
        BadSetting: an unknown step.
    """

    dice: Mapping[str, float]
    """Region -> Dice that is expected, 0 to 1; empty where it cannot be told from these sequences."""
    low: Mapping[str, float]
    """Region -> lower end of the interval that held nine of ten cases where it was measured."""
    step: str
    """One of `STEPS`, by the outermost region."""

    def __post_init__(self) -> None:
        if self.step not in STEPS:
            raise BadSetting(f"step must be one of {', '.join(STEPS)}, got {self.step!r}")

    @property
    def least(self) -> float:
        """The lowest Dice, to sort by; 0 where it cannot be told."""
        return min(self.dice.values(), default=0.0)

    @property
    def text(self) -> str:
        """In words."""
        told = ", ".join(f"{name} {value:.2f}" for name, value in self.dice.items())
        known = f"expected Dice {told}" if told else "the Dice cannot be told from these sequences"
        return f"{self.step} ({known})"


@dataclass(frozen=True)
class Trust:
    """What a model says of one result."""

    places: tuple[Place, ...] = ()
    """Where to look first, the most doubtful first; at most five."""
    quality: Quality | None = None
    """How good it probably is; None: the model's card does not say how to tell."""

    def table(self) -> dict[str, Any]:
        """Of plain JSON types; empty where there is nothing to tell."""
        return asdict(self) if self.places or self.quality else {}

    @classmethod
    def of_table(cls, table: object) -> Trust:
        """What `table` gave.

        Raises:
            BadSetting: something else.
        """
        if not table:
            return cls()
        try:
            return cls(_places(table["places"]), _quality(table["quality"]))  # type: ignore[index]
        except (KeyError, TypeError, ValueError) as error:
            raise BadSetting(f"what a model says of its result cannot be read: {error!r}") from error


NOTHING = Trust()
"""Where a model says nothing."""


def _places(rows: Sequence[Mapping[str, Any]]) -> tuple[Place, ...]:
    found = []
    for row in rows:
        x, y, z = (float(value) for value in row["centre"])
        found.append(
            Place(str(row["text"]), float(row["ml"]), (x, y, z), str(row["given"]), str(row["instead"]))
        )
    return tuple(found)


def _quality(table: Mapping[str, Any] | None) -> Quality | None:
    if table is None:
        return None
    dice, low = ({str(k): float(v) for k, v in table[key].items()} for key in ("dice", "low"))
    return Quality(dice, low, str(table["step"]))
