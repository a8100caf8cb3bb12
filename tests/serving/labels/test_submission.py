"""What a client says of a label."""

import pytest

from slem_app.errors import BadLabel, BadSetting
from slem_app.serving.labels.submission import LabelSubmission


def test_what_the_server_goes_by_is_told_from_what_is_only_kept() -> None:
    said = LabelSubmission.of(
        {
            "client_id": "eva",
            "model": None,
            "label_info": [{"name": "edema", "idx": 4}],
            "clicks": "7",
            "seconds": 12.5,
            "client": "robot",
            "room": 3,
        }
    )
    assert (said.client_id, said.model, said.segments) == ("eva", "", ("edema",))
    assert (said.clicks, said.seconds, said.client) == (7, 12.5, "robot")
    assert dict(said.said) == {"client_id": "eva", "model": None}
    assert said.notes["room"] == 3
    assert not {"client_id", "model"} & set(said.notes)


def test_a_client_that_says_nothing() -> None:
    assert LabelSubmission.of({}) == LabelSubmission()


@pytest.mark.parametrize("value", ["long", -1, float("nan"), float("inf"), [1], True])
@pytest.mark.parametrize("name", ["seconds", "clicks"])
def test_figures_that_are_no_numbers_are_refused(name: str, value: object) -> None:
    with pytest.raises(BadSetting, match=f"{name} is .* a number from 0 on is expected"):
        LabelSubmission.of({name: value})


def test_segments_without_names_are_refused() -> None:
    with pytest.raises(BadLabel, match="label_info must be a list"):
        LabelSubmission.of({"label_info": {"name": "edema"}})
