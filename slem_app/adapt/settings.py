"""Settings of one adaptation; saved beside the weights, compared on resume."""

from __future__ import annotations

from dataclasses import dataclass, field

from slem_app.errors import BadSetting
from slem_app.pretext.tasks.slem_slots import SlemSlots
from slem_app.pretext.views import HeadViewSettings

__all__ = ["AdaptSettings"]


@dataclass(frozen=True)
class AdaptSettings:
    """What an adaptation depends on.

    Raises:
        BadSetting: a value out of range.
    """

    steps: int = 400
    """Optimizer steps."""
    batch: int = 2
    """Views a step over all processes."""
    rate: float = 2e-4
    """Peak learning rate of AdamW: a tenth of what training from nothing takes."""
    weight_decay: float = 1e-2
    """AdamW's weight decay."""
    warmup: float = 0.1
    """Share of the steps with rising rate; a cosine to zero follows."""
    average: float = 0.99
    """Decay of the moving average of the weights; the average is what is kept."""
    clip: float = 12.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Of views, exchanges and subsets."""
    save_every: int = 50
    """Steps between checkpoints."""
    naming: float = 0.1
    """Weight of SLeM's loss, the mean over blocks, beside the answers'."""
    keep: float = 1.0
    """Weight of what the model said before from all sequences; less lets it drift."""
    head_first: float = 0.1
    """Share of the steps in which the new head of SLeM learns alone, so that its first gradients, which mean
    nothing yet, spoil nothing.
    """
    view: HeadViewSettings = field(default_factory=HeadViewSettings)
    """How heads are looked at."""
    task: SlemSlots = field(default_factory=SlemSlots)
    """How blocks are cut and exchanged."""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.save_every) < 1 or self.rate <= 0:
            raise BadSetting(f"steps, batch, save_every and rate must be positive: {self}")
        if self.naming < 0 or self.keep < 0 or not 0 <= self.head_first < 1:
            raise BadSetting(f"naming and keep must be at least 0, head_first at least 0 and below 1: {self}")
