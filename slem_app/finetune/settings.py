"""Settings of one training; saved beside the weights, compared on resume."""

from __future__ import annotations

from dataclasses import dataclass

from slem_app.errors import BadSetting

__all__ = ["AugmentSettings", "FinetuneSettings", "InteractSettings", "PairSettings"]

ACQUISITION = ("thick", "displaced", "bias", "contrast", "inverted", "border")


@dataclass(frozen=True)
class AugmentSettings:
    """How a training patch is varied. Probabilities are per patch.

    Raises:
        BadSetting: `keep_sequence` is no probability.
    """

    flip: float = 0.5
    """Probability of a mirror, each axis of the card's `mirrors` by itself."""
    spatial: float = 0.5
    """Probability of one rotation and scaling."""
    rotation: float = 20.0
    """Largest angle about each axis, degrees."""
    scale: tuple[float, float] = (0.8, 1.25)
    """Range of the scaling."""
    gain: float = 0.25
    """Each sequence is multiplied by 1 +- this."""
    shift: float = 0.25
    """Each sequence gets up to +- this added inside the patient (in its standard deviations)."""
    gamma: float = 0.3
    """Probability of a gamma curve, a sequence."""
    noise: float = 0.2
    """Probability of Gaussian noise."""
    blur: float = 0.15
    """Probability of a Gaussian blur or low resolution, a sequence."""
    keep_sequence: float = 0.75
    """Each sequence is kept with this probability, at least one; the others are flagged as missing. 1: none
    is dropped.
    """

    thick: float = 0.0
    """Probability of thick slices along one axis, a sequence."""
    thickness: tuple[float, float] = (3.0, 6.0)
    """mm of those."""
    displaced: float = 0.0
    """Probability that a sequence lies apart from the others."""
    displacement: float = 3.0
    """mm along each axis, at most."""
    bias: float = 0.0
    """Probability of a bias field, a sequence."""
    bias_field: float = 0.3
    """Largest log of its gain."""
    contrast: float = 0.0
    """Probability that a sequence's contrast around its mean is multiplied by 0.65 to 1.5."""
    inverted: float = 0.0
    """Probability of a gamma curve from the bright end, a sequence."""
    border: float = 0.0
    """Probability that the brain mask of a patch is too tight or too wide."""
    border_mm: float = 6.0
    """mm by which, at most."""
    paste: float = 0.0
    """Probability that the tumour of another training case is put into a patch; see
    `slem_app.finetune.paste`.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "thickness", tuple(self.thickness))
        for name in ("keep_sequence", *ACQUISITION, "paste"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadSetting(f"augment.{name} is a probability, 0 to 1, not {getattr(self, name)}")
        if min(*self.thickness, self.displacement, self.bias_field, self.border_mm) <= 0:
            raise BadSetting(
                f"augment: thickness, displacement, bias_field and border_mm must be positive: {self}"
            )

    @property
    def acquires(self) -> bool:
        """True where anything of how an image is acquired is varied."""
        return any(getattr(self, name) > 0 for name in ACQUISITION)


@dataclass(frozen=True)
class PairSettings:
    """Every patch passes complete and once more with a subset of its sequences; see
    `slem_app.finetune.pairs`.

    Raises:
        BadSetting: a value out of range.
    """

    on: bool = False
    """Off: sequences are dropped by `augment.keep_sequence` alone."""
    consistency: float = 0.5
    """Weight of the divergence of the subset's probabilities from the complete set's."""
    ramp: float = 0.2
    """Share of the steps over which that weight rises to its full size."""
    twice: tuple[tuple[str, ...], ...] = ()
    """Subsets, by the sequences' names, that are drawn twice as often as the others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", tuple(tuple(names) for names in self.twice))
        if self.consistency < 0 or not 0 <= self.ramp <= 1:
            raise BadSetting(f"pairs: consistency must not be negative, ramp lies in 0..1: {self}")


@dataclass(frozen=True)
class InteractSettings:
    """How a simulated reader takes part in training; see `slem_app.finetune.interact`.

    Raises:
        BadSetting: a value out of range.
    """

    share: float = 0.0
    """Share of interactive steps; 0: none, the network need not have prompt channels."""
    clicks: int = 10
    """Most clicks into the errors of a patch."""
    looks: int = 2
    """Views of each patch in an interactive step, each around one of the clicks and with some of the others.
    """
    views: tuple[int, ...] = (48, 64, 80)
    """Sides of the views in voxels; one is drawn a step."""
    again: float = 0.5
    """Share of views with one more click, into what is wrong after the others."""
    wrong: float = 0.05
    """Share of clicks with a wrong label."""
    jitter: float = 0.5
    """A click's depth in its error may fall short of the deepest voxel's by this share."""
    scribbles: float = 0.1
    """Share of clicks drawn out to a stroke."""
    box: float = 0.1
    """Share of views with a box."""
    blank: float = 0.1
    """Share of patches that start from nothing instead of the automatic segmentation."""
    rate: float = 5.0
    """Factor of the prompt layer's learning rate: it starts at zero beside weights that know their task."""
    kept: float = 1.0
    """How much of the change to the parent's own weights is kept in the end, where the parent had no prompt
    channels (interpolation of weights, Wortsman et al. 2022). 0: the prompt layer alone is new, and automatic
    results are the parent's, bit for bit.
    """
    near: float = 1.0
    """Weight of the loss around the prompts."""
    reach: float = 10.0
    """mm, standard deviation of that."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(self.views))
        shares = (
            self.share,
            self.again,
            self.wrong,
            self.jitter,
            self.scribbles,
            self.box,
            self.blank,
            self.kept,
        )
        counts = (self.clicks, self.looks, *self.views)
        if (
            not all(0 <= s <= 1 for s in shares)
            or not self.views
            or min(counts) < 1
            or self.near < 0
            or min(self.reach, self.rate) <= 0
        ):
            raise BadSetting(
                "interact: shares lie in 0..1, clicks, looks, views, rate and reach are positive, near is "
                f"not negative: {self}"
            )


@dataclass(frozen=True)
class FinetuneSettings:
    """What a training run depends on.

    Raises:
        BadSetting: a value out of range.
    """

    steps: int = 2000
    """Optimizer steps."""
    batch: int = 2
    """Patches a step over all processes."""
    patch: tuple[int, int, int] = (96, 96, 96)
    """Voxels of a patch; multiples of the network's `multiple`."""
    foreground: float = 0.7
    """Share of patches around a voxel of a random region."""
    rate: float = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 1e-2
    """AdamW's weight decay."""
    warmup: float = 0.05
    """Share of the steps with rising rate; a cosine to zero follows."""
    average: float = 0.995
    """Decay of the exponential moving average of the weights; the average is what is kept."""
    clip: float = 12.0
    """Largest norm of the gradient."""
    deep_weights: tuple[float, ...] = (1.0, 0.5, 0.25)
    """Weights of the full-resolution loss and of the coarser heads'."""
    seed: int = 0
    """Seed of weights, patches and augmentation."""
    save_every: int = 100
    """Steps between checkpoints."""
    augment: AugmentSettings = AugmentSettings()
    """How patches are varied."""
    interact: InteractSettings = InteractSettings()
    """How a simulated reader takes part."""
    pairs: PairSettings = PairSettings()
    """How a subset of the sequences learns from all of them."""
    soup: float = 0.0
    """Share of the steps, the last ones, whose checkpoints are averaged into the result (Wortsman et al.
    2022). 0: the last one is the result.
    """
    fresh: tuple[str, ...] = ()
    """Parts that are not taken from a pre-trained encoder: stem, fusion, levels, context, decoder."""
    frozen: float = 0.0
    """Share of the steps, from the first, in which the trunk (stem, levels, context, and the decoder where it
    is pre-trained, but what is fresh) does not learn. 1: never, which probes how good the pre-trained
    features are.
    """
    encoder_rate: float = 1.0
    """Factor of the trunk's learning rate."""
    layer_decay: float = 1.0
    """Each level of the trunk learns this much slower than the one after it, the bottleneck than the decoder
    (ELECTRA, Clark et al. 2020).
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", tuple(self.patch))
        object.__setattr__(self, "deep_weights", tuple(self.deep_weights))
        object.__setattr__(self, "fresh", tuple(self.fresh))
        if (
            self.steps < 1
            or self.batch < 1
            or self.rate <= 0
            or not 0 <= self.foreground <= 1
            or self.save_every < 1
        ):
            raise BadSetting(
                f"steps, batch, rate and save_every must be positive and foreground between 0 and 1: {self}"
            )
        if not 0 <= self.soup < 1:
            raise BadSetting(f"soup is a share of the steps, 0 to below 1, not {self.soup}")
        if self.pairs.on and (self.augment.keep_sequence < 1 or self.interact.share):
            raise BadSetting(
                "pairs.on draws the subsets itself and knows no simulated reader: set augment.keep_sequence "
                "to 1 and interact.share to 0"
            )
        if not 0 <= self.frozen <= 1 or self.encoder_rate < 0 or not 0 < self.layer_decay <= 1:
            raise BadSetting(
                "frozen must lie between 0 and 1, encoder_rate must not be negative, layer_decay above 0 "
                f"and at most 1: {self}"
            )
