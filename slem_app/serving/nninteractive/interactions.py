"""The fields of nnInteractive's requests as values. Numbers may come as 12.0; whatever else is not a whole
number is rounded, as its own server does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from slem_app.errors import BadPrompt, BadSetting
from slem_app.serving.nninteractive import arrays
from slem_app.serving.values import boolean

__all__ = [
    "read_box",
    "read_flag",
    "read_image",
    "read_mask",
    "read_point",
    "read_spacing",
    "read_target_shape",
]

FARTHEST = 2**31
Index = tuple[int, int, int]


def read_flag(fields: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """A field that is true or false.

    Raises:
        BadSetting: anything else.
    """
    return boolean(name, fields.get(name), default)


def read_point(fields: Mapping[str, Any]) -> Index:
    """The field `coordinates`: a voxel.

    Raises:
        BadPrompt: not three numbers.
    """
    first, second, third = (round(value) for value in _numbers(fields.get("coordinates"), 3, "coordinates"))
    return first, second, third


def read_box(fields: Mapping[str, Any]) -> tuple[Index, Index]:
    """The field `bbox_coords`, [first, end) along each axis, as two voxels, both included.

    Raises:
        BadPrompt: anything else, or an axis along which there is nothing in it.
    """
    value = fields.get("bbox_coords")
    if not isinstance(value, list) or len(value) != 3:
        raise BadPrompt(f"bbox_coords is {_short(value)}: three pairs [first, end] are needed")
    ends = [sorted(_numbers(pair, 2, "bbox_coords")) for pair in value]
    if any(low == high for low, high in ends):
        raise BadPrompt(f"bbox_coords {_short(value)} is empty along an axis: end must be above first")
    low = [round(pair[0]) for pair in ends]
    high = [max(round(pair[1]) - 1, round(pair[0])) for pair in ends]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def read_spacing(meta: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """The spacing in `image_properties`, mm along the axes of the array; None where it is not said.

    Raises:
        BadPrompt: anything but three positive numbers.
    """
    properties = meta.get("image_properties") or {}
    if not isinstance(properties, dict):
        raise BadPrompt(f"image_properties is {_short(properties)}: an object is needed")
    value = properties.get("spacing")
    if value is None:
        return None
    spacing = _numbers(value, 3, "spacing")
    if min(spacing) < 1e-3 or max(spacing) > 1e3:
        raise BadPrompt(f"spacing is {_short(value)}: three lengths in mm from 0.001 to 1000 are needed")
    return spacing[0], spacing[1], spacing[2]


def read_target_shape(fields: Mapping[str, Any]) -> Index:
    """The shape of the client's target: three positive whole numbers; its `dtype` must hold 0 and 1.

    Raises:
        BadSetting: anything else.
    """
    shape, dtype = fields.get("shape"), str(fields.get("dtype"))
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(type(length) is int and 0 < length < FARTHEST for length in shape)
    ):
        raise BadSetting(f"shape is {_short(shape)}: three positive whole numbers are needed")
    if dtype not in arrays.TYPES or dtype.startswith("float"):
        raise BadSetting(f"dtype is {dtype[:20]!r}: bool or a type of whole numbers is needed")
    return shape[0], shape[1], shape[2]


def read_image(body: bytes | bytearray, most: int) -> np.ndarray:
    """The image in a request: (1, the client's axes) values, of at most four bytes.

    Raises:
        BadVolume, TooLarge: none that can be used.
        BadPrompt: not one channel of three axes.
    """
    image = arrays.unpack(body, most, "the image")
    if image.ndim != 4 or image.shape[0] != 1:
        raise BadPrompt(
            f"the image has the shape {list(image.shape)}: one channel of three axes is needed, "
            f"[1, X, Y, Z]. The other sequences of a case are found by this server itself"
        )
    if image.dtype.itemsize > 4:
        image = image.astype(np.float32)
    return image.astype(np.uint8) if image.dtype == bool else image


def read_mask(body: bytes | bytearray, meta: Mapping[str, Any], shape: Index, most: int) -> np.ndarray:
    """The mask in a request, on the whole image.

    Args:
        body: the array, of the image, or of the box `interaction_bbox` in it.
        meta: the fields beside it.
        shape: of the image, the client's axes.
        most: bytes that it may take.

    Returns:
        (the client's axes) bool.

    Raises:
        BadPrompt: it does not lie on the image.
        BadVolume, TooLarge: it cannot be read.
    """
    array = arrays.unpack(body, most, "the mask")
    box = meta.get("interaction_bbox")
    if box is None:
        low = (0, 0, 0)
    else:
        low, last = read_box({"bbox_coords": box})
        size = tuple(b - a + 1 for a, b in zip(low, last, strict=True))
        if size != array.shape or min(low) < 0 or any(b >= n for b, n in zip(last, shape, strict=True)):
            raise BadPrompt(
                f"the mask has the shape {list(array.shape)} and the box {_short(box)}: they must be of one "
                f"size, inside the image of {list(shape)}"
            )
    if box is None and array.shape != shape:
        raise BadPrompt(
            f"the mask has the shape {list(array.shape)}, the image {list(shape)}: they must be the same"
        )
    whole = np.zeros(shape, dtype=bool)
    whole[tuple(slice(a, a + n) for a, n in zip(low, array.shape, strict=True))] = array > 0
    return whole


def _numbers(value: object, count: int, name: str) -> list[float]:
    numbers = value if isinstance(value, list) else []
    fits = all(type(one) in (int, float) and math.isfinite(one) and abs(one) < FARTHEST for one in numbers)
    if len(numbers) != count or not fits:
        raise BadPrompt(f"{name} is {_short(value)}: {count} numbers are needed")
    return [float(one) for one in numbers]


def _short(value: object) -> str:
    return repr(value)[:80]
