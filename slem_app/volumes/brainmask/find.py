"""From an image to its brain: a network, and what makes one solid piece of its answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from slem_app.errors import BadVolume
from slem_app.types import Grid, triple
from slem_app.volumes.brainmask.deepbet import SIDE
from slem_app.volumes.brainmask.network import mask_input
from slem_app.volumes.brainmask.weights import BUNDLED, load_mask_network
from slem_app.volumes.levels import Volume

__all__ = ["brain_probability", "one_piece"]


def brain_probability(volume: Volume, what: str, folder: Path = BUNDLED) -> tuple[np.ndarray, Grid]:
    """Where the brain is in an image of a whole head.

    Args:
        volume: as it was read.
        what: how to name it in an error.
        folder: of the mask network.

    Returns:
        (I, J, K) float32 probability of being brain, and its grid.

    Raises:
        BadVolume: an image that shows nothing.
        NotFound, BadCard, BadWeights: the mask network is not there or cannot be used.
    """
    card, network = load_mask_network(folder)
    if card.kind == "deepbet":
        return _deepbet(volume, what, network)
    image, grid = mask_input(volume.array, volume.grid, what)
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.ascontiguousarray(image))[None, None])
    return torch.sigmoid(logits)[0, 0].numpy(), grid


def _deepbet(volume: Volume, what: str, network: torch.nn.Module) -> tuple[np.ndarray, Grid]:
    """As deepbet 1.0.2 prepares it: the whole field of view in 128 x 128 x 128 voxels, nearest neighbours."""
    array, grid = _upright(volume)
    image = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None]
    image = torch.nn.functional.interpolate(image, (SIDE,) * 3, mode="nearest-exact")
    low, high = image.quantile(0.005), image.quantile(0.995)
    if not high > low:
        raise BadVolume(f"{what}: nearly every voxel has the value {float(low):g}: there is nothing to find")
    image = ((image - low) / (high - low)).clamp(0, 1)
    image = 0.226 * (image - image.mean()) / image.std() + 0.449
    with torch.inference_mode():
        share = network(image)[0, 1].numpy()
    step = np.array(grid.shape) / SIDE
    scale = np.diag([*step, 1.0])
    scale[:3, 3] = 0.5 * step - 0.5
    return share, Grid((SIDE,) * 3, grid.affine @ scale)


def _upright(volume: Volume) -> tuple[np.ndarray, Grid]:
    """The same voxels with axes that grow to the right, to the front and upwards, as nearly as they can."""
    letters = volume.grid.orientation
    order = [next(a for a in range(3) if letters[a] in pair) for pair in ("LR", "PA", "IS")]
    affine = volume.grid.affine.copy()
    affine[:3, :3] = volume.grid.affine[:3, order]
    array = volume.array.transpose(order)
    for axis, letter in enumerate("RAS"):
        if letters[order[axis]] != letter:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    return array, Grid(triple(array.shape), affine)


def one_piece(brain: np.ndarray) -> np.ndarray:
    """The largest part of an (I, J, K) bool mask, thin bridges to others cut, holes filled."""
    solid = ndimage.binary_opening(brain, iterations=2)
    parts, count = ndimage.label(solid)
    if count == 0:
        return np.zeros_like(brain)
    if count > 1:
        solid = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    near = ndimage.binary_dilation(solid, iterations=2) & brain  # what the opening took from its border
    return ndimage.binary_fill_holes(near)
