"""The fields of nnInteractive's requests."""

import numpy as np
import pytest

from slem_app.errors import BadPrompt, BadSetting
from slem_app.serving.nninteractive.interactions import (
    read_box,
    read_mask,
    read_point,
    read_spacing,
    read_target_shape,
)


def test_a_point_may_come_in_fractions() -> None:
    assert read_point({"coordinates": [1.6, 2.0, 3]}) == (2, 2, 3)


@pytest.mark.parametrize("value", [None, "1,2,3", [1, 2], [1, 2, None], [1, 2, True], [1, 2, 1e12]])
def test_what_is_no_point_is_refused(value: object) -> None:
    with pytest.raises(BadPrompt, match="3 numbers are needed"):
        read_point({"coordinates": value})


def test_the_end_of_a_box_is_outside_it() -> None:
    assert read_box({"bbox_coords": [[2, 3], [4.0, 9.0], [9, 4]]}) == ((2, 4, 4), (2, 8, 8))


@pytest.mark.parametrize("value", [None, [[1, 2], [3, 4]], [[1, 1], [3, 4], [3, 4]], [[1], [3, 4], [3, 4]]])
def test_what_is_no_box_is_refused(value: object) -> None:
    with pytest.raises(BadPrompt, match="bbox_coords"):
        read_box({"bbox_coords": value})


def test_the_spacing_need_not_be_said() -> None:
    assert read_spacing({}) is None
    assert read_spacing({"image_properties": {"spacing": [1, 0.5, 2.0]}}) == (1.0, 0.5, 2.0)
    for wrong in ([1, 1], [0, 1, 1], [1, 1, -1], "1"):
        with pytest.raises(BadPrompt, match="spacing"):
            read_spacing({"image_properties": {"spacing": wrong}})
    with pytest.raises(BadPrompt, match="image_properties"):
        read_spacing({"image_properties": [1]})


def test_the_target_holds_whole_numbers() -> None:
    assert read_target_shape({"shape": [2, 3, 4], "dtype": "uint8"}) == (2, 3, 4)
    for wrong in ({"shape": [2, 3], "dtype": "uint8"}, {"shape": [2, 3, 4], "dtype": "float32"}):
        with pytest.raises(BadSetting, match="shape is|dtype is"):
            read_target_shape(wrong)


def test_a_mask_may_come_as_its_box_alone() -> None:
    pytest.importorskip("blosc2", reason="the package blosc2 is not installed")
    from slem_app.serving.nninteractive.arrays import pack

    body = pack(np.ones((1, 2, 3), dtype=np.uint8))
    box = {"interaction_bbox": [[4, 5], [0, 2], [2, 5]]}
    whole = read_mask(body, box, (5, 5, 5), 1000)
    assert np.argwhere(whole).min(axis=0).tolist() == [4, 0, 2]
    assert whole.sum() == 6
    for wrong in (
        {},
        {"interaction_bbox": [[4, 6], [0, 2], [2, 5]]},
        {"interaction_bbox": [[5, 6], [0, 2], [2, 5]]},
    ):
        with pytest.raises(BadPrompt, match="the mask has the shape"):
            read_mask(body, wrong, (5, 5, 5), 1000)
