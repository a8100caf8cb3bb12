"""Single values as clients and settings write them."""

import pytest

from slem_app.errors import BadSetting
from slem_app.serving.values import boolean, first_of, whole_number


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


@pytest.mark.parametrize(("value", "expected"), [(3, 3), ("3", 3), (" 3 ", 3), (3.0, 3), ("-1", -1)])
def test_a_whole_number_as_a_number_or_as_text(value: object, expected: int) -> None:
    assert whole_number("epochs", value, -1, 10) == expected


@pytest.mark.parametrize("value", [True, 2.5, "many", "\u00b2", 11, "9" * 5000, float("inf"), None])
def test_a_number_that_is_none_or_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(BadSetting, match="epochs cannot be .* expected a whole number from -1 to 10"):
        whole_number("epochs", value, -1, 10)
