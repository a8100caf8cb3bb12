"""Where models live: a folder with `card.yaml` and one safetensors file in half precision that the card names
by its sha256.

Saving writes the new weights beside the old ones, under a name made of their sha256, and only then replaces
the card. So at every instant, a power cut included, the card names a complete file: the old pair or the new
one.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from slem_app.errors import BadCard, BadWeights, StorageFailed
from slem_app.network import Segmenter, build, channels_last
from slem_app.weights.card import Card, card_text, load_card
from slem_app.weights.editor import EDITOR_FILE, EditorModel, load_editor, save_editor
from slem_app.weights.files import check_fits, half, read_weights, write_file
from slem_app.weights.folders import CARD_FILE, DETAIL_FILE, find, model_folder

__all__ = ["Model", "load_model", "save_model"]

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
    editor: EditorModel | None = None
    """What answers prompts; None: a rule does."""
    detail: Model | None = None
    """What looks again at what this one found, at finer voxels; None: nothing does."""

    @property
    def own_detail(self) -> Model | None:
        """What looks again, where it lies in this model's folder; None where its card names it alone."""
        return self.detail if self.detail is not None and self.detail.folder == self.folder else None

    @property
    def own_editor(self) -> EditorModel | None:
        """The editor, likewise."""
        return self.editor if self.editor is not None and self.editor.folder == self.folder else None


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
    model = _load(model_folder(folder_or_name), CARD_FILE, device)
    card = model.card
    editor = _load_editor(card, model.folder, device) if card.editor else None
    detail = _load_detail(card, model.folder, device) if card.detail else None
    return replace(model, editor=editor, detail=detail)


def _load_editor(card: Card, folder: Path, device: str | torch.device) -> EditorModel:
    """The editor of the model of `card`: that of its own folder, where a learning round has made one, else
    the one of that name.

    Raises:
        As `load_model`; BadCard too where it does not see all of the model's sequences.
    """
    own = (folder / EDITOR_FILE).is_file()
    editor = load_editor(folder if own else card.editor, device)
    if unseen := [name for name in card.sequences if name not in editor.card.sequences]:
        raise BadCard(
            f"{card.name} is corrected by {card.editor}, which sees the sequences "
            f"{', '.join(editor.card.sequences)}: it must see {', '.join(unseen)}, too"
        )
    return editor


def _load_detail(card: Card, folder: Path, device: str | torch.device) -> Model:
    """The model that looks again at what the one of `card` found: that of its own folder, where a learning
    round has made one, else the one of that name.

    Raises:
        As `load_model`; BadCard too where it segments something else.
    """
    own = (folder / DETAIL_FILE).is_file()
    detail = _load(folder if own else find(card.detail, DETAIL_FILE), DETAIL_FILE, device)
    if (detail.card.sequences, detail.card.labels) != (card.sequences, card.labels):
        raise BadCard(
            f"{card.name} lets {card.detail} look again, which has other sequences or labels: it must "
            f"have the same"
        )
    return detail


def _load(folder: Path, name: str, device: str | torch.device) -> Model:
    """One network with its card, the file called `name`."""
    card = load_card(folder, name)
    if not (folder / card.file).is_file() and load_card(folder, name) != card:
        card = load_card(folder, name)  # replaced by another process between the two readings
    data = read_weights(folder, card)
    try:
        state = renewed(safetensors.torch.load(data))
    except SafetensorError as error:
        raise BadWeights(f"{folder / card.file} is not a safetensors file: {error}") from error
    network = build(card.network)
    check_fits(state, network.state_dict(), folder / card.file)
    network.load_state_dict(state)  # copies into single precision
    return Model(card, channels_last(network, device).eval().requires_grad_(False), folder)


def save_model(
    folder: Path | str,
    card: Card,
    network: torch.nn.Module,
    detail: Model | None = None,
    editor: EditorModel | None = None,
) -> Card:
    """Write weights and card, replacing a model that is there.

    Args:
        folder: made if it is not there.
        card: `file` and `sha256` are filled in.
        network: its weights are stored in half precision.
        detail: what looks again, where this model has one of its own and not the one that the card names.
        editor: the editor, likewise.

    Returns:
        The card as written.

    Raises:
        BadWeights: weights that do not fit the card, are not finite in half precision, or make a file above
            16 MiB.
        StorageFailed: the disk refused; the model that was there is untouched.
    """
    folder = Path(folder)
    kept = [] if detail is None else [_save(folder, detail.card, detail.network, DETAIL_FILE).file]
    kept += [] if editor is None else [save_editor(folder, editor.card, editor.network).file]
    card = _save(folder, card, network, CARD_FILE)
    for old in folder.glob(f"{card.name}-*.safetensors*"):
        if old.name not in (card.file, *kept):
            with contextlib.suppress(OSError):  # a leftover does no harm
                old.unlink()
    return card


def _save(folder: Path, card: Card, network: torch.nn.Module, name: str) -> Card:
    """One network with its card, the file called `name`; errors as those of `save_model`."""
    state = {name: half(name, tensor) for name, tensor in network.state_dict().items()}
    check_fits(state, build(card.network).state_dict(), folder)
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
        write_file(folder / name, card_text(card).encode("utf-8"))
    except OSError as error:
        raise StorageFailed(
            f"cannot save {card.name} in {folder}: {error.strerror or error}; what was there before is "
            f"unchanged"
        ) from error
    return card


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
