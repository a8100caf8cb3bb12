"""What was done to a study before a network saw it, for readers and records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slem_app.result_warning import ResultWarning

__all__ = ["PreparationReport"]


@dataclass(frozen=True)
class PreparationReport:
    """What was done to a study before the network saw it."""

    moved: Mapping[str, float] = field(default_factory=dict)
    """Sequence -> mm by which it was moved, on average over the brain."""
    onto: str = ""
    """The sequence that stayed."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Sequence -> why it is not used."""
    mask: str = ""
    """How the brain was found; empty where nothing was cut away."""
    mask_ml: float = 0.0
    """Millilitres of the brain mask."""
    by_hand: Mapping[str, str] = field(default_factory=dict)
    """Sequence -> id of the series that a person chose to be it; empty id: none was to be."""
    uneven: Mapping[str, float] = field(default_factory=dict)
    """Sequence -> by what factor its coil made one part of the brain brighter than another; taken out."""

    def __bool__(self) -> bool:
        return bool(self.moved or self.left_out or self.mask or self.by_hand)

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> PreparationReport:
        """From what `table` gave, or nothing."""
        mask = table.get("brain_mask") or {}
        return cls(
            dict(table.get("moved_mm") or {}),
            str(table.get("onto") or ""),
            dict(table.get("left_out") or {}),
            str(mask.get("method") or ""),
            float(mask.get("ml") or 0.0),
            dict(table.get("chosen_by_hand") or {}),
            dict(table.get("receive_field") or {}),
        )

    @property
    def brief(self) -> str:
        """In two words, for a place of few letters; empty where nothing was done."""
        words = {"registered": self.moved, "brain mask": self.mask, "series by hand": self.by_hand}
        return ", ".join(word for word, done in words.items() if done)

    def notes(self) -> tuple[str, ...]:
        """What was done, for a reader."""
        said = [f"{name} was moved by {mm:.1f} mm onto {self.onto}" for name, mm in self.moved.items()]
        if self.mask:
            said.append(f"everything outside the brain was removed ({self.mask}, {self.mask_ml:.0f} ml)")
        said += [
            f"{name} is series {id}, as chosen by hand" if id else f"no series is {name}, as chosen by hand"
            for name, id in self.by_hand.items()
        ]
        if self.uneven:
            factors = ", ".join(f"{name} {factor:.1f}" for name, factor in self.uneven.items())
            said.append(f"the coil's uneven brightness was corrected (brightest over darkest: {factors})")
        return tuple(said)

    def warnings(self) -> tuple[ResultWarning, ...]:
        """What could not be done."""
        return tuple(
            ResultWarning("sequence-left-out", f"{name} was left out: {why}")
            for name, why in self.left_out.items()
        )

    def table(self) -> dict[str, object]:
        """Of plain JSON types."""
        uneven = {name: round(factor, 2) for name, factor in self.uneven.items()}
        return {
            "moved_mm": {name: round(mm, 1) for name, mm in self.moved.items()},
            "onto": self.onto,
            "left_out": dict(self.left_out),
            "brain_mask": {"method": self.mask, "ml": round(self.mask_ml)} if self.mask else None,
            **({"receive_field": uneven} if uneven else {}),
            **({"chosen_by_hand": dict(self.by_hand)} if self.by_hand else {}),
        }
