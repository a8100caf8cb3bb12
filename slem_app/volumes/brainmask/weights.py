"""A mask network's weights and what is told of them: `mask.yaml` beside one file.

Two kinds: our own network (`MaskNetwork`), and the first of deepbet's two networks, which looks
at a whole head (`LinkNet`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

import slem_app
from slem_app.errors import BadCard
from slem_app.volumes.brainmask.deepbet import LinkNet
from slem_app.volumes.brainmask.network import MaskNetwork
from slem_app.volumes.card_and_weights import fill, read_table, save

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
    return save(folder, CARD, replace(card, kind="slem", channels=network.channels), network)


def read_card(folder: Path) -> MaskCard:
    """The card of a folder.

    Raises:
        NotFound: there is none.
        BadCard: it cannot be read.
    """
    table = read_table(folder, CARD, "mask network")
    try:
        return MaskCard(**table)
    except TypeError as error:
        path = folder / CARD
        raise BadCard(f"{path}: it cannot be read as the card of a mask network ({error})") from error


@lru_cache(maxsize=2)
def load_mask_network(folder: Path = BUNDLED) -> tuple[MaskCard, torch.nn.Module]:
    """Card and network, ready to run on the processor; read once.

    Raises:
        NotFound, BadCard: no card, or one that cannot be read.
        BadWeights: the file is missing, is not the card's, or does not fit the network.
    """
    card = read_card(folder)
    network = LinkNet() if card.kind == "deepbet" else MaskNetwork(card.channels)
    filled = fill(network, folder, card)
    return card, filled.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
