"""What was done to a study before a network saw it, for readers and records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
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

    def __bool__(self) -> bool:
        return bool(self.moved or self.left_out or self.mask)

    def sentences(self) -> tuple[str, ...]:
        """For a reader."""
        said = [f"{name} was moved by {mm:.1f} mm onto {self.onto}" for name, mm in self.moved.items()]
        said += [f"{name} was left out: {why}" for name, why in self.left_out.items()]
        if self.mask:
            said.append(f"all but the brain was cut away ({self.mask}, {self.mask_ml:.0f} ml)")
        return tuple(said)

    def table(self) -> dict[str, object]:
        """Of plain JSON types."""
        return {
            "moved_mm": {name: round(mm, 1) for name, mm in self.moved.items()},
            "onto": self.onto,
            "left_out": dict(self.left_out),
            "brain_mask": {"method": self.mask, "ml": round(self.mask_ml)} if self.mask else None,
        }
