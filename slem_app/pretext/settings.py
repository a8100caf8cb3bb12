"""Settings of one pre-training; saved beside the weights, compared on resume."""

from __future__ import annotations

from dataclasses import dataclass, field

from slem_app.errors import BadSetting
from slem_app.pretext.views import HeadViewSettings

__all__ = ["PretextSettings"]


@dataclass(frozen=True)
class PretextSettings:
    """What a pre-training depends on, beside its task and network.

    Raises:
        BadSetting: a value out of range.
    """

    steps: int = 2000
    """Optimizer steps."""
    batch: int = 4
    """Samples a step over all processes."""
    rate: float = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 1e-2
    """AdamW's weight decay."""
    warmup: float = 0.05
    """Share of the steps with rising rate; a cosine to zero follows."""
    average: float = 0.99
    """Decay of the exponential moving average of the weights; the average is what is kept."""
    clip: float = 12.0
    """Largest norm of the gradient."""
    precision: str = "auto"
    """Of the network: bfloat16, float32, or auto: bfloat16 where the processor computes in it. Loss and
    weights are always float32.
    """
    seed: int = 0
    """Seed of weights, views and samples."""
    save_every: int = 100
    """Steps between checkpoints, and between measurements on held-out cases."""
    measured: int = 48
    """Samples of a measurement."""
    pool: int = 0
    """Distinct samples of a case; they are made once, kept beside the cached case and shown again and again,
    also
    to runs with other seeds. 0: every sample is new. Making a sample takes a core longer than a GPU takes to
    learn from it.
    """
    view: HeadViewSettings = field(default_factory=HeadViewSettings)
    """How heads are looked at."""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.save_every, self.measured) < 1 or self.rate <= 0:
            raise BadSetting(f"steps, batch, save_every, measured and rate must be positive: {self}")
        if self.pool < 0:
            raise BadSetting(f"pool is a number of samples, 0 for new ones without end: got {self.pool}")
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise BadSetting(f"precision {self.precision!r}: choose auto, bfloat16 or float32")
