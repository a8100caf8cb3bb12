"""The server's answers as the module takes them: parts of a multipart body, and the sentence of a refusal."""

import json

import pytest
import requests
from requests_toolbelt import MultipartEncoder
from SLeMLabelLib.client import Client, LogInNeeded, ServerError


@pytest.fixture
def client():
    made = Client("http://127.0.0.1:9/", "ann")
    yield made
    made.close()


def answers(client: Client, content: bytes, status: int = 200, kind: str = "application/json") -> list:
    """Make the client get this answer; what it asks."""
    asked = []

    def request(method: str, url: str, **fields: object) -> requests.Response:
        asked.append((method, url, fields))
        answer = requests.Response()
        answer.status_code, answer._content = status, content
        answer.headers["content-type"] = kind
        return answer

    client.http.request = request
    return asked


def test_a_label_map_and_its_facts_are_taken_apart_whatever_bytes_they_hold(client: Client) -> None:
    label = b"NRRD0004\r\n\r\n\x00\xff--\r\n" + bytes(range(256)) + b"\r\n"
    fields = {
        "params": (None, json.dumps({"steps": 2}), "application/json"),
        "image": ("label.nrrd", label, "application/octet-stream"),
    }
    body = MultipartEncoder(fields=fields)
    asked = answers(client, body.to_string(), kind=body.content_type)
    reply = client.segment("brain", "ann/t1c", {"edema": [[1, 2, 3]]}, b"shown")
    assert (reply.file, reply.facts) == (label, {"steps": 2})
    method, url, fields = asked[0]
    assert (method, url, fields["params"]) == (
        "POST",
        "http://127.0.0.1:9/infer/brain",
        {"image": "ann/t1c"},
    )
    params = json.loads(fields["data"]["params"])
    assert (params["client_id"], params["edema"]) == ("ann", [[1, 2, 3]])
    assert fields["files"]["label"][1] == b"shown"


@pytest.mark.parametrize(
    ("body", "status", "kind", "text"),
    [
        (b'{"detail": "no case \'x\'"}', 404, ServerError, "no case 'x'"),
        (b'{"detail": "log in"}', 401, LogInNeeded, "log in"),
        (
            b'{"detail": [{"loc": ["query", "page"], "msg": "too small"}]}',
            422,
            ServerError,
            "query.page: too",
        ),
        (b"<html>", 502, ServerError, "the server answered 502"),
    ],
)
def test_a_refusal_is_the_server_s_own_sentence(
    client: Client, body: bytes, status: int, kind: type, text: str
) -> None:
    answers(client, body, status)
    with pytest.raises(kind, match=text) as caught:
        client.info()
    assert caught.value.status == status


def test_no_server_is_told_with_its_address() -> None:
    client = Client("127.0.0.1:9", "ann")
    with pytest.raises(ServerError, match="there is no server at 127.0.0.1:9"):
        client.info()
    client.close()


def test_an_answer_without_a_label_map_is_told(client: Client) -> None:
    answers(client, b"{}")
    with pytest.raises(ServerError, match="is this a SLeM Label server"):
        client.step("undo", "brain_clicks", "ann/t1c")
