"""Whether an image is there, and the same as a client's copy."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from slem_app.errors import NotFound
from slem_app.serving.errors import install
from slem_app.serving.image_routes import image_router

CONTENT = b"voxels"


class Images:
    """A datastore of one image."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def get_image_uri(self, image: str) -> str:
        if image != "A":
            raise NotFound(f"no image {image!r}")
        return str(self.file)


@pytest.fixture
def head(tmp_path: Path) -> Callable[..., int]:
    file = tmp_path / "A.nii.gz"
    file.write_bytes(CONTENT)
    app = FastAPI()
    app.include_router(image_router(Images(file)))
    install(app)
    client = TestClient(app)
    return lambda **query: client.head("/datastore/image", params=query).status_code


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
