"""The editor of a model on disk: a folder with `editor.yaml` and one safetensors file in half precision that
it names by its sha256. A model's card names its editor; several versions of a model share one, until a
learning round has made one that lies in the version's own folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError

from slem_app.errors import BadCard, BadWeights, NotFound, StorageFailed
from slem_app.network import EditorConfig, EditorNetwork, channels_last
from slem_app.weights.fields import from_table, to_table
from slem_app.weights.files import check_fits, half, read_weights, write_file
from slem_app.weights.folders import shelves
from slem_app.yaml_tables import load_yaml

__all__ = ["EDITOR_FILE", "EditorCard", "EditorModel", "load_editor", "save_editor"]

EDITOR_FILE = "editor.yaml"


@dataclass(frozen=True)
class EditorCard:
    """Everything about an editor but its weights.

    Raises:
        BadCard: parts that contradict each other.
    """

    name: str
    """Folder name, e.g. 'slem_brain_editor'."""
    version: str
    """Of these weights."""
    description: str
    """One or two sentences for people."""
    sequences: tuple[str, ...]
    """In the order of its slots."""
    network: EditorConfig
    """Its shape."""
    spacing: float = 1.0
    """mm a voxel of the finest view."""
    view: int = 48
    """Voxels of a view along each axis."""
    scales: tuple[int, ...] = (1, 2)
    """Sizes of voxels, in `spacing`, of the views around a prompt, finest first."""
    data: str = ""
    """What it was trained on."""
    terms: str = ""
    """Under which terms that data, and so these weights, may be used."""
    training: str = ""
    """How it was trained."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Measured quality."""
    file: str = ""
    """Weight file beside the card; set when it is saved."""
    sha256: str = ""
    """Of the weight file; set when it is saved."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise BadCard(f"editor name {self.name!r} may hold letters, digits and _ . - only")
        if len(self.sequences) != self.network.sequences:
            raise BadCard(
                f"{self.name}: the network has {self.network.sequences} slots, the card names "
                f"{len(self.sequences)} sequences"
            )
        if self.view % self.network.multiple or not self.scales or self.spacing <= 0:
            raise BadCard(
                f"{self.name}: view must be a multiple of {self.network.multiple}, scales not empty, spacing "
                f"positive"
            )


@dataclass(frozen=True, eq=False)
class EditorModel:
    """A card and the network with its weights, ready to run."""

    card: EditorCard
    """What it is."""
    network: EditorNetwork
    """In evaluation mode, on its device, single precision."""
    folder: Path = Path()
    """Where it was read from; the present folder: nowhere."""


def load_editor(folder_or_name: Path | str, device: str | torch.device = "cpu") -> EditorModel:
    """Read an editor, weights checked against its card.

    Args:
        folder_or_name: a folder with an `editor.yaml`, or the name of one on the shelves of `find`.
        device: where the network is to run.

    Raises:
        NotFound: no such editor.
        BadCard: the card cannot be used.
        BadWeights: the file is missing, damaged, not the card's, or does not fit the network.
    """
    folder = _folder(folder_or_name)
    path = folder / EDITOR_FILE
    try:
        table = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadCard(f"{path} is not readable YAML: {error}") from error
    card = from_table(EditorCard, table, str(path))
    try:
        state = safetensors.torch.load(read_weights(folder, card))
    except SafetensorError as error:
        raise BadWeights(f"{folder / card.file} is not a safetensors file: {error}") from error
    network = EditorNetwork(card.network)
    check_fits(state, network.state_dict(), folder / card.file)
    network.load_state_dict(state)
    return EditorModel(card, channels_last(network, device).eval().requires_grad_(False), folder)


def save_editor(folder: Path | str, card: EditorCard, network: torch.nn.Module) -> EditorCard:
    """Write weights and card; returns the card as written.

    Raises:
        BadWeights: weights that are not finite in half precision.
        StorageFailed: the disk refused.
    """
    folder = Path(folder)
    state = {name: half(name, tensor) for name, tensor in network.state_dict().items()}
    data = safetensors.torch.save(state, metadata={"model": card.name, "version": card.version})
    digest = hashlib.sha256(data).hexdigest()
    card = replace(card, file=f"{card.name}-{digest[:12]}.safetensors", sha256=digest)
    text = yaml.safe_dump(
        to_table(card), sort_keys=False, allow_unicode=True, width=140, default_flow_style=None
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / card.file, data)
        write_file(folder / EDITOR_FILE, text.encode("utf-8"))
    except OSError as error:
        raise StorageFailed(f"cannot save {card.name} in {folder}: {error.strerror or error}") from error
    return card


def _folder(folder_or_name: Path | str) -> Path:
    given = Path(folder_or_name)
    places = [given, *(shelf / given for shelf in shelves() if given.name == str(folder_or_name))]
    for place in places:
        if (place / EDITOR_FILE).is_file():
            return place
    raise NotFound(f"no editor {str(folder_or_name)!r}: no {EDITOR_FILE} in {', '.join(map(str, places))}")
