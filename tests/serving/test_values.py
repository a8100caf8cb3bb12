"""Single values as clients and settings write them."""

import pytest

from slem_app.errors import BadSetting
from slem_app.serving.values import boolean, device, first_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), ("True", True), ("1", True), (1, True), ("no", False), (0, False), ("false", False)],
)
def test_a_boolean_in_each_of_its_spellings(value: object, expected: bool) -> None:
    assert boolean("undo", value, default=not expected) is expected


@pytest.mark.parametrize("value", [None, "", "none"])
@pytest.mark.parametrize("default", [True, False])
def test_a_boolean_of_which_nothing_is_said(value: object, default: bool) -> None:
    assert boolean("undo", value, default) is default


@pytest.mark.parametrize("value", ["perhaps", 2, [], {"a": 1}, float("nan")])
def test_what_is_no_boolean_is_refused(value: object) -> None:
    with pytest.raises(BadSetting, match="undo is .* true or false is needed"):
        boolean("undo", value)


def test_the_first_choice_of_a_list_counts() -> None:
    assert [first_of(value) for value in (["a", "b"], "a", [], None)] == ["a", "a", None, None]


@pytest.mark.parametrize("wanted", ["abacus", "cuda:x", "cpu:", ""])
def test_an_unknown_device_is_refused(wanted: str) -> None:
    with pytest.raises(BadSetting, match="is unknown: use auto, cpu, cuda or cuda:N"):
        device(wanted)


def test_the_processor_is_always_there() -> None:
    assert device("cpu") == "cpu"
