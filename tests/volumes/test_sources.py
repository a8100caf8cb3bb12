"""The sequences at their own detail say the same as what the network sees, on any grid."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from slem_app.phantom import make
from slem_app.types import Grid
from slem_app.volumes.prepare import Preparation, Prepared, Volume
from slem_app.volumes.prepare import prepare as prepare_any

prepare = partial(prepare_any, conformed="none", detailed=True)
SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
SETTINGS = Preparation(spacing=(3.0, 3.0, 3.0), multiple=8)


def small(case: Prepared) -> Grid:
    """A box in the middle at 1.5 mm."""
    part = case.grid.crop(tuple(n // 4 for n in case.grid.shape), tuple(n // 2 for n in case.grid.shape))
    affine = part.affine.copy()
    affine[:3, :3] /= 2
    return Grid(tuple(2 * n for n in part.shape), affine)


def test_on_the_networks_grid_they_are_what_it_sees(case, volumes_of):
    prepared = prepare(volumes_of(case), SEQUENCES, SETTINGS, case.grid)
    again = prepared.sources.on(prepared.grid, SEQUENCES)
    np.testing.assert_allclose(again, prepared.images, atol=1e-5)
    assert prepared.images.std() > 0.1


def test_finer_voxels_hold_more_than_the_networks(case, volumes_of):
    prepared = prepare(volumes_of(case), SEQUENCES, SETTINGS, case.grid)
    fine = prepared.sources.on(small(prepared), SEQUENCES)
    assert fine.shape[1:] == small(prepared).shape
    assert np.isfinite(fine).all()
    # where an image has a voxel, its own value is there, only shifted and scaled
    for slot, name in enumerate(SEQUENCES):
        seen = prepared.sources.on(case.grids[name], SEQUENCES)[slot]
        low, high = np.percentile(case.images[name], [60, 95])
        inside = (case.images[name] > low) & (case.images[name] < high)
        assert np.corrcoef(seen[inside], case.images[name][inside])[0, 1] > 0.995


def test_a_missing_sequence_is_empty_and_takes_no_memory(case, volumes_of):
    volumes = volumes_of(case)
    whole = prepare(volumes, SEQUENCES, SETTINGS, case.grid)
    part = prepare({n: v for n, v in volumes.items() if n != "t2w"}, SEQUENCES, SETTINGS, case.grid)
    images = part.sources.on(small(part), SEQUENCES)
    assert not images[2].any()
    assert images[1].any()
    assert part.sources.nbytes < whole.sources.nbytes


def test_whole_numbers_take_half_the_memory(case, volumes_of):
    volumes = volumes_of(case)
    rounded = {name: Volume(np.round(v.array).astype(np.float32), v.grid) for name, v in volumes.items()}
    whole = prepare(rounded, SEQUENCES, SETTINGS, case.grid)
    assert {source.volume.array.dtype for source in whole.sources.each.values()} == {np.dtype(np.int16)}
    np.testing.assert_allclose(whole.sources.on(whole.grid, SEQUENCES), whole.images, atol=1e-5)
    halves = {
        name: Volume(np.round(v.array).astype(np.float32) + np.float32(0.5), v.grid)
        for name, v in volumes.items()
    }
    broken = prepare(halves, SEQUENCES, SETTINGS, case.grid)
    assert {source.volume.array.dtype for source in broken.sources.each.values()} == {np.dtype(np.float32)}


def test_they_are_kept_only_where_asked_for(case, volumes_of):
    assert prepare_any(volumes_of(case), SEQUENCES, SETTINGS, case.grid).sources is None


def test_they_move_with_the_image_that_is_shown(case, volumes_of):
    prepared = prepare(volumes_of(case), SEQUENCES, SETTINGS, case.grid)
    move = np.eye(4)
    move[:3, 3] = 5, -3, 2
    shown = replace(prepared, moves={"t2f": move}).shown_on("t2f", case.grid)
    np.testing.assert_allclose(shown.sources.on(shown.grid, SEQUENCES), prepared.images, atol=1e-4)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (2.5, 2.5, 4.0)])
def test_oblique_sequences_on_grids_of_their_own(spacing):
    own = make(seed=4, shape=(64, 64, 40), spacing=spacing, own_grids=True, oblique=True)
    volumes = {name: Volume(image, own.grids[name]) for name, image in own.images.items()}
    prepared = prepare(volumes, SEQUENCES, SETTINGS, own.grids["t1c"])
    again = prepared.sources.on(prepared.grid, SEQUENCES)
    different = np.abs(again - prepared.images) > 0.05
    assert different.mean() < 0.01
