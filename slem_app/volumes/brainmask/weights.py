"""A mask network's weights and what is told of them: `mask.yaml` beside one file.

Two kinds: our own network (`MaskNetwork`), and the first of deepbet's two networks, which looks
at a whole head (`LinkNet`).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError

import slem_app
from slem_app.errors import BadCard, BadWeights, NotFound
from slem_app.files import atomic_file
from slem_app.volumes.brainmask.deepbet import LinkNet
from slem_app.volumes.brainmask.network import MaskNetwork
from slem_app.yaml_tables import load_yaml

__all__ = ["BUNDLED", "CARD", "MaskCard", "load_mask_network", "save_mask_network"]

BUNDLED = Path(slem_app.__file__).parent / "pretrained" / "slem_brainmask"
CARD = "mask.yaml"
KINDS = ("slem", "deepbet")


@dataclass(frozen=True)
class MaskCard:
    """What is told of a mask network."""

    name: str
    """How it is called."""
    version: str
    """Of the weights."""
    description: str
    """What it does."""
    kind: str
    """'slem' or 'deepbet': how an image is given to it."""
    channels: tuple[int, ...]
    """Of the levels of our own network; empty for another."""
    data: str
    """What it was trained on."""
    terms: str
    """Under which terms the weights may be used."""
    training: str
    """How it was trained."""
    figures: dict[str, float]
    """What was measured."""
    file: str = ""
    """Name of the weights' file."""
    sha256: str = ""
    """Of that file."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadCard(
                f"{self.name}: unknown kind of mask network {self.kind!r}: use {' or '.join(KINDS)}"
            )


def save_mask_network(folder: Path, card: MaskCard, network: MaskNetwork) -> MaskCard:
    """Write weights and card; returns the card with the file's name and sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    data = safetensors.torch.save({key: value.half() for key, value in network.state_dict().items()})
    digest = hashlib.sha256(data).hexdigest()
    card = replace(
        card,
        kind="slem",
        channels=network.channels,
        file=f"{card.name}-{digest[:12]}.safetensors",
        sha256=digest,
    )
    with atomic_file(folder / card.file) as file:
        file.write(data)
    table = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(card).items()}
    with atomic_file(folder / CARD) as file:
        file.write(yaml.safe_dump(table, sort_keys=False, width=140, allow_unicode=True).encode())
    return card


def read_card(folder: Path) -> MaskCard:
    """The card of a folder.

    Raises:
        NotFound: there is none.
        BadCard: it cannot be read.
    """
    path = folder / CARD
    if not path.is_file():
        raise NotFound(f"no mask network in {folder}: it has no {CARD}")
    try:
        table = load_yaml(path.read_text())
        return MaskCard(**{**table, "channels": tuple(table["channels"])})
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise BadCard(f"{path}: it cannot be read as the card of a mask network ({error})") from error


@lru_cache(maxsize=2)
def load_mask_network(folder: Path = BUNDLED) -> tuple[MaskCard, torch.nn.Module]:
    """Card and network, ready to run on the processor; read once.

    Raises:
        NotFound, BadCard: no card, or one that cannot be read.
        BadWeights: the file is missing, is not the card's, or does not fit the network.
    """
    card = read_card(folder)
    path = folder / card.file
    if not path.is_file():
        raise BadWeights(f"{path} is missing: install the package again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise BadWeights(f"{path} is damaged, or not the file that {CARD} names: install the package again")
    try:
        network = LinkNet() if card.kind == "deepbet" else MaskNetwork(card.channels)
        network.load_state_dict({key: value.float() for key, value in safetensors.torch.load(data).items()})
    except (SafetensorError, RuntimeError) as error:
        raise BadWeights(f"{path} does not fit the network of its card: {error}") from error
    return card, network.to(memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
