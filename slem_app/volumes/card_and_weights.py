"""A small network that helps to read images: a card in YAML beside one file of weights, which it names."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError

from slem_app.errors import BadCard, BadWeights, NotFound
from slem_app.files import atomic_file
from slem_app.yaml_tables import load_yaml

__all__ = ["fill", "read_table", "save"]


class Card(Protocol):
    """What is told of such a network."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    @property
    def file(self) -> str: ...

    @property
    def sha256(self) -> str: ...


SomeCard = TypeVar("SomeCard", bound=Card)


def save(folder: Path, card_file: str, card: SomeCard, network: torch.nn.Module) -> SomeCard:
    """Write weights in half precision, and the card; returns it with the file's name and sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    data = safetensors.torch.save({key: value.half() for key, value in network.state_dict().items()})
    digest = hashlib.sha256(data).hexdigest()
    card = replace(card, file=f"{card.name}-{digest[:12]}.safetensors", sha256=digest)
    with atomic_file(folder / card.file) as file:
        file.write(data)
    table = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(card).items()}
    with atomic_file(folder / card_file) as file:
        file.write(yaml.safe_dump(table, sort_keys=False, width=140, allow_unicode=True).encode())
    return card


def read_table(folder: Path, card_file: str, what: str) -> dict[str, Any]:
    """The card of a folder as a table; lists are tuples.

    Raises:
        NotFound: there is none.
        BadCard: it cannot be read.
    """
    path = folder / card_file
    if not path.is_file():
        raise NotFound(f"no {what} in {folder}: it has no {card_file}")
    try:
        table = load_yaml(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadCard(f"{path}: it cannot be read as the card of a {what} ({error})") from error
    if not isinstance(table, dict):
        raise BadCard(f"{path}: it cannot be read as the card of a {what} (no table)")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def fill(network: torch.nn.Module, folder: Path, card: Card) -> torch.nn.Module:
    """Put the weights that a card names into its network; returns it, ready to run.

    Raises:
        BadWeights: the file is missing, is not the card's, or does not fit the network.
    """
    path = folder / card.file
    if not path.is_file():
        raise BadWeights(f"{path} is missing: install the package again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise BadWeights(f"{path} is damaged, or not the file that its card names: install the package again")
    try:
        network.load_state_dict({key: value.float() for key, value in safetensors.torch.load(data).items()})
    except (SafetensorError, RuntimeError) as error:
        raise BadWeights(f"{path} does not fit the network of its card: {error}") from error
    return network.eval().requires_grad_(False)
