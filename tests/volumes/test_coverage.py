import numpy as np
import pytest

from slem_app.errors import BadGrid
from slem_app.volumes.coverage import ONE_IMAGE, compare, cut, twins


def half(stop: int) -> np.ndarray:
    mask = np.zeros((10, 10, 10), bool)
    mask[:, :, :stop] = True
    return mask


def test_a_sequence_that_lacks_much_of_the_brain_is_named_with_its_share() -> None:
    [warning] = cut({"t1c": half(10), "t2f": half(7)})
    assert warning.code == "sequence-cut"
    assert warning.text.startswith("t2f does not show 30% of the brain that other sequences show")


def test_a_little_less_is_no_matter() -> None:
    assert cut({"t1c": half(10), "t2f": half(9)}) == ()
    assert cut({"t1c": half(10)}) == ()


def test_foregrounds_that_differ_are_told_and_those_beside_each_other_refused() -> None:
    assert [one.code for one in compare({"t1c": half(10), "t2f": half(3)})] == ["sequence-cut"]
    assert compare({"t1c": half(10), "t2f": half(9)}) == ()
    with pytest.raises(BadGrid, match="the sequences t1c and t2f hardly overlap"):
        compare({"t1c": half(4), "t2f": ~half(4)})


def test_one_image_under_two_names_is_told() -> None:
    rng = np.random.default_rng(0)
    image, other = rng.standard_normal((2, 12, 12, 12)).astype(np.float32)
    [warning] = twins({"t1n": image, "t1c": image, "t2f": other})
    assert warning.code == "sequence-twice"
    assert warning.text.startswith("t1n and t1c are the same image")
    assert twins(dict.fromkeys(("t1n", "t1c", "t2f"), image)) == (ONE_IMAGE,)
    assert twins({"t1n": image, "t1c": other}) == ()
    assert twins({"t1n": image}) == ()
    assert twins({"t1n": np.zeros_like(image), "t1c": image}) == ()
