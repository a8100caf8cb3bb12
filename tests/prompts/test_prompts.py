"""Clicks, scribbles and boxes mean a place in the world, whatever image they were made on."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from slem_app.errors import BadPrompt
from slem_app.phantom import Phantom, truth
from slem_app.prompts import BACKGROUND, Box, Click, Mask, Prompts, Scribble
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

VIEWS = ["t1n", "t1c", "t2w", "t2f", "RAS", "PIL", "SAR"]


@pytest.mark.parametrize("name", VIEWS)
def test_a_click_lies_where_its_voxel_lies(grids: dict[str, Grid], name: str) -> None:
    grid = grids[name]
    for voxel in [(0, 0, 0), tuple(n - 1 for n in grid.shape), tuple(n // 3 for n in grid.shape)]:
        click = Click.on(grid, voxel, "edema", BRAIN_LABELS)
        np.testing.assert_allclose(click.world, grid.to_world(np.array(voxel)))
        assert click.voxel(grid) == voxel


@pytest.mark.parametrize("name", VIEWS)
def test_a_click_on_any_image_hits_the_same_tissue_on_every_other(
    case: Phantom, grids: dict[str, Grid], name: str
) -> None:
    middle = np.median(np.argwhere(case.labels == 1), axis=0)
    world = case.grid.to_world(middle)
    seen = grids[name]
    click = Click.on(seen, np.round(seen.to_index(world)).astype(int).tolist(), "necrosis", BRAIN_LABELS)
    for other in grids.values():
        voxel = click.voxel(other)
        assert voxel is not None
        np.testing.assert_allclose(
            other.to_world(np.array(voxel)),
            world,
            atol=0.5 * (seen.spacing.max() + other.spacing.max()) * 3**0.5,
        )
        assert truth(case.head, other)[voxel] == 1


def test_a_click_outside_another_image_has_no_voxel_there(image: Grid) -> None:
    click = Click.on(image, (19, 0, 0), "edema")
    assert click.voxel(image.crop((0, 0, 0), (10, 10, 10))) is None


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (
            (20, 0, 0),
            r"at \[20, 0, 0\] lies outside the image of 20x24x16 voxels \(indices 0 to 19, 23, 15\)",
        ),
        ((0, -1, 0), r"at \[0, -1, 0\] lies outside"),
        ((0, 0, float("nan")), "three whole numbers are needed"),
        ((0, 0, float("inf")), "three whole numbers are needed"),
        ((0.5, 0, 0), "three whole numbers are needed"),
        ((1, 2), "three whole numbers are needed"),
        ((1, 2, "3"), "three whole numbers are needed"),
        ((1, 2, True), "three whole numbers are needed"),
        ("123", "three whole numbers are needed"),
        (None, "three whole numbers are needed"),
    ],
)
def test_refuses_a_click_that_is_no_voxel_of_the_image(image: Grid, index: object, text: str) -> None:
    with pytest.raises(BadPrompt, match=text) as caught:
        Click.on(image, index, "edema", BRAIN_LABELS)
    assert "the click of 'edema'" in str(caught.value)
    assert "20x24x16" in str(caught.value)


def test_refuses_an_unknown_label(image: Grid) -> None:
    with pytest.raises(
        BadPrompt,
        match=(
            "the click of 'tumour' names the unknown label 'tumour': this model has necrosis, edema, "
            "enhancing tumor"
        ),
    ):
        Click.on(image, (1, 1, 1), "tumour", BRAIN_LABELS)
    with pytest.raises(BadPrompt, match="a click names the unknown label 'cyst'"):
        Prompts((Click("cyst", (0, 0, 0)),)).check(BRAIN_LABELS)
    with pytest.raises(BadPrompt, match="the box names the unknown label 'cyst'"):
        Prompts(box=Box(image, ("cyst",))).check(BRAIN_LABELS)
    Prompts((Click(BACKGROUND, (0, 0, 0)), Click("edema", (0, 0, 0)))).check(BRAIN_LABELS)


def test_whole_numbers_may_come_as_floats(image: Grid) -> None:
    assert Click.on(image, (1.0, np.int64(2), np.float32(3)), "edema").voxel(image) == (1, 2, 3)


def test_prompts_never_change(image: Grid) -> None:
    none = Prompts()
    one = none.with_click(Click.on(image, (1, 1, 1), "edema"))
    two = one.with_click(Click.on(image, (2, 2, 2), BACKGROUND))
    assert (len(none.entries), len(one.entries), len(two.entries)) == (0, 1, 2)
    assert two.without(two.clicks[1]) == one
    assert one.without(one.clicks[0]) == none
    assert two.with_box(Box.on(image, (0, 0, 0), (5, 5, 5))).with_box(None) == two
    with pytest.raises(FrozenInstanceError):
        one.entries = ()
    with pytest.raises(BadPrompt, match="no such click of 'edema' to remove"):
        none.without(one.clicks[0])


def test_of_two_equal_clicks_the_later_is_removed() -> None:
    a, b = Click("edema", (0, 0, 0)), Click(BACKGROUND, (0, 0, 0))
    assert Prompts((a, b, a)).without(a).entries == (a, b)


def test_since_tells_what_is_new_or_that_something_is_gone() -> None:
    a, b, c = (Click("edema", (float(n), 0, 0)) for n in range(3))
    assert Prompts((a, b, c)).since(Prompts((a,))) == (b, c)
    assert Prompts((a, a)).since(Prompts((a,))) == (a,)
    assert Prompts((a,)).since(Prompts((a,))) == ()
    assert Prompts((b,)).since(Prompts((a, b))) is None


def test_another_mask_is_another_start(image: Grid) -> None:
    mask = Mask(np.zeros(image.shape, np.uint8), image)
    assert Prompts(mask=mask).since(Prompts()) is None
    assert Prompts(mask=mask).since(Prompts(mask=mask)) == ()
    with pytest.raises(BadPrompt, match=r"the segmentation has \(2, 2, 2\) voxels, its grid 20x24x16"):
        Mask(np.zeros((2, 2, 2), np.uint8), image)


def test_clicks_sent_by_label_take_the_order_in_which_they_were_made() -> None:
    a, b, c, d = (
        Click(label, (float(n), 0, 0)) for n, label in enumerate(["edema", BACKGROUND, "necrosis", "edema"])
    )
    made, sent = Prompts((a, b, c)), Prompts((c, a, d, b))
    assert sent.ordered_like(made).entries == (a, b, c, d)
    assert Prompts((c, d)).ordered_like(made).entries == (c, d)


def test_a_scribble_keeps_only_its_box(image: Grid) -> None:
    painted = np.zeros(image.shape, bool)
    painted[3:6, 7, 9:11] = True
    scribble = Scribble.of("edema", painted, image)
    assert scribble.painted.shape == (3, 1, 2)
    assert {tuple(v) for v in scribble.voxels(image)} == {tuple(v) for v in np.argwhere(painted)}
    assert not scribble.painted.flags.writeable


def test_scribbles_are_equal_by_what_they_paint(image: Grid) -> None:
    painted = np.zeros(image.shape, bool)
    painted[3:6, 7, 9] = True
    one, other = Scribble.of("edema", painted, image), Scribble.of("edema", painted.copy(), image)
    assert one == other
    assert hash(one) == hash(other)
    assert one != Scribble.of(BACKGROUND, painted, image)
    assert Prompts((one,)).since(Prompts((other,))) == ()


@pytest.mark.parametrize("name", ["t1n", "t2w", "t2f", "RAS", "PIL"])
def test_a_scribble_covers_the_same_tissue_on_every_image(
    case: Phantom, grids: dict[str, Grid], name: str
) -> None:
    grid = grids[name]
    painted = truth(case.head, grid) == 1
    scribble = Scribble.of("necrosis", painted, grid)
    assert {tuple(v) for v in scribble.voxels(grid)} == {tuple(v) for v in np.argwhere(painted)}
    there = np.zeros(case.grid.shape, bool)
    there[tuple(scribble.voxels(case.grid).T)] = True
    expected = case.labels == 1
    assert 2 * (there & expected).sum() / (there.sum() + expected.sum()) > 0.75


def test_a_thin_scribble_survives_thick_slices(image: Grid) -> None:
    painted = np.zeros(image.shape, bool)
    painted[4:12, 5, 3] = True
    thick = Grid((5, 6, 4), image.affine @ np.diag([4.0, 4, 4, 1]))
    assert len(Scribble.of("edema", painted, image).voxels(thick)) >= 2


def test_refuses_an_empty_scribble_and_one_of_another_size(image: Grid) -> None:
    with pytest.raises(BadPrompt, match="the scribble of 'edema' paints no voxel"):
        Scribble.of("edema", np.zeros(image.shape, bool), image)
    with pytest.raises(
        BadPrompt, match="the scribble of 'background' has .2, 2, 2. voxels, the image 20x24x16"
    ):
        Scribble.of(BACKGROUND, np.ones((2, 2, 2), bool), image)


def test_a_box_is_the_same_whatever_the_order_of_its_corners(image: Grid) -> None:
    box = Box.on(image, (9, 3, 12), (2, 8, 4))
    assert box == Box.on(image, (2, 3, 4), (9, 8, 12))
    expected = np.zeros(image.shape, bool)
    expected[2:10, 3:9, 4:13] = True
    np.testing.assert_array_equal(box.inside(image), expected)


def test_a_box_that_leaves_the_image_is_cut_and_one_outside_refused(image: Grid) -> None:
    assert Box.on(image, (-5, 0, 0), (50, 3, 3)) == Box.on(image, (0, 0, 0), (19, 3, 3))
    with pytest.raises(
        BadPrompt, match=r"the box \[30, 0, 0\] to \[40, 3, 3\] lies outside the image of 20x24x16"
    ):
        Box.on(image, (40, 0, 0), (30, 3, 3))
    with pytest.raises(BadPrompt, match="a corner of the box"):
        Box.on(image, (float("nan"), 0, 0), (3, 3, 3))


@pytest.mark.parametrize("name", VIEWS)
def test_a_box_turns_with_its_image(grids: dict[str, Grid], name: str) -> None:
    own = grids[name]
    box = Box.on(own, [n // 4 for n in own.shape], [n // 2 for n in own.shape])
    for other in grids.values():
        index = np.stack(np.meshgrid(*(np.arange(n) for n in other.shape), indexing="ij"), axis=-1)
        np.testing.assert_array_equal(box.inside(other), box.holds(other.to_world(index)))
    assert box.inside(own).sum() == np.prod([n // 2 - n // 4 + 1 for n in own.shape])


def test_a_click_against_the_box_is_refused_unless_it_is_background(image: Grid) -> None:
    box = Box.on(image, (0, 0, 0), (5, 5, 5))
    Prompts(box=box).with_click(Click.on(image, (9, 9, 9), BACKGROUND))
    Prompts(box=Box.on(image, (0, 0, 0), (5, 5, 5), ["necrosis"])).with_click(
        Click.on(image, (9, 9, 9), "edema")
    )
    with pytest.raises(BadPrompt, match="a click of 'edema' lies outside the box"):
        Prompts(box=box).with_click(Click.on(image, (9, 9, 9), "edema"))
    with pytest.raises(BadPrompt, match="a click of 'edema' lies outside the box"):
        Prompts().with_click(Click.on(image, (9, 9, 9), "edema")).with_box(box)


def test_beside_a_lasso_is_the_rest_of_its_slice(image: Grid) -> None:
    painted, within = np.zeros(image.shape, bool), np.zeros(image.shape, bool)
    within[4:9, 6:12, 5], painted[5:8, 7:11, 5] = True, True
    lasso = Scribble.of("edema", painted, image, within)
    expected = np.zeros(image.shape, bool)
    expected[:, :, 5] = ~within[:, :, 5]
    np.testing.assert_array_equal(lasso.beside(image), expected)
    assert len(lasso.voxels(image)) == painted.sum()
    part = image.crop((2, 3, 4), (10, 12, 6))  # as a correction looks at it
    np.testing.assert_array_equal(lasso.beside(part), expected[2:12, 3:15, 4:10])
    assert not Scribble.of("edema", painted, image).beside(image).any()


def test_a_lasso_across_the_slices_of_its_image_has_no_slice_of_its_own(image: Grid) -> None:
    painted = np.zeros(image.shape, bool)
    painted[4:8, 5, 5] = painted[4:8, 6, 6] = painted[4:8, 7, 7] = True
    assert not Scribble.of("edema", painted, image, painted).beside(image).any()


def test_a_lasso_of_another_image_limits_the_same_slice(grids: dict[str, Grid], case: Phantom) -> None:
    image, turned = case.grid, grids["PIL"]
    painted = np.zeros(image.shape, bool)
    painted[20:30, 25:35, 20] = True
    lasso = Scribble.of("edema", painted, image, painted)
    here, there = lasso.beside(image), lasso.beside(turned)
    assert here.sum() == there.sum()
    world = turned.to_world(np.argwhere(there))
    assert here[tuple(np.floor(image.to_index(world) + 0.5).astype(int).T)].all()
