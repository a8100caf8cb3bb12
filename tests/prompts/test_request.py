"""Prompts as the clients send them."""

import json

import numpy as np
import pytest

from slem_app.errors import BadLabel, BadPrompt
from slem_app.prompts import (
    BACKGROUND,
    Box,
    read_box,
    read_clicks,
    read_reaches,
    read_scribbles,
    read_strokes,
)
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS


def said(params: dict, image: Grid) -> list[tuple[str, tuple[int, int, int] | None]]:
    return [
        (click.label, click.voxel(image))
        for click in read_clicks(json.loads(json.dumps(params)), BRAIN_LABELS, image)
    ]


def test_slicer_sends_every_label_by_name(image: Grid) -> None:
    params = {
        "necrosis": [],
        "edema": [[1, 2, 3], [4, 5, 6]],
        "enhancing tumor": [[7, 8, 9]],
        "label": "edema",
        "result_extension": ".nrrd",
        "client_id": "c",
    }
    assert said(params, image) == [("edema", (1, 2, 3)), ("edema", (4, 5, 6)), ("enhancing tumor", (7, 8, 9))]


def test_ohif_sends_background_beside(image: Grid) -> None:
    assert said({"edema": [[1, 2, 3]], "background": [[0, 0, 0]]}, image) == [
        ("edema", (1, 2, 3)),
        (BACKGROUND, (0, 0, 0)),
    ]
    assert said({"edema": [], "background": []}, image) == []


def test_deepgrow_sends_one_label(image: Grid) -> None:
    params = {"label": "necrosis", "foreground": [[1, 1, 1]], "background": [[2, 2, 2]]}
    assert said(params, image) == [("necrosis", (1, 1, 1)), (BACKGROUND, (2, 2, 2))]
    with pytest.raises(
        BadPrompt, match="foreground clicks came for the label 'tumour': give `label`, one of necrosis, edema"
    ):
        said({**params, "label": "tumour"}, image)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (
            {"edema": [[1, 2, 3], [1, 2, 99]]},
            r"click 2 of 'edema' at \[1, 2, 99\] lies outside the image of 20x24x16 voxels",
        ),
        ({"background": [[1, 2, None]]}, "click 1 of 'background' is .1, 2, None.: three whole numbers"),
        ({"edema": [1, 2, 3]}, "click 1 of 'edema' is 1: three whole numbers"),
        ({"edema": "1,2,3"}, r"the clicks of 'edema' are '1,2,3': a list of \[i, j, k\] is needed"),
        (
            {"oedema": [[1, 2, 3]]},
            (
                "clicks came for the unknown label 'oedema': this model has necrosis, edema, enhancing tumor "
                "and background"
            ),
        ),
    ],
)
def test_refuses_clicks_that_cannot_be_meant(image: Grid, params: dict, text: str) -> None:
    with pytest.raises(BadPrompt, match=text):
        said(params, image)


def test_refuses_nan_which_json_lets_pass(image: Grid) -> None:
    with pytest.raises(BadPrompt, match="click 1 of 'edema' is .nan, 2, 3.: three whole numbers"):
        read_clicks(json.loads('{"edema": [[NaN, 2, 3]]}'), BRAIN_LABELS, image)


def test_roi_holds_two_ends_along_each_axis_in_any_order(image: Grid) -> None:
    assert read_box({"roi": [9, 2, 3, 8, 12, 4]}, image) == Box.on(image, (2, 3, 4), (9, 8, 12))
    assert read_box({"roi": []}, image) is None
    assert read_box({}, image) is None
    with pytest.raises(BadPrompt, match="roi is .1, 2, 3.: six whole numbers are needed"):
        read_box({"roi": [1, 2, 3]}, image)
    with pytest.raises(BadPrompt, match="roi is .1.5, 2, 3.: three whole numbers"):
        read_box({"roi": [1.5, 2, 2, 3, 3, 4]}, image)


NAMES = {1: "edema", 2: "background_scribbles", 3: "foreground_scribbles", 4: "background"}


def test_scribbles_come_with_the_segments_that_exist(image: Grid) -> None:
    array = np.zeros(image.shape, np.uint8)
    array[2:5, 2:5, 2:5], array[8, 8, 8:11], array[1, 1, 1:3], array[0, 0, 0] = 1, 3, 2, 4
    scribbles, mask = read_scribbles(array, image, NAMES, BRAIN_LABELS, "enhancing tumor", image)
    assert {s.label: len(s.voxels(image)) for s in scribbles} == {BACKGROUND: 2, "enhancing tumor": 3}
    assert np.unique(mask.array).tolist() == [0, 2]
    assert (mask.array == 2).sum() == 27


def test_scribbles_alone_have_no_mask(image: Grid) -> None:
    array = np.zeros(image.shape, np.uint8)
    array[8, 8, 8:11] = 3
    scribbles, mask = read_scribbles(array, image, NAMES, BRAIN_LABELS, "edema", image)
    assert [s.label for s in scribbles] == ["edema"]
    assert mask is None


def test_refuses_scribbles_of_another_image_or_without_names(image: Grid) -> None:
    array = np.full(image.shape, 3, np.uint8)
    moved = image.crop((1, 0, 0), image.shape)
    with pytest.raises(BadPrompt, match="the scribbles lie on the grid 20x24x16"):
        read_scribbles(array, moved, NAMES, BRAIN_LABELS, "edema", image)
    with pytest.raises(BadLabel, match=r"values \[3\] that label_info does not name"):
        read_scribbles(array, image, {}, BRAIN_LABELS, "edema", image)
    with pytest.raises(BadPrompt, match="the scribble names the unknown label 'x'"):
        read_scribbles(array, image, NAMES, BRAIN_LABELS, "x", image)
    with pytest.raises(BadLabel, match="unknown label 'lesion'"):
        read_scribbles(array, image, {3: "lesion"}, BRAIN_LABELS, "edema", image)


def test_strokes_are_runs_along_i_of_one_label_each(image: Grid) -> None:
    strokes = [
        {"label": "edema", "runs": [[1, 2, 3, 4], [1, 3, 3, 2]]},
        {"label": "background", "runs": [[0, 0, 0, 1]]},
    ]
    edema, nothing = read_strokes(strokes, BRAIN_LABELS, image)
    painted = {(1, 2, 3), (2, 2, 3), (3, 2, 3), (4, 2, 3), (1, 3, 3), (2, 3, 3)}
    assert {tuple(voxel) for voxel in edema.voxels(image).tolist()} == painted
    assert (edema.label, nothing.label) == ("edema", BACKGROUND)
    assert read_strokes([], BRAIN_LABELS, image) == ()
    assert len(read_strokes([strokes[0], strokes[0]], BRAIN_LABELS, image)) == 1


def test_a_stroke_may_be_all_that_an_outline_encloses(image: Grid) -> None:
    runs = [[1, 2, 3, 4], [1, 3, 3, 2]]
    stroke, lasso = read_strokes(
        [{"label": "edema", "runs": runs}, {"label": "edema", "runs": runs, "outline": True}],
        BRAIN_LABELS,
        image,
    )
    assert stroke.within is None
    np.testing.assert_array_equal(lasso.within, lasso.painted)
    assert stroke != lasso


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("edema", "a list of strokes is needed"),
        ([{"label": "edema", "runs": [[1, 1, 1, 2]], "outline": 1}], "outline of stroke 1 is '1'"),
        ([{"label": "edema"}], "stroke 1 is .*: a label and runs"),
        ([{"label": "tumour", "runs": [[1, 1, 1, 1]]}], "stroke 1 names the unknown label 'tumour'"),
        ([{"label": "edema", "runs": [[1, 1, 1]]}], "stroke 1 has the run"),
        ([{"label": "edema", "runs": [[1, 1, 1, 0]]}], "stroke 1 has the run"),
        ([{"label": "edema", "runs": [[-1, 1, 1, 3]]}], "inside the image of"),
        ([{"label": "edema", "runs": [[1, 1, 1, 100000]]}], "inside the image of"),
        ([{"label": "edema", "runs": [[1, 1, True, 1]]}], "stroke 1 has the run"),
    ],
)
def test_strokes_of_another_shape_are_refused(image: Grid, value: object, text: str) -> None:
    with pytest.raises(BadPrompt, match=text):
        read_strokes(value, BRAIN_LABELS, image)


def test_a_reach_belongs_to_a_click_or_a_stroke_of_the_request(image: Grid) -> None:
    clicks = read_clicks({"edema": [[1, 2, 3], [4, 5, 6]], "background": [[7, 8, 9]]}, BRAIN_LABELS, image)
    told = [
        {"label": "edema", "voxel": [4, 5, 6], "reach": 0.25},
        {"label": "background", "voxel": [7, 8, 9], "reach": -1},
    ]
    reached = read_reaches(told, clicks, BRAIN_LABELS, image)
    assert [one.reach for one in reached] == [0, 0.25, -1]
    assert [one.plain for one in reached] == list(clicks)
    assert read_reaches(None, clicks, BRAIN_LABELS, image) == clicks
    stroke = {"label": "edema", "runs": [[1, 2, 3, 4]]}
    (plain,), (more,) = (read_strokes([one], BRAIN_LABELS, image) for one in (stroke, {**stroke, "reach": 1}))
    assert (more.reach, more.plain) == (1, plain)
    assert more != plain


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("edema", "a list of label, voxel and reach is needed"),
        ([[1, 2, 3]], "label, voxel and reach are needed"),
        ([{"label": "edema", "reach": 1}], "three whole numbers are needed"),
        ([{"label": "edema", "voxel": [1, 2, 4], "reach": 1}], "is not among the clicks"),
        ([{"label": "oedema", "voxel": [1, 2, 3], "reach": 1}], "unknown label 'oedema'"),
        ([{"label": "edema", "voxel": [1, 2, 3]}], "a number from -1"),
        ([{"label": "edema", "voxel": [1, 2, 3], "reach": 1.5}], "a number from -1"),
        ([{"label": "edema", "voxel": [1, 2, 3], "reach": True}], "a number from -1"),
    ],
)
def test_a_reach_that_cannot_be_is_refused(told: object, sentence: str, image: Grid) -> None:
    clicks = read_clicks({"edema": [[1, 2, 3]]}, BRAIN_LABELS, image)
    with pytest.raises(BadPrompt, match=sentence):
        read_reaches(told, clicks, BRAIN_LABELS, image)


def test_a_stroke_s_reach_that_cannot_be_is_refused(image: Grid) -> None:
    with pytest.raises(BadPrompt, match="the reach of stroke 1 is 'far'"):
        read_strokes([{"label": "edema", "runs": [[1, 2, 3, 4]], "reach": "far"}], BRAIN_LABELS, image)
