"""A body that stores DICOM goes to the disk, and its instances are found there."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fastapi import Request

from slem_app.errors import BadSetting, SlemError, StorageFailed, TooLarge
from slem_app.serving.dicom import stow_body
from slem_app.serving.dicom.stow_body import StowBody, received

MIB = 2**20
KIND = 'multipart/related; type="application/dicom"; boundary="x y"'
HEAD = b"Content-Type: application/dicom\r\n\r\n"


def request(kind: str, chunks: Iterator[bytes]) -> Request:
    async def receive() -> dict:
        chunk = next(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return Request(scope, receive)


def read(kind: str, *chunks: bytes) -> list[bytes]:
    async def work() -> list[bytes]:
        async with received(request(kind, iter(chunks))) as body:
            assert b"".join([piece async for piece in body.pieces()]) == b"".join(chunks)
            return [part.read() for part in body.instances()]

    return asyncio.run(work())


def test_one_file_is_the_whole_body() -> None:
    assert read("application/dicom", b"ab", b"c") == [b"abc"]


@pytest.mark.parametrize("before", [b"", b"a preamble\r\n"])
def test_several_files_are_told_apart(before: bytes) -> None:
    contents = [b"one", b"", b"--x\r\n\r\n--x", b"\r\n" * 3, bytes(range(256))]
    parts = b"".join(b"--x y\r\n" + HEAD + content + b"\r\n" for content in contents)
    body = before + parts + b"--x y--\r\n"
    assert read(KIND, body) == contents
    assert read(KIND, *(body[at : at + 7] for at in range(0, len(body), 7))) == contents


def test_a_part_is_read_like_a_file(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"--x y\r\n" + HEAD + b"0123456789\r\n--x y--")
    with path.open("rb") as file:
        [part] = StowBody(file, KIND).instances()
        assert (part.seek(-3, 2), part.read(), part.seek(2), part.read(3), part.tell()) == (
            7,
            b"789",
            2,
            b"234",
            5,
        )


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"--x y\r\n"),
        ("multipart/related", b"--x y\r\n"),
        ("", b"x"),
        (KIND, b""),
        (KIND, b"--x y\r\n" + HEAD + b"no end"),
        (KIND, b"--x y\r\nno headers end\r\n--x y--"),
        (KIND, b"--another\r\n" + HEAD + b"\r\n--another--"),
        (KIND, b"--x y"),
    ],
)
def test_what_is_no_such_body_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(BadSetting, match="expected multipart/related"):
        read(kind, body)


def test_too_many_instances_are_refused() -> None:
    part = b"--x y\r\n" + HEAD + b"\r\n"
    with pytest.raises(TooLarge, match="more than 4096 instances"):
        read(KIND, part * 5000 + b"--x y--")


def test_a_large_body_takes_no_memory_and_no_more_than_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 MiB come where 200 may, and before that 199."""
    monkeypatch.setattr(stow_body, "LARGEST", 200 * MIB)
    piece, before, most = bytes(MIB), psutil.Process().memory_info().rss, 0

    def chunks(count: int) -> Iterator[bytes]:
        nonlocal most
        for _ in range(count):
            most = max(most, psutil.Process().memory_info().rss)
            yield piece

    async def work(count: int) -> int:
        async with received(request("application/dicom", chunks(count))) as body:
            [part] = body.instances()
            assert part.read(16) == bytes(16)
            return body.size

    assert asyncio.run(work(199)) == 199 * MIB
    with pytest.raises(TooLarge, match="more than 200 MiB in one request"):
        asyncio.run(work(256))
    assert most - before < 40 * MIB


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(stow_body.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(StorageFailed, match="No space left on device") as raised:
        read("application/dicom", b"x")
    assert isinstance(raised.value, SlemError)
