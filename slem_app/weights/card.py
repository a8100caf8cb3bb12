"""The card of a model, `card.yaml`: what it segments, from which sequences, how its input is prepared, whence
it comes.

All that a program needs to use the weights stands in the card and nowhere else. A key that nobody knows, or
one that is missing, is an error: a card that is read wrongly would give a wrong segmentation that looks
right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from slem_app.errors import BadCard, NotFound
from slem_app.labels import Code, Label, LabelSet, Region
from slem_app.network import SegmenterConfig
from slem_app.regions import PostProcess
from slem_app.volumes.prepare import Preparation
from slem_app.weights.fields import from_table, to_table
from slem_app.weights.folders import CARD_FILE
from slem_app.yaml_tables import load_yaml

__all__ = ["BRAIN_LABELS", "BRAIN_SEQUENCES", "Card", "Inference", "Recalibration", "card_text", "load_card"]

NOT_DIAGNOSTIC = "Research use only, not for diagnostic use."

BRAIN_SEQUENCES = ("t1n", "t1c", "t2w", "t2f")

BRAIN_LABELS = LabelSet(
    labels=(
        Label("necrosis", 1, Code("6574001", "Necrosis"), color=(216, 191, 216)),
        Label("edema", 2, Code("79654002", "Edema"), color=(140, 224, 228)),
        Label("enhancing tumor", 3, Code("86049000", "Neoplasm, Primary"), color=(230, 97, 0)),
    ),
    regions=(
        Region("WT", ("necrosis", "edema", "enhancing tumor")),
        Region("TC", ("necrosis", "enhancing tumor")),
        Region("ET", ("enhancing tumor",)),
    ),
)
"""Parts of a glioma: whole tumour, tumour core, enhancing tumour, in the order of the channels."""


@dataclass(frozen=True)
class Inference:
    """How the network is run over a prepared volume."""

    one_pass: int = 6_000_000
    """Voxels up to which the whole volume is segmented at once; a larger one by windows (a head at 1 mm has
    about 4 million).
    """
    window: tuple[int, int, int] = (128, 128, 128)
    """Voxels of a sliding window, multiples of the network's."""
    overlap: float = 0.5
    """Share by which neighbouring windows overlap, 0 to below 1."""
    mirror: tuple[int, ...] = ()
    """Axes (0 I, 1 J, 2 K) whose mirror images are averaged in: 2 ** n passes. Empty: none."""

    def __post_init__(self) -> None:
        if self.one_pass < 0 or min(self.window) < 1 or not 0 <= self.overlap < 1:
            raise ValueError(
                f"one_pass must be >= 0, window positive, overlap in [0, 1), got {self.one_pass}, "
                f"{self.window}, {self.overlap}"
            )
        if len(set(self.mirror)) < len(self.mirror) or not set(self.mirror) <= {0, 1, 2}:
            raise ValueError(f"mirror must hold axes out of 0, 1, 2, each once, got {self.mirror}")


@dataclass(frozen=True)
class Plausible:
    """What results of a model look like; one that is otherwise is given with a warning
    (`slem_app/predict/doubts.py`).

    Raises:
        ValueError: limits that nothing can meet.
    """

    smallest: float = 0.0
    """ml of all labels; less is small."""
    largest: float = 0.0
    """ml; more is large; 0: there is no limit."""
    near_surface: float = 1.0
    """Share of the result close to the border of the brain; more is doubtful."""
    least_sure: float = 0.0
    """Mean probability of the outermost region in the result; less is unsure."""

    def __post_init__(self) -> None:
        shares = (self.near_surface, self.least_sure)
        sizes = self.smallest >= 0 and (self.largest == 0 or self.largest > self.smallest)
        if not (sizes and all(0 <= one <= 1 for one in shares)):
            raise ValueError(f"impossible limits {self}")

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return self != Plausible()


@dataclass(frozen=True)
class Confidence:
    """What a model's probabilities are worth, measured on cases that it had not seen
    (`slem_app/predict/check_here.py`).

    Raises:
        ValueError: a slope that is not positive, an interval or steps that cannot be.
    """

    places: bool = False
    """Results come with the places where the model doubts them."""
    logits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Region -> slope and shift of the line on which its logits are put where places are looked for."""
    dice: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Region -> (a, b, w): the Dice to be expected is a + b x, where x is what the probabilities say as
    they are, and lay at most w lower in nine of ten cases.
    """
    steps: tuple[float, float] = (0.8, 0.6)
    """Expected Dice of the outermost region from which a result is as expected, and under which it is not to
    be
    used.
    """

    segment: bool = field(default=False, metadata={"younger": True})
    """These places are one more segment of the result, `check here`, without being asked for."""
    needs: tuple[str, ...] = field(default=(), metadata={"younger": True})
    """Sequences without which no Dice is told, since it was not told well enough: the result is then one to
    look closer at.
    """

    def __post_init__(self) -> None:
        good, poor = self.steps
        if not all(slope > 0 for slope, _ in self.logits.values()):
            raise ValueError(f"the slopes of logits must be positive, got {dict(self.logits)}")
        if not (0 <= poor <= good <= 1 and all(line[2] >= 0 for line in self.dice.values())):
            raise ValueError(f"impossible steps {self.steps} or intervals {dict(self.dice)}")

    def __bool__(self) -> bool:
        """Whether anything was measured."""
        return self != Confidence()


@dataclass(frozen=True)
class Recalibration:
    """The line on which a region's logits are put before labels are decided, fitted on cases that the model
    had not seen (`slem_app/predict/recalibrate.py`).

    Raises:
        ValueError: a slope that is not positive, a weight without a sequence, or a share that is none.
    """

    slope: float = 1.0
    """Of the logit of the network's probability."""
    shift: float = 0.0
    """Added to it."""
    bright: str = ""
    """Sequence in which the region is brighter than normal tissue, e.g. 't1c' for what enhances; empty: its
    brightness is not looked at.
    """
    less: str = ""
    """Sequence before the contrast agent, e.g. 't1n': what is bright there does not count; empty: none."""
    weight: float = 0.0
    """Of the brightness, in logits for each time that normal tissue's bright end lies above its median."""
    inside: str = ""
    """Region in which it is looked for."""
    least: float = 0.5
    """Probability of that region, as the network gives it, from which it is looked for."""
    near: str = ""
    """Region inside this one that is asked to be bright: where it is a good part of this one, voxels far
    outside of what it encloses are less likely; empty: that is not looked at.
    """
    away: float = 0.0
    """Logits taken off for each cm, see `slem_app.predict.recalibrate.outside`."""

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise ValueError(f"the slope must be positive, got {self.slope}")
        if bool(self.bright) != bool(self.inside) or (not self.bright and (self.less or self.weight)):
            raise ValueError(f"bright and inside are named together, less and weight only with them: {self}")
        if bool(self.near) != bool(self.away) or self.away < 0 or (self.near and self.bright):
            raise ValueError(f"near and away > 0 are named together, and not with bright: {self}")
        if not 0 < self.least < 1:
            raise ValueError(f"least must lie between 0 and 1, got {self.least}")


@dataclass(frozen=True)
class Card:
    """Everything about a model but its weights; constructed = consistent.

    Raises:
        BadCard: parts that contradict each other.
    """

    name: str
    """Folder name and name in the clients, e.g. 'slem_brain'."""
    version: str
    """Of these weights, e.g. '1'."""
    description: str
    """One or two sentences for people."""
    sequences: tuple[str, ...]
    """Sequence names in the order of the network's slots, e.g. ('t1n', 't1c', 't2w', 't2f')."""
    reference_order: tuple[str, ...]
    """Which sequence's grid the result lies on: the first of these that a case has."""
    network: SegmenterConfig
    """Shape of the network."""
    preparation: Preparation
    """Spacing, crop and intensities of its input."""
    labels: LabelSet
    """What is segmented, with codes and colours."""
    postprocess: PostProcess
    """From probabilities to labels."""
    inference: Inference = Inference()
    """How it is run."""
    plausible: Plausible = field(default=Plausible(), metadata={"younger": True})
    """Beyond which limits a result is doubtful; default: none is."""
    confidence: Confidence = field(default=Confidence(), metadata={"younger": True})
    """What its probabilities are worth; default: not known, and nothing is said of where a result may be
    wrong.
    """
    recalibration: Mapping[str, Recalibration] = field(default_factory=dict, metadata={"younger": True})
    """Region -> how its probability becomes the one that decides; a region that is not named: as it is."""
    mirrors: tuple[int, ...] = (0, 1, 2)
    """World axes (0 R-L, 1 A-P, 2 S-I) along which a mirror image still looks like a patient; training and
    ensembles mirror along no other.
    """
    data: str = ""
    """What it was trained on, e.g. '16 cases of BraTS 2018 (...)'."""
    terms: str = ""
    """Under which terms that data, and so these weights, may be used."""
    training: str = ""
    """How it was trained: machine, steps, time, recipe."""
    parent: str = ""
    """Name and version of the weights it started from; empty: from nothing."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Measured quality, e.g. {'cross-validation dice WT': 0.81}."""
    use: str = NOT_DIAGNOSTIC
    """What it may be used for."""
    editor: str = field(default="", metadata={"younger": True})
    """Name of the editor that answers prompts in its results, a folder beside the models'; empty: a rule
    does.
    """
    detail: str = field(default="", metadata={"younger": True})
    """Name of the model that looks again at what this one found, at finer voxels, a folder beside the
    models' with a `detail.yaml`; empty: none does.
    """
    file: str = ""
    """Weight file beside the card; set when it is saved."""
    sha256: str = ""
    """Of the weight file; set when it is saved."""

    def __post_init__(self) -> None:
        m, r = len(self.sequences), len(self.labels.regions)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise BadCard(
                f"model name {self.name!r} may hold letters, digits and _ . - only, and must begin with a "
                "letter or digit"
            )
        if self.editor and Path(self.editor).name != self.editor:
            raise BadCard(f"editor must be a bare name of a folder beside the models, got {self.editor!r}")
        if self.detail and Path(self.detail).name != self.detail:
            raise BadCard(f"detail must be a bare name of a folder beside the models, got {self.detail!r}")
        if m != self.network.sequences or len(set(self.sequences)) != m:
            raise BadCard(
                f"the network has {self.network.sequences} sequence slots, the card names {m}: "
                f"{', '.join(self.sequences)}; each slot needs one name"
            )
        if r != self.network.regions:
            raise BadCard(
                f"the network has {self.network.regions} region channels, the card names {r}: "
                f"{', '.join(x.name for x in self.labels.regions)}"
            )
        if not self.reference_order or set(self.reference_order) - set(self.sequences):
            raise BadCard(
                f"reference_order {list(self.reference_order)} must name some of the sequences "
                f"{list(self.sequences)}"
            )
        if self.preparation.multiple % self.network.multiple or any(
            n % self.network.multiple for n in self.inference.window
        ):
            raise BadCard(
                f"preparation.multiple {self.preparation.multiple} and inference.window "
                f"{list(self.inference.window)} "
                f"must be multiples of the network's {self.network.multiple} voxels"
            )
        self.postprocess.check(self.labels)
        self._check_mirrors()
        self._check_recalibration()
        if (self.file or self.sha256) and (
            Path(self.file).name != self.file or not re.fullmatch(r"[0-9a-f]{64}", self.sha256)
        ):
            raise BadCard(
                f"file must be a bare file name and sha256 its 64 hexadecimal digits, got {self.file!r}, "
                f"{self.sha256!r}"
            )

    def _check_mirrors(self) -> None:
        if len(set(self.mirrors)) < len(self.mirrors) or not set(self.mirrors) <= {0, 1, 2}:
            raise BadCard(f"mirrors must hold axes out of 0, 1, 2, each once, got {list(self.mirrors)}")
        if self.labels.sided and 0 in self.mirrors:
            sides = ", ".join(label.name for label in self.labels.labels if label.laterality)
            raise BadCard(
                f"mirrors must not hold axis 0 (R-L): it would turn right into left, and the labels {sides} "
                "have a side"
            )
        if not set(self.inference.mirror) <= set(self.mirrors):
            raise BadCard(
                f"inference.mirror {list(self.inference.mirror)} must lie among mirrors {list(self.mirrors)}"
            )

    def _check_recalibration(self) -> None:
        sets = {region.name: set(region.labels) for region in self.labels.regions}
        for name, rule in self.recalibration.items():
            if name not in sets:
                raise BadCard(f"recalibration of an unknown region {name!r}: the model has {', '.join(sets)}")
            if unknown := sorted({rule.bright, rule.less} - {"", *self.sequences}):
                known = ", ".join(self.sequences)
                raise BadCard(f"recalibration of {name}: unknown sequence {unknown[0]!r}; known: {known}")
            if rule.inside and not (rule.inside in sets and sets[name] < sets[rule.inside]):
                raise BadCard(
                    f"recalibration of {name}: inside must be a region around it, got {rule.inside!r}"
                )
            inner = self.recalibration.get(rule.near)
            if rule.near and not (inner and inner.bright and sets[rule.near] < sets[name]):
                raise BadCard(
                    f"recalibration of {name}: near must be a region inside it that is asked to be "
                    f"bright, got {rule.near!r}"
                )


def card_text(card: Card) -> str:
    """`card.yaml` of a card; reading it gives an equal card."""
    return yaml.safe_dump(
        to_table(card), sort_keys=False, allow_unicode=True, width=140, default_flow_style=None
    )


def load_card(folder: Path | str, name: str = CARD_FILE) -> Card:
    """The card of the model in `folder`; `name` is the file's.

    Raises:
        NotFound: no card there.
        BadCard: it is not YAML, or a key is unknown or missing, or a value has the wrong type.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise NotFound(f"no model in {folder}: {name} is missing")
    try:
        table = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadCard(f"{path} is not readable YAML: {error}") from error
    return card_of(table, str(path))


def card_of(table: object, where: str) -> Card:
    """A card from the table that `card.yaml` holds; an older one lacks the younger keys.

    Raises:
        BadCard: a key is unknown or missing, or a value has the wrong type.
    """
    return from_table(Card, table, where)
