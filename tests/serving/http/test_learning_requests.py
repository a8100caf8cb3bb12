"""The fields of requests for training, batches and the next case as typed values."""

import pytest

from slem_app.errors import BadSetting
from slem_app.serving.http.learning_requests import parse_batch, parse_next_case, parse_train
from slem_app.serving.learning.request_types import BatchRequest, NextCaseRequest


def test_options_may_come_as_the_whole_list_of_their_choices() -> None:
    fields = {"device": ["cpu", "auto"], "max_epochs": "3", "name": ["night", "day"], "other": {"a": 1}}
    request = parse_train(fields)
    assert (request.device, request.max_epochs, request.name, request.batch) == ("cpu", 3, "night", None)
    assert request.fields == fields


def test_nothing_said_leaves_the_jobs_own_numbers() -> None:
    request = parse_train({"max_epochs": "", "name": None})
    assert (request.name, request.max_epochs, request.gpus, request.multi_gpu) == (None, None, (), True)


@pytest.mark.parametrize(
    ("gpus", "expected"), [("all", ()), ("0, 2", ("0", "2")), (["1"], ("1",)), (None, ())]
)
def test_gpus_are_all_or_chosen_by_number(gpus: object, expected: tuple[str, ...]) -> None:
    assert parse_batch({"gpus": gpus}).gpus == expected


@pytest.mark.parametrize("gpus", ["first", "0,0", "²", "0,", ",".join(map(str, range(65)))])
def test_gpus_that_cannot_be_are_refused(gpus: str) -> None:
    with pytest.raises(BadSetting, match="gpus .* cannot be"):
        parse_train({"gpus": gpus})


def test_a_batch_is_of_named_images_or_of_a_kind() -> None:
    assert parse_batch({}) == BatchRequest()
    assert (parse_batch({"images": ["A", "B/t2f"]}).ids, parse_batch({"images": "labeled"}).images) == (
        ("A", "B/t2f"),
        "labeled",
    )


def test_a_batch_runs_on_the_processor_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slem_app.devices.gpu_count", lambda: 0)
    assert parse_batch({"device": "cuda"}).device == "cpu"
    monkeypatch.setattr("slem_app.devices.gpu_count", lambda: 2)
    assert parse_batch({"device": "cuda"}).device == "cuda"
    with pytest.raises(BadSetting, match="there is no device cuda:2"):
        parse_batch({"device": "cuda:2"})


def test_any_model_is_none() -> None:
    assert parse_next_case({"model": ["any", "slem_brain"], "client_id": "ann"}) == NextCaseRequest(
        client_id="ann"
    )
    assert parse_next_case({"model": "slem_brain"}).model == "slem_brain"


def test_labels_that_are_no_list_are_refused() -> None:
    with pytest.raises(BadSetting, match="labels is 'edema': a list of names is needed"):
        parse_next_case({"labels": "edema"})
