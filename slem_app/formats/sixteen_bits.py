"""Values of any type as the 16 bit numbers of a DICOM image, with the slope and intercept that give them back
(PS3.3 C.11.1), and the window in which a viewer shows them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.valuerep import DSfloat

__all__ = ["SixteenBits"]

STEPS = 2**16 - 1
SIGNED, UNSIGNED = np.dtype("<i2"), np.dtype("<u2")
WINDOW = (1.0, 99.5)  # percentiles of what is not empty
SAMPLED = 2**20  # voxels that tell the window


@dataclass(frozen=True, eq=False)
class SixteenBits:
    """An image as it is stored."""

    array: np.ndarray
    """int16 or uint16, little endian."""
    slope: float
    """A value is stored * slope + intercept."""
    intercept: float
    """See `slope`."""
    window: tuple[float, float]
    """Centre and width, in values."""

    @classmethod
    def of(cls, array: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> SixteenBits:
        """An image in 16 bits. Whole numbers that span at most 65535 stay exactly what they are; of others
        the error is at most half a 65535th of what they span. What is not finite becomes the lowest value.

        Args:
            array: stored numbers of any real type.
            slope: a value is array * slope + intercept.
            intercept: see `slope`.
        """
        low, high = _range(array)
        whole = array.dtype.kind in "iub" or _is_whole(array)
        if whole and high - low <= STEPS:
            stored, base = _shifted(array, low, high)
            step, start = slope, intercept + slope * base
        else:
            step = slope * _step(low, high)
            start = _short(intercept + slope * low)
            stored = _spread(array, low, high)
        return cls(stored, step, start, _window(stored, step, start))

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.array.nbytes


def _range(array: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest finite number; 0 and 0 where there is none."""
    low, high = float(array.min()), float(array.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high
    finite = array[np.isfinite(array)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _is_whole(array: np.ndarray) -> bool:
    """Whether every number is a whole one; a few are looked at first, which mostly show it if not."""
    few = array[tuple(slice(None, None, max(1, n // 16)) for n in array.shape)]
    return all(bool((np.isfinite(part) & (part == np.rint(part))).all()) for part in (few, array))


def _shifted(array: np.ndarray, low: float, high: float) -> tuple[np.ndarray, float]:
    """Whole numbers in 16 bits, and what is to be added to them."""
    if low >= 0 and high <= STEPS:
        return array.astype(UNSIGNED, order="K"), 0.0
    if low >= -(2**15) and high < 2**15:
        return array.astype(SIGNED, order="K"), 0.0
    # in doubles no whole number of 16 bits span is rounded but in 64 bit images above 2**53
    return (array.astype(np.float64, order="K") - low).astype(UNSIGNED, order="K"), low


def _spread(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers over all of 16 bits, the lowest as 0."""
    values = np.nan_to_num(array.astype(np.float64, order="K"), nan=low, posinf=low, neginf=low)
    values -= low
    values /= _step(low, high)
    np.rint(values, out=values)
    return values.clip(0, STEPS, out=values).astype(UNSIGNED, order="K")


def _step(low: float, high: float) -> float:
    """Between two of the numbers that 16 bits tell apart."""
    return _short((high - low) / STEPS) if high > low else 1.0


def _short(number: float) -> float:
    """The number as a decimal string of 16 characters holds it (PS3.5 section 6.2)."""
    return float(DSfloat(number, auto_format=True))


def _window(stored: np.ndarray, slope: float, intercept: float) -> tuple[float, float]:
    """Centre and width of the values that are not empty, as a linear window has them (PS3.3 C.11.2.1.2.1):
    half a unit beside the middle and one unit wider, so that they are right for narrow windows, too.
    """
    step = max(1, round((stored.size / SAMPLED) ** (1 / stored.ndim)))
    few = stored[(slice(None, None, step),) * stored.ndim]
    inside = few[few > few.min()]
    ends = np.percentile(inside, WINDOW) if inside.size else np.array([float(few.min())] * 2)
    low, high = sorted((ends * slope + intercept).tolist())
    return (low + high) / 2 + 0.5, high - low + 1
