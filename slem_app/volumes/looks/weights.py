"""Weights of what names sequences, and what is told of them: `names.yaml` beside one file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import slem_app
from slem_app.errors import BadCard
from slem_app.volumes.card_and_weights import fill, read_table, save
from slem_app.volumes.looks.network import LooksNetwork

__all__ = ["BUNDLED", "CARD", "LooksCard", "load_looks_network", "save_looks_network"]

BUNDLED = Path(slem_app.__file__).parent / "pretrained" / "slem_names"
CARD = "names.yaml"


@dataclass(frozen=True)
class LooksCard:
    """What is told of the model."""

    name: str
    """How it is called."""
    version: str
    """Of the weights."""
    description: str
    """What it does."""
    kinds: tuple[str, ...]
    """Of the mean images that an image is compared with."""
    settles: float
    """Probability from which it names a series that names and headers do not."""
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
        if not 0.5 < self.settles <= 1:
            raise BadCard(f"{self.name}: settles {self.settles} must be a probability above 0.5")


def save_looks_network(folder: Path, card: LooksCard, network: LooksNetwork) -> LooksCard:
    """Write weights and card; returns the card with the file's name and sha256."""
    return save(folder, CARD, card, network)


@lru_cache(maxsize=2)
def load_looks_network(folder: Path = BUNDLED) -> tuple[LooksCard, LooksNetwork]:
    """Card and network, ready to run on the processor; read once.

    Raises:
        NotFound, BadCard: no card, or one that cannot be read.
        BadWeights: the file is missing, is not the card's, or does not fit the network.
    """
    table = read_table(folder, CARD, "model that names sequences")
    try:
        card = LooksCard(**table)
    except TypeError as error:
        raise BadCard(f"{folder / CARD}: it cannot be read as such a card ({error})") from error
    network = LooksNetwork(len(card.kinds))
    fill(network, folder, card)
    return card, network
