"""Where models live: a folder with `card.yaml` and one safetensors file in half precision that the card names
by its sha256.

Saving writes the new weights beside the old ones, under a name made of their sha256, and only then replaces
the card. So at every instant, a power cut included, the card names a complete file: the old pair or the new
one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from slem_app.errors import BadWeights, NotFound, StorageFailed
from slem_app.network import Segmenter, build
from slem_app.weights.card import CARD_FILE, Card, card_text, load_card

__all__ = ["Model", "find", "load_model", "model_names", "save_model"]

PRETRAINED = Path(__file__).parents[2] / "pretrained"
LARGEST = 16 * 2**20  # bytes of a weight file


@dataclass(frozen=True, eq=False)
class Model:
    """A card and the network with its weights, ready to run."""

    card: Card
    """What it is."""
    network: Segmenter
    """In evaluation mode, on its device, single precision."""
    folder: Path
    """Where it was read from."""


def shelves() -> tuple[Path, ...]:
    """Folders that hold models, in order of precedence: those of the environment variable SLEM_MODELS, then
    the bundled ones.
    """
    return (*(Path(part) for part in os.environ.get("SLEM_MODELS", "").split(os.pathsep) if part), PRETRAINED)


def model_names() -> tuple[str, ...]:
    """Names of all models that `find` knows."""
    return tuple(sorted({card.parent.name for shelf in shelves() for card in shelf.glob(f"*/{CARD_FILE}")}))


def find(name: str) -> Path:
    """The folder of the model called `name`.

    Raises:
        NotFound: there is none, or the name is a path.
    """
    if name and Path(name).name == name and name != "..":
        for shelf in shelves():
            if (shelf / name / CARD_FILE).is_file():
                return shelf / name
    raise NotFound(
        f"no model {name!r}; known: {', '.join(model_names()) or 'none'} (looked in "
        f"{', '.join(map(str, shelves()))}; more folders: SLEM_MODELS)"
    )


def load_model(folder_or_name: Path | str, device: str | torch.device = "cpu") -> Model:
    """Read a model, weights checked against the card.

    Args:
        folder_or_name: a folder with a card, or a name for `find`.
        device: where the network is to run.

    Raises:
        NotFound: no such model.
        BadCard: the card cannot be used.
        BadWeights: the file is missing, damaged, not the card's, or does not fit the network.
    """
    folder = Path(folder_or_name)
    if not (folder / CARD_FILE).is_file():
        folder = find(str(folder_or_name))
    card = load_card(folder)
    if not (folder / card.file).is_file() and load_card(folder) != card:
        card = load_card(folder)  # replaced by another process between the two readings
    data = read_weights(folder, card)
    try:
        state = renewed(safetensors.torch.load(data))
    except SafetensorError as error:
        raise BadWeights(f"{folder / card.file} is not a safetensors file: {error}") from error
    network = build(card.network)
    _check(state, network.state_dict(), folder / card.file)
    network.load_state_dict(state)  # copies into single precision
    network = network.to(device=device, memory_format=torch.channels_last_3d)
    return Model(card, network.eval().requires_grad_(False), folder)


def save_model(folder: Path | str, card: Card, network: torch.nn.Module) -> Card:
    """Write weights and card, replacing a model that is there.

    Args:
        folder: made if it is not there.
        card: `file` and `sha256` are filled in.
        network: its weights are stored in half precision.

    Returns:
        The card as written.

    Raises:
        BadWeights: weights that do not fit the card, are not finite in half precision, or make a file above
            16 MiB.
        StorageFailed: the disk refused; the model that was there is untouched.
    """
    folder = Path(folder)
    state = {name: half(name, tensor) for name, tensor in network.state_dict().items()}
    _check(state, build(card.network).state_dict(), folder)
    data = safetensors.torch.save(state, metadata={"model": card.name, "version": card.version})
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
        write_file(folder / CARD_FILE, card_text(card).encode("utf-8"))
    except OSError as error:
        raise StorageFailed(
            f"cannot save {card.name} in {folder}: {error.strerror or error}; what was there before is "
            f"unchanged"
        ) from error
    for old in folder.glob(f"{card.name}-*.safetensors*"):
        if old.name != card.file:
            with contextlib.suppress(OSError):  # a leftover does no harm
                old.unlink()
    return card


def read_weights(folder: Path, card: Card) -> bytes:
    """The bytes of the file that a card (of a model or an encoder) names, checked against it."""
    path = folder / card.file
    if not card.file or not path.is_file():
        raise BadWeights(
            f"the card in {folder} names the weight file {card.file!r}, which is not there: fetch or "
            f"train it again"
        )
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise BadWeights(
            f"{path} is damaged or of another model: sha256 {digest[:12]}... but the card says "
            f"{card.sha256[:12]}...; fetch it again"
        )
    return data


def renewed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights under their present names.

    Before `gain` and `shift` the fusion had a `substitute` for each missing sequence, a constant that the
    norm behind it took out again: it did nothing, and is replaced by a gain and shift that do nothing. Every
    other name that the network does not know is left to fail.
    """
    old = state.get("encoder.fusion.substitute")
    if old is None:
        return state
    rest = {name: tensor for name, tensor in state.items() if name != "encoder.fusion.substitute"}
    return {
        **rest,
        "encoder.fusion.gain": torch.zeros_like(old),
        "encoder.fusion.shift": torch.zeros_like(old),
    }


def _check(state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], path: Path) -> None:
    if surprise := sorted(set(state) - set(wanted)):
        raise BadWeights(f"{path} holds weights that the card's network does not have: {_some(surprise)}")
    if missing := sorted(set(wanted) - set(state)):
        raise BadWeights(f"{path} lacks weights that the card's network has: {_some(missing)}")
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise BadWeights(
                f"{path}: {name} has shape {tuple(state[name].shape)}, the card's network needs "
                f"{tuple(tensor.shape)}"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def half(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A weight as it is stored; refuses one that half precision cannot hold."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.half()
        if not torch.isfinite(tensor).all():
            raise BadWeights(
                f"{name} is not finite in half precision (NaN, or above 65504): the training has diverged"
            )
    return tensor.contiguous()


def write_file(path: Path, data: bytes) -> None:
    """Write beside the place, bring to the disk, rename: a reader sees the old file or the whole new one."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else the name may be lost in a power cut
    finally:
        os.close(folder)
