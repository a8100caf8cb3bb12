"""Prompts as channels of the network."""

import numpy as np
import pytest

from slem_app.prompts import BACKGROUND, Box, Click, Prompts, Scribble, channel_count, encode
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

GRID = Grid((24, 24, 24), np.diag([1.5, 1.5, 1.5, 1.0]))


def test_no_prompt_is_all_zero() -> None:
    channels = encode(Prompts(), GRID, BRAIN_LABELS)
    assert channels.shape == (8, 24, 24, 24)
    assert channels.shape[0] == channel_count(BRAIN_LABELS)
    assert channels.dtype == np.float32
    assert not channels.any()


@pytest.mark.parametrize(
    ("label", "channel"), [("necrosis", 0), ("edema", 1), ("enhancing tumor", 2), (BACKGROUND, 3)]
)
def test_each_label_has_its_channel(label: str, channel: int) -> None:
    channels = encode(Prompts().with_click(Click.on(GRID, (10, 11, 12), label)), GRID, BRAIN_LABELS)
    assert channels[channel, 10, 11, 12] == 1
    assert channels[channel].argmax() == np.ravel_multi_index((10, 11, 12), GRID.shape)
    assert not np.delete(channels, channel, axis=0).any()


def test_a_click_is_a_small_gaussian_ball_in_millimetres() -> None:
    ball = encode(Prompts().with_click(Click.on(GRID, (12, 12, 12), "edema")), GRID, BRAIN_LABELS, sigma=3.0)[
        1
    ]
    assert ball[14, 12, 12] == pytest.approx(np.exp(-0.5))  # 3 mm away
    assert ball[12, 12, 16] == pytest.approx(np.exp(-2))  # 6 mm away
    assert ball[12, 12, 19] == 0  # 10.5 mm away


@pytest.mark.parametrize("name", ["t1n", "t2w", "t2f", "RAS", "PIL", "SAR"])
def test_the_ball_does_not_depend_on_the_image_that_was_clicked(grids: dict[str, Grid], name: str) -> None:
    network = Grid((64, 64, 64), np.diag([2.0, 2.0, 2.0, 1.0])).crop((-32, -32, -32), (64, 64, 64))
    seen = grids[name]
    click = Click.on(seen, [n // 2 for n in seen.shape], "edema")
    ball = encode(Prompts().with_click(click), network, BRAIN_LABELS, sigma=5.0)[1]
    index = np.argwhere(ball > 0)
    middle = (index * ball[tuple(index.T)][:, None]).sum(axis=0) / ball.sum()
    np.testing.assert_allclose(network.to_world(middle), click.world, atol=0.35)
    assert ball.sum() * network.voxel_volume == pytest.approx((2 * np.pi) ** 1.5 * 5.0**3, rel=0.06)


def test_a_crop_holds_the_same_values(case) -> None:
    prompts = (
        Prompts()
        .with_click(Click.on(GRID, (3, 4, 5), "edema"))
        .with_click(Click.on(GRID, (20, 20, 20), BACKGROUND))
    )
    part = GRID.crop((2, 2, 2), (8, 10, 12))
    np.testing.assert_allclose(
        encode(prompts, part, BRAIN_LABELS),
        encode(prompts, GRID, BRAIN_LABELS)[:, 2:10, 2:12, 2:14],
        atol=1e-6,
    )


def test_thick_slices_still_see_the_click() -> None:
    thick = Grid((24, 24, 4), np.diag([1.0, 1.0, 9.0, 1.0]))
    channels = encode(Prompts().with_click(Click("edema", (10.0, 10.0, 13.4))), thick, BRAIN_LABELS)
    assert channels[1, 10, 10, 1] == 1


def test_scribbles_current_and_box_have_their_channels() -> None:
    painted, current = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, np.uint8)
    painted[5, 5, 2:9], current[1:3], current[5:7] = True, 3, 1
    prompts = (
        Prompts()
        .with_scribble(Scribble.of("necrosis", painted, GRID))
        .with_box(Box.on(GRID, (2, 2, 2), (9, 9, 9)))
    )
    channels = encode(prompts, GRID, BRAIN_LABELS, current)
    np.testing.assert_array_equal(channels[0] > 0, painted)
    np.testing.assert_array_equal(channels[4], current == 1)
    assert not channels[5].any()
    np.testing.assert_array_equal(channels[6], current == 3)
    assert channels[7].sum() == 8**3


def test_prompts_outside_the_crop_are_left_out() -> None:
    prompts = Prompts().with_click(Click.on(GRID, (1, 1, 1), "edema"))
    assert not encode(prompts, GRID.crop((12, 12, 12), (8, 8, 8)), BRAIN_LABELS).any()
