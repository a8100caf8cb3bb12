"""What looks say for a click: in made-up tissue of known looks."""

import numpy as np
import pytest

from slem_app.predict.appearance import AppearanceSettings, Maps, evidence
from slem_app.prompts import BACKGROUND, Click
from slem_app.types import Grid

GRID = Grid((40, 30, 20), np.diag([1.5, 1.5, 1.5, 1.0]))
EDEMA, CORE = 2, 1


@pytest.fixture
def tissue() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sequences, what is shown, the network's log-odds for edema: core shown from I = 15 on, though it
    looks like edema up to I = 22.
    """
    rng = np.random.default_rng(0)
    images = (
        rng.normal(0, 0.3, (2, *GRID.shape)).astype(np.float32)
        + np.array([1.0, 1.0], np.float32)[:, None, None, None]
    )
    images[0, 22:] += 2
    shown = np.full(GRID.shape, EDEMA)
    shown[15:] = CORE
    margin = np.where(shown == EDEMA, 4.0, -4.0).astype(np.float32)
    return images, shown, margin


def looks(
    tissue: tuple[np.ndarray, ...],
    voxel: tuple[int, int, int] = (18, 15, 10),
    value: int = EDEMA,
    **changes: float,
) -> np.ndarray | None:
    images, shown, margin = tissue
    click = Click("edema" if value else BACKGROUND, tuple(GRID.to_world(np.array(voxel, dtype=float))))
    return evidence(click, value, GRID, images, shown, margin, AppearanceSettings(**changes))


def test_what_looks_like_the_label_is_told_from_what_looks_like_the_other(tissue) -> None:
    found = looks(tissue, against=50, support=50)
    assert found[23:].mean() < found[15:22].mean() - 3
    assert found[18, 15, 10] == 0


def test_it_is_limited_on_both_sides(tissue) -> None:
    found = looks(tissue, against=1.5, support=0.5)
    assert (found.min(), found.max()) == (-1.5, 0.5)
    assert not looks(tissue, against=0, support=0).any()


def test_the_scale_of_a_sequence_does_not_matter(tissue) -> None:
    images, shown, margin = tissue
    scaled = looks((images * 7, shown, margin))
    np.testing.assert_allclose(scaled, looks(tissue), atol=1e-3)


def test_it_says_nothing_where_the_label_is_shown_already_or_nothing_can_be_learned(tissue) -> None:
    images, _, margin = tissue
    assert looks(tissue, voxel=(5, 15, 10)) is None
    alone = np.full(GRID.shape, EDEMA)
    alone[18, 15, 10] = CORE
    assert looks((images, alone, margin)) is None


def test_without_an_example_of_the_label_the_clicked_place_is_one(tissue) -> None:
    images, _, margin = tissue
    found = looks((images, np.full(GRID.shape, CORE), margin), against=50, support=50)
    assert found[23:].mean() < found[15:22].mean() - 2


def test_background_far_off_is_no_example(tissue) -> None:
    images, shown, margin = tissue
    shown = np.where(shown == EDEMA, 0, shown)
    near = looks((images, shown, margin), value=0, around=15)
    images = images.copy()
    images[:, :3] = 50
    np.testing.assert_allclose(looks((images, shown, margin), value=0, around=15)[3:], near[3:], atol=1e-5)


def test_a_click_between_the_voxels_of_a_coarse_grid_has_a_place(tissue) -> None:
    images, shown, margin = tissue
    grid = Grid(GRID.shape, np.diag([8.0, 8.0, 8.0, 1.0]))
    click = Click("edema", tuple(grid.to_world(np.array([18.4, 15.4, 9.6]))))
    found = evidence(click, EDEMA, grid, images, shown, margin, AppearanceSettings())
    assert np.isfinite(found).all()
    assert found[18, 15, 10] == 0


def test_what_only_the_network_tells_apart_is_told_apart(tissue) -> None:
    images, shown, margin = tissue
    rng = np.random.default_rng(1)
    alike = rng.normal(0, 1, images.shape).astype(np.float32) + 5
    values = rng.normal(0, 0.3, (3, 24, 16, 12)).astype(np.float32)
    values[1, 13:] += 2  # I = 22 of the crop, which begins at (4, 2, 4), is theirs from 13 on
    click = Click("edema", tuple(GRID.to_world(np.array([18.0, 15.0, 10.0]))))
    told = evidence(
        click,
        EDEMA,
        GRID,
        alike,
        shown,
        margin,
        AppearanceSettings(against=50, support=50, deep=1),
        Maps(values, 2, (4, 2, 4)),
    )
    assert told[23:].mean() < told[15:22].mean() - 3
    assert told[18, 15, 10] == 0
    untold = evidence(
        click,
        EDEMA,
        GRID,
        alike,
        shown,
        margin,
        AppearanceSettings(against=50, support=50, deep=0),
        Maps(values, 2, (4, 2, 4)),
    )
    assert abs(untold[23:].mean() - untold[15:22].mean()) < 0.5
    np.testing.assert_array_equal(
        untold, evidence(click, EDEMA, GRID, alike, shown, margin, AppearanceSettings(against=50, support=50))
    )


def test_maps_are_read_at_voxels_as_they_are_mixed_everywhere() -> None:
    maps = Maps(np.random.default_rng(0).normal(size=(3, 6, 5, 4)).astype(np.float32), 2, (1, 2, 0))
    shape = (9, 7, 8)
    weights = np.array([1.0, -2.0, 0.5], np.float32)
    voxels = np.argwhere(np.ones(shape, bool))
    np.testing.assert_allclose(weights @ maps.at(voxels), maps.mixed(weights, shape).ravel(), atol=1e-5)


def test_one_sequence_is_enough(tissue) -> None:
    images, shown, margin = tissue
    found = looks((images[:1], shown, margin), against=50, support=50)
    assert found[23:].mean() < found[15:22].mean() - 3
