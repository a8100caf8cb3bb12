"""Values in 16 bits: what they are afterwards, and the window."""

import numpy as np
import pytest

from slem_app.formats.sixteen_bits import SixteenBits

RANDOM = np.random.default_rng(5)
SHAPE = (12, 14, 10)


def values(stored: SixteenBits) -> np.ndarray:
    return stored.array.astype(np.float64) * stored.slope + stored.intercept


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (RANDOM.integers(-900, 3000, SHAPE).astype(np.int16), "<i2"),
        (RANDOM.integers(0, 65536, SHAPE).astype(np.uint16), "<u2"),
        (RANDOM.integers(0, 256, SHAPE).astype(np.uint8), "<u2"),
        (RANDOM.integers(-128, 128, SHAPE).astype(np.int8), "<i2"),
        (RANDOM.integers(-900, 3000, SHAPE).astype(">i2"), "<i2"),
        (RANDOM.integers(-60000, 5000, SHAPE).astype(np.int32), "<u2"),
        (RANDOM.integers(100000, 160000, SHAPE).astype(np.int64), "<u2"),
        (RANDOM.integers(0, 4000, SHAPE).astype(np.float32), "<u2"),
    ],
)
def test_whole_numbers_stay_what_they_are(array: np.ndarray, dtype: str) -> None:
    stored = SixteenBits.of(array)
    assert stored.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(values(stored), array)


def test_the_slope_of_the_file_is_kept() -> None:
    array = RANDOM.integers(0, 4000, SHAPE).astype(np.int16)
    stored = SixteenBits.of(array, 0.25, -100.0)
    assert (stored.slope, stored.intercept) == (0.25, -100.0)
    np.testing.assert_array_equal(values(stored), array * 0.25 - 100)


@pytest.mark.parametrize(
    "array",
    [
        RANDOM.normal(0, 1, SHAPE).astype(np.float32),
        RANDOM.normal(5e6, 1e6, SHAPE),
        RANDOM.uniform(-3e-5, 2e-5, SHAPE),
        RANDOM.integers(-(2**31), 2**31 - 1, SHAPE).astype(np.int32),
        RANDOM.integers(0, 2**32 - 1, SHAPE).astype(np.uint32),
    ],
)
@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (-2.0, 7.0)])
def test_other_values_are_off_by_half_a_step_at_most(
    array: np.ndarray, slope: float, intercept: float
) -> None:
    expected = array.astype(np.float64) * slope + intercept
    off = np.abs(values(SixteenBits.of(array, slope, intercept)) - expected).max()
    assert off <= 0.501 * np.ptp(expected) / 65535


def test_what_is_not_finite_is_shown_dark_and_spoils_nothing() -> None:
    array = RANDOM.normal(0, 1, SHAPE)
    array[0, 0, 0], array[0, 0, 1], array[0, 0, 2] = np.nan, np.inf, -np.inf
    stored = SixteenBits.of(array)
    finite = np.isfinite(array)
    assert np.abs(values(stored) - array)[finite].max() < 1e-4
    np.testing.assert_allclose(values(stored)[~finite], array[finite].min(), atol=1e-4)


def test_an_image_of_one_value_is_that_value() -> None:
    np.testing.assert_array_equal(values(SixteenBits.of(np.full(SHAPE, 2.5))), 2.5)
    np.testing.assert_array_equal(values(SixteenBits.of(np.full(SHAPE, np.nan))), 0.0)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_window_spans_what_is_not_empty(scale: float) -> None:
    array = np.zeros((40, 40, 40))
    array[10:30, 10:30, 10:30] = RANDOM.uniform(200, 800, (20, 20, 20))
    array[15, 15, 15] = 3000  # one bright vessel
    centre, width = SixteenBits.of(array * scale).window
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2  # PS3.3 C.11.2.1.2.1
    assert low == pytest.approx(206 * scale, abs=10 * scale)
    assert high == pytest.approx(797 * scale, abs=10 * scale)
