"""Whether an image is there and the same as a client's copy; notes on images and labels."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from slem_app.errors import NotFound
from slem_app.serving.auth.tokens import Login
from slem_app.serving.error_replies import install
from slem_app.serving.http.datastore_routes import datastore_router
from slem_app.users import User

CONTENT = b"voxels"


class Store:
    """A datastore of one image, which keeps what is noted."""

    def __init__(self, file: Path) -> None:
        self.file, self.notes = file, []

    def get_image_uri(self, image: str) -> str:
        if image != "A":
            raise NotFound(f"no image {image!r}")
        return str(self.file)

    def update_image_info(self, image: str, info: dict) -> None:
        self.notes.append((image, info))

    def update_label_info(self, label: str, tag: str, info: dict) -> None:
        self.notes.append((label, tag, info))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    file = tmp_path / "A.nii.gz"
    file.write_bytes(CONTENT)
    return Store(file)


@pytest.fixture
def web(store: Store) -> TestClient:
    app = FastAPI()
    app.include_router(datastore_router(store))
    install(app)

    async def logged_in(scope: dict, receive: Callable, send: Callable) -> None:
        login = Login(User("ann", "reader"), 0.0, 0.0)
        await app({**scope, "slem.login": login}, receive, send)

    return TestClient(logged_in)


@pytest.fixture
def head(web: TestClient) -> Callable[..., int]:
    return lambda **query: web.head("/datastore/image", params=query).status_code


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA512", "MD5", "sha256"])
def test_the_same_file_is_found_by_its_checksum(head: Callable[..., int], algorithm: str) -> None:
    digest = hashlib.new(algorithm, CONTENT).hexdigest()
    assert head(image="A", check_sum=f"{algorithm}:{digest}") == 200
    assert head(image="A", check_sum=f"{algorithm}:{digest.upper()}") == 200
    assert head(image="A", check_sum=f"{algorithm}:{digest[:-1]}") == 404


def test_without_an_algorithm_it_is_sha256(head: Callable[..., int]) -> None:
    assert head(image="A", check_sum=hashlib.sha256(CONTENT).hexdigest()) == 200
    assert head(image="A", check_sum=hashlib.md5(CONTENT).hexdigest()) == 404


def test_there_or_not(head: Callable[..., int]) -> None:
    assert head(image="A") == 200
    assert head(image="B") == 404


@pytest.mark.parametrize("checksum", ["CRC32:0", "\U0005927d:\xff", "a:b:c"])
def test_an_unknown_algorithm_is_refused(head: Callable[..., int], checksum: str) -> None:
    assert head(image="A", check_sum=checksum) == 400


NOTES = [
    ("image/info", {"image": "A"}, "info", ("A",)),
    ("label/info", {"label": "A", "tag": "final"}, "info", ("A", "final")),
    ("updatelabelinfo", {"label": "A", "tag": "final"}, "params", ("A", "final")),
]


@pytest.mark.parametrize(("path", "query", "field", "noted"), NOTES)
def test_a_note_is_kept_with_its_writer(
    web: TestClient, store: Store, path: str, query: dict, field: str, noted: tuple
) -> None:
    assert (
        web.put(
            f"/datastore/{path}", params=query, data={field: '{"quality": "good", "user": "ben"}'}
        ).status_code
        == 200
    )
    assert store.notes == [(*noted, {"quality": "good", "user": "ann"})]


@pytest.mark.parametrize(("path", "query", "field", "noted"), NOTES)
@pytest.mark.parametrize("text", ["[]", "1", "{", "[" * 100_000])
def test_a_note_that_is_no_object_is_refused(
    web: TestClient, store: Store, path: str, query: dict, field: str, noted: tuple, text: str
) -> None:
    answer = web.put(f"/datastore/{path}", params=query, data={field: text})
    assert answer.status_code == 400
    assert f"the field `{field}` must be" in answer.json()["detail"]
    assert not store.notes
