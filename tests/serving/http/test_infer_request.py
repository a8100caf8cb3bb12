"""An inference request as a typed value: what each client sends, what is refused."""

import pytest

from slem_app.errors import BadLabel, BadPrompt, BadSetting, NotFound, SlemError
from slem_app.serving.http.form_fields import parse_fields
from slem_app.serving.http.infer_request import parse_infer
from slem_app.serving.models.inference import InferRequest, Reply

NAMES = ("necrosis", "edema")


def parse(**fields: object) -> InferRequest:
    return parse_infer("slem_brain", "A", fields, NAMES)


def test_nothing_said_is_the_usual() -> None:
    assert parse() == InferRequest("slem_brain", "A")


def test_3d_slicers_options_are_read_and_others_passed_over() -> None:
    request = parse(
        client_id="ann",
        sequence=["t2f", "t1c"],
        edema=[[1, 2, 3]],
        necrosis=[],
        device="cuda",
        roi=[0, 1] * 3,
    )
    assert (request.client_id, request.sequence, request.box) == ("ann", "t2f", [0, 1] * 3)
    assert request.points == {"edema": [[1, 2, 3]], "necrosis": []}
    assert not request.repeats_points


def test_ohif_is_known_by_what_it_always_says() -> None:
    request = parse(restore_label_idx=False, result_compress=False, sequence=["auto", "t1n"])
    assert not request.reply.crop
    assert parse(result_crop=True).reply.crop
    assert (request.repeats_points, request.reply, request.sequence) == (True, Reply(compress=False), None)
    assert not parse(restore_label_idx=False, client_id="ann").repeats_points


def test_points_of_an_unknown_label_are_not_lost() -> None:
    assert parse(oedema=[[1, 2, 3]]).points == {"oedema": [[1, 2, 3]]}


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"client_id": ["ann"]}, BadSetting, "client_id is .* text is needed"),
        ({"client_id": True}, BadSetting, "client_id is .* text is needed"),
        ({"save_label": "perhaps"}, BadSetting, "save_label is 'perhaps': true or false is needed"),
        ({"undo": float("nan")}, BadPrompt, "undo is nan: true or false is needed"),
        ({"start_over": {}}, BadPrompt, "start_over is .*: true or false is needed"),
        ({"sequence": {"t1n": 1}}, BadSetting, "sequence is .* text is needed"),
        ({"label_info": [{"idx": 1}]}, BadLabel, "label_info must be a list of objects with a name"),
        ({"result_extension": ".png"}, BadSetting, "result_extension '.png' is unknown"),
        ({"result_compress": "perhaps"}, BadSetting, "result_compress is 'perhaps'"),
    ],
)
def test_a_wrong_field_is_refused_in_words(fields: dict, error: type[SlemError], text: str) -> None:
    with pytest.raises(error, match=text):
        parse(**fields)


@pytest.mark.parametrize("name", ["image", "label", "session"])
@pytest.mark.parametrize("value", ['"/etc/passwd"', "7", "[]"])
def test_a_path_is_no_id(name: str, value: str) -> None:
    with pytest.raises(NotFound, match=f"no {name} .*: paths on the server are not ids"):
        parse_fields(f'{{"{name}": {value}}}')
