"""What a reader did to a segmentation, as it is kept beside a label."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slem_app.errors import BadPrompt, BadVolume
from slem_app.prompts import BACKGROUND, Click, Corrections, Mask, Scribble
from slem_app.types import Grid

TILTED = np.array([[-0.9, 0.1, 0.0, 40.0], [0.1, 0.9, 0.2, -7.0], [0.0, -0.2, 2.0, 3.0], [0, 0, 0, 1.0]])
GRID = Grid((12, 14, 6), TILTED)


def stroke(label: str, lasso: bool = False) -> Scribble:
    painted, within = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    painted[3:9, 5, 2] = painted[8, 5:11, 2] = True
    within[2:10, 4:12, 2] = True
    return Scribble.of(label, painted, GRID, within if lasso else None)


def corrections() -> Corrections:
    start = np.asfortranarray(np.random.default_rng(0).integers(0, 4, GRID.shape).astype(np.uint8))
    clicks = Click.on(GRID, (11, 0, 5), "edema"), Click.on(GRID, (2, 3, 4), BACKGROUND)
    farther = replace(stroke("necrosis"), reach=0.75)
    entries = clicks[0], farther, replace(clicks[1], reach=-1.0), stroke("enhancing tumor", lasso=True)
    return Corrections(Mask(start, GRID), entries)


def test_start_and_prompts_come_back_in_their_order(tmp_path: Path) -> None:
    kept = corrections()
    kept.save(tmp_path / "corrections.npz")
    again = Corrections.read(tmp_path / "corrections.npz")
    np.testing.assert_array_equal(again.start.array, kept.start.array)
    assert again.start.grid.same_as(GRID)
    assert again.entries == kept.entries
    assert again.labels == ("edema", "necrosis", BACKGROUND, "enhancing tumor")
    np.testing.assert_array_equal(again.entries[3].beside(GRID), kept.entries[3].beside(GRID))


def test_a_large_image_with_a_small_tumor_takes_little_space(tmp_path: Path) -> None:
    grid = Grid((160, 160, 100), np.eye(4))
    array = np.zeros(grid.shape, np.uint8)
    array[60:90, 60:90, 40:60] = 2
    Corrections(Mask(array, grid), (Click.on(grid, (70, 70, 50), "edema"),)).save(tmp_path / "c.npz")
    assert (tmp_path / "c.npz").stat().st_size < 30_000


def test_prompts_that_say_nothing_of_the_image_are_refused() -> None:
    start = Mask(np.zeros(GRID.shape, np.uint8), GRID)
    with pytest.raises(BadPrompt, match="without a prompt"):
        Corrections(start, ())
    with pytest.raises(BadPrompt, match="outside the image"):
        Corrections(start, (Click("edema", (900.0, 0.0, 0.0)),))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "corrections.npz"
    corrections().save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(BadVolume, match=r"corrections\.npz cannot be read"):
        Corrections.read(path)
