"""Pre-trained encoders on disk, `encoder.yaml` and its weights, and how they become part of a segmenter.

A pretext encoder takes either one image (a collage of sequences, slot 0) or every sequence in a slot of its
own. Stem, levels and contextual blocks have the same names and shapes in both and in the segmenter and are
taken one to one. From an encoder with a slot for each sequence the fusion is taken one to one, too. From an
encoder of one slot the segmenter's slots keep their own fresh differences around the one projection
(`_slots`): M equal images are fused to what one image was, and the network can still tell the sequences
apart. What is not in the map fails.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError

from slem_app.errors import BadCard, BadWeights, NotFound, StorageFailed
from slem_app.network import Segmenter, SegmenterConfig
from slem_app.volumes.prepare import Preparation
from slem_app.weights.card import NOT_DIAGNOSTIC
from slem_app.weights.fields import from_table, to_table
from slem_app.weights.folders import shelves
from slem_app.weights.store import (
    LARGEST,
    Model,
    half,
    load_model,
    read_weights,
    renewed,
    write_file,
)
from slem_app.yaml_tables import load_yaml

__all__ = [
    "ENCODER_FILE",
    "PARTS",
    "EncoderCard",
    "Pretrained",
    "Transfer",
    "load_parent",
    "load_pretrained",
    "save_pretrained",
    "transfer",
]

ENCODER_FILE = "encoder.yaml"
PROJECT = "encoder.fusion.project"
MISSING = ("encoder.fusion.gain", "encoder.fusion.shift")  # what a missing sequence changes, slot by slot
PARTS = {
    "stem": ("encoder.stem.",),
    "fusion": ("encoder.fusion.",),
    "levels": ("encoder.down.", "encoder.levels."),
    "context": ("encoder.context.",),
    "decoder": ("decoder.",),
}
"""Parts of the network by the beginnings of their weights' names."""
ALWAYS_NEW = ("head.", "deep_heads.", "encoder.prompt.")  # no pretext has them
# may differ between pretext and segmenter
FREE = ("sequences", "regions", "prompts", "deep_supervision", "prior", "differences")


@dataclass(frozen=True)
class EncoderCard:
    """Everything about a pre-trained encoder but its weights.

    Raises:
        BadCard: parts that contradict each other.
    """

    name: str
    """Folder name, e.g. 'slem_brain_ssl'."""
    version: str
    """Of these weights."""
    description: str
    """One or two sentences for people."""
    task: str
    """Pretext task it was trained on, e.g. 'slem'."""
    sequences: tuple[str, ...]
    """Sequences it has seen, in the order of its slots where it has one for each."""
    slots: int
    """1: it takes one image, any sequence or a collage; else one slot a sequence."""
    decoder: bool
    """True where the task trained the decoder too."""
    network: SegmenterConfig
    """The segmenter that it is a part of."""
    preparation: Preparation
    """How its input was prepared; a segmenter should use the same."""
    data: str = ""
    """What it was trained on."""
    terms: str = ""
    """Under which terms that data, and so these weights, may be used."""
    training: str = ""
    """How it was trained: machine, steps, time, recipe."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Measured quality, e.g. {'held-out accuracy': 0.8, 'chance': 0.042}."""
    use: str = NOT_DIAGNOSTIC
    """What it may be used for."""
    file: str = ""
    """Weight file beside the card; set when it is saved."""
    sha256: str = ""
    """Of the weight file; set when it is saved."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise BadCard(
                f"encoder name {self.name!r} may hold letters, digits and _ . - only, and must begin with a "
                "letter or digit"
            )
        if self.slots not in (1, len(self.sequences)) or self.network.sequences != len(self.sequences):
            raise BadCard(
                f"an encoder of the {len(self.sequences)} sequences {', '.join(self.sequences)} has 1 slot "
                f"or one for each, and a network of as many: "
                f"got {self.slots} slots and a network of {self.network.sequences}"
            )
        if (self.file or self.sha256) and (
            Path(self.file).name != self.file or not re.fullmatch(r"[0-9a-f]{64}", self.sha256)
        ):
            raise BadCard(
                f"file must be a bare file name and sha256 its 64 hexadecimal digits, got {self.file!r}, "
                f"{self.sha256!r}"
            )


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A card and its weights."""

    card: EncoderCard
    """What it is."""
    state: Mapping[str, torch.Tensor]
    """Weights by name, as a segmenter names them."""
    folder: Path
    """Where it was read from."""


@dataclass(frozen=True)
class Transfer:
    """Which weights of the segmenter came from where."""

    taken: tuple[str, ...]
    """Names that hold pre-trained weights now."""
    new: tuple[str, ...]
    """Names that keep their fresh ones."""


def save_pretrained(folder: Path | str, card: EncoderCard, network: torch.nn.Module) -> EncoderCard:
    """Write encoder (and decoder, if the card says so) and card, replacing one that is there; the task's own
    heads are left out.

    Returns:
        The card as written.

    Raises:
        BadWeights: weights that are not finite in half precision, or make a file above 16 MiB.
        StorageFailed: the disk refused.
    """
    folder = Path(folder)
    wanted = ("encoder.", "decoder.") if card.decoder else ("encoder.",)
    state = {
        name: half(name, tensor) for name, tensor in network.state_dict().items() if name.startswith(wanted)
    }
    data = safetensors.torch.save(state, metadata={"encoder": card.name, "version": card.version})
    if len(data) > LARGEST:
        size = len(data) / 2**20
        raise BadWeights(
            f"the weights of {card.name} take {size:.1f} MiB in half precision, the limit is "
            f"{LARGEST / 2**20:.0f}: use fewer channels"
        )
    digest = hashlib.sha256(data).hexdigest()
    card = replace(card, file=f"{card.name}-{digest[:12]}.safetensors", sha256=digest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / card.file, data)
        text = yaml.safe_dump(
            to_table(card), sort_keys=False, allow_unicode=True, width=140, default_flow_style=None
        )
        write_file(folder / ENCODER_FILE, text.encode("utf-8"))
    except OSError as error:
        raise StorageFailed(
            f"cannot save {card.name} in {folder}: {error.strerror or error}; what was there before is "
            f"unchanged"
        ) from error
    for old in folder.glob(f"{card.name}-*.safetensors"):
        if old.name != card.file:
            old.unlink(missing_ok=True)
    return card


def load_pretrained(folder_or_name: Path | str) -> Pretrained:
    """Read a pre-trained encoder by its folder, or by its name on the shelves of models.

    Raises:
        NotFound: there is none.
        BadCard: the card cannot be used.
        BadWeights: the file is missing or damaged.
    """
    folder = _folder(folder_or_name)
    path = folder / ENCODER_FILE
    try:
        table = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadCard(f"{path} is not readable YAML: {error}") from error
    card = from_table(EncoderCard, table, str(path))
    try:
        state = renewed(safetensors.torch.load(read_weights(folder, card)))
    except SafetensorError as error:
        raise BadWeights(f"{folder / card.file} is not a safetensors file: {error}") from error
    return Pretrained(card, {name: tensor.float() for name, tensor in state.items()}, folder)


def load_parent(folder_or_name: Path | str) -> Model | Pretrained:
    """What a training may start from: a whole model, or a pre-trained encoder.

    Raises:
        See `load_model` and `load_pretrained`.
    """
    try:
        return load_pretrained(folder_or_name)
    except NotFound:
        return load_model(folder_or_name)


def transfer(
    parent: Pretrained, network: Segmenter, sequences: Sequence[str], fresh: Sequence[str] = ()
) -> Transfer:
    """Give a segmenter the weights of a pre-trained encoder.

    Args:
        parent: the encoder.
        network: fresh; changed in place.
        sequences: the names of its slots.
        fresh: parts out of `PARTS` that keep the segmenter's own weights, e.g. ('context',).

    Raises:
        BadWeights: an unknown part; networks that do not fit; a weight that the map does not know, on either
            side.
    """
    _check_parts(fresh)
    _check_fit(parent.card, network.config, fresh)
    left_out = tuple(prefix for part in fresh for prefix in PARTS[part])
    state = (
        {name: tensor for name, tensor in parent.state.items() if not name.startswith(left_out)}
        if left_out
        else dict(parent.state)
    )
    wanted = network.state_dict()
    if PROJECT in state:
        state |= _slots(parent.card, state, wanted, _slot_names(sequences, network.config))
    if parent.card.slots == 1:
        # of a slot that is never missing
        state = {name: tensor for name, tensor in state.items() if name not in MISSING}
    may_be_new = (
        *ALWAYS_NEW,
        *left_out,
        *(() if parent.card.decoder else PARTS["decoder"]),
        *(MISSING if parent.card.slots == 1 else ()),
    )
    where = f"{parent.card.name} {parent.card.version}"
    if surprise := sorted(set(state) - set(wanted)):
        raise BadWeights(
            f"{where} holds weights that the segmenter does not have: {_some(surprise)}; if they are to "
            f"be left out, name their part as fresh"
        )
    if missing := sorted(name for name in set(wanted) - set(state) if not name.startswith(may_be_new)):
        raise BadWeights(
            f"{where} lacks weights that the segmenter needs: {_some(missing)}; if they are to start "
            f"anew, name their part as fresh"
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise BadWeights(
                f"{where}: {name} has shape {tuple(tensor.shape)}, the segmenter needs "
                f"{tuple(wanted[name].shape)}"
            )
    network.load_state_dict(wanted | state)
    return Transfer(tuple(sorted(state)), tuple(sorted(set(wanted) - set(state))))


def _slots(
    card: EncoderCard,
    state: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    sequences: tuple[str, ...],
) -> dict[str, torch.Tensor]:
    """Projection, gain and shift for the segmenter's slots.

    One slot P becomes M slots P/M + (F_m - mean F), F being the segmenter's fresh slots. They add up to P,
    and each has the variance of a fresh slot, so no slot equals another. Copies of P/M alone would make the
    network blind to which sequence is which. A sequence that an encoder of several slots does not know gets
    the mean of its slots.
    """
    project = state[PROJECT]  # slots C' C
    if card.slots == 1:
        fresh = wanted[PROJECT]  # M C' C
        return {PROJECT: project / len(sequences) + fresh - fresh.mean(dim=0)}
    place = {name: slot for slot, name in enumerate(_slot_names(card.sequences, card.network))}

    def of(table: torch.Tensor) -> torch.Tensor:
        return torch.stack([table[place[name]] if name in place else table.mean(dim=0) for name in sequences])

    return {name: of(state[name]) for name in (PROJECT, *MISSING)}


def _slot_names(sequences: Sequence[str], config: SegmenterConfig) -> tuple[str, ...]:
    """Names of the fusion's slots, those of the derived sequences as 't1c - t1n'."""
    return (*sequences, *(f"{sequences[a]} - {sequences[b]}" for a, b in config.differences))


def _check_parts(fresh: Sequence[str]) -> None:
    if unknown := [part for part in fresh if part not in PARTS]:
        raise BadWeights(
            f"unknown part {', '.join(map(repr, unknown))} of a network: choose out of {', '.join(PARTS)}"
        )


def _check_fit(card: EncoderCard, config: SegmenterConfig, fresh: Sequence[str]) -> None:
    """Settings that do not show in the weights' shapes, such as dilations, must be the same too."""
    ignored = {*FREE, *(("context", "context_levels", "context_dilations") if "context" in fresh else ())}
    pairs = [
        (f.name, getattr(card.network, f.name), getattr(config, f.name))
        for f in dataclasses.fields(SegmenterConfig)
        if f.name not in ignored
    ]
    if unlike := [f"{name}: {theirs} there, {ours} here" for name, theirs, ours in pairs if theirs != ours]:
        raise BadWeights(
            f"{card.name} was trained for another network ({'; '.join(unlike)}): use its recipe's "
            f"network, or pre-train again"
        )


def _folder(folder_or_name: Path | str) -> Path:
    folder = Path(folder_or_name)
    if (folder / ENCODER_FILE).is_file():
        return folder
    name = str(folder_or_name)
    if name and folder.name == name and name != "..":
        for shelf in shelves():
            if (shelf / name / ENCODER_FILE).is_file():
                return shelf / name
    raise NotFound(
        f"no pre-trained encoder {name!r}: give a folder that holds {ENCODER_FILE}, or the name of "
        f"one in {', '.join(map(str, shelves()))}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
