"""Weight files: where they lie, how they are written and checked against the card that names them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import torch

from slem_app.errors import BadWeights
from slem_app.files import replacing

__all__ = ["check_fits", "half", "read_weights", "write_file"]


class Named(Protocol):
    """A card that names its weight file."""

    @property
    def file(self) -> str: ...

    @property
    def sha256(self) -> str: ...


def read_weights(folder: Path, card: Named) -> bytes:
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


def check_fits(state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], path: Path) -> None:
    """Refuse weights whose names or shapes are not those of a network.

    Raises:
        BadWeights: they are not.
    """
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
    """Write a file whole or not at all.

    Raises:
        OSError: the disk refused; what was there before still is.
    """
    with replacing(path) as file:
        file.write(data)
