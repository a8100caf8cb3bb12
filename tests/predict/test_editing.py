"""What the editor sees, and what follows from its answer."""

import numpy as np
import pytest

from slem_app.network import EditorConfig
from slem_app.predict.editing import Pointed, ShownView, channels, follow, squared_steps

CONFIG = EditorConfig(2, ((1, 0),), ("lesion",), (4, 8))
NAMES = ("", "lesion", "other")


@pytest.fixture
def sight() -> ShownView:
    images = np.random.default_rng(0).standard_normal((2, 16, 16, 16)).astype(np.float32)
    shown = np.zeros((16, 16, 16), np.uint8)
    shown[2:5] = 1
    shown[10:] = 2
    return ShownView(images, np.array([True, True]), shown, 1.0)


def seen(sight: ShownView, newest: Pointed, older=(), odds=None, names=NAMES):
    return channels(CONFIG, sight, newest, older, odds, names)


CLICK = Pointed(np.array([[8, 8, 8]]), 1)


def test_a_missing_sequence_says_nothing_whatever_its_voxels_hold(sight):
    present = np.array([True, False])
    other = sight.images.copy()
    other[1] = 99
    one = seen(ShownView(sight.images, present, sight.shown, 1.0), CLICK)
    two = seen(ShownView(other, present, sight.shown, 1.0), CLICK)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_labels_are_told_apart_by_what_they_are_to_the_click(sight):
    first, _ = seen(sight, CLICK)
    swapped = np.array([0, 2, 1], np.uint8)[sight.shown]
    second, _ = seen(ShownView(sight.images, sight.present, swapped, 1.0), Pointed(CLICK.voxels, 2))
    assert np.array_equal(first, second)


def test_names_are_told_only_where_they_are_known(sight):
    _, known = seen(sight, CLICK)
    _, unknown = seen(sight, Pointed(CLICK.voxels, 2))
    _, hidden = seen(sight, CLICK, names=())
    assert known[:2].tolist() == [0, 1]
    assert known[2:4].tolist() == [1, 0]
    assert unknown[:2].tolist() == [0, 0]
    assert hidden[:4].tolist() == [0, 0, 0, 0]


def test_newest_and_older_prompts_have_channels_of_their_own(sight):
    older = (Pointed(np.array([[1, 1, 1]]), 1), Pointed(np.array([[2, 2, 2]]), 2))
    x, _ = seen(sight, CLICK, older)
    newest, painted, same, others, _ = x[CONFIG.prompts]
    places = [np.unravel_index(one.argmax(), one.shape) for one in (newest, painted, same, others)]
    assert places == [(8, 8, 8), (8, 8, 8), (1, 1, 1), (2, 2, 2)]


def test_the_layer_counts_in_distances_of_the_click(sight):
    x, _ = seen(sight, CLICK)  # the label ends at 4, the click lies at 8: a layer of twice 4 voxels
    layer = x[CONFIG.prompts][4]
    assert layer[8, 8, 8] == pytest.approx(0.5)
    assert layer[12, 8, 8] == pytest.approx(1.0)


def test_an_outline_is_seen_as_a_shape(sight):
    shape = Pointed(np.argwhere(np.ones((3, 3, 1))) + 6, 1)
    x, _ = seen(sight, shape)
    assert x[CONFIG.prompts][1].sum() == 9
    assert squared_steps((16, 16, 16), shape)[7, 7, 9] == 9


def test_only_what_hangs_together_with_the_prompt_follows():
    wants = np.zeros((16, 16, 16), bool)
    wants[2:9, 8, 8] = wants[12:, 2, 2] = True
    same, held = np.zeros_like(wants), np.zeros_like(wants)
    held[4, 8, 8] = True
    square = squared_steps(wants.shape, CLICK)
    found = follow(wants, same, square, held, CLICK.voxels)
    assert found[5:9, 8, 8].all()
    assert not found[2:5, 8, 8].any()
    assert not found[12:].any()


def test_the_prompts_own_voxel_follows_though_nothing_is_wanted():
    none = np.zeros((16, 16, 16), bool)
    found = follow(none, none, squared_steps(none.shape, CLICK), none, CLICK.voxels)
    assert found[8, 8, 8]
    assert found.sum() == 7
