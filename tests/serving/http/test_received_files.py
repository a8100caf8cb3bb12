"""Files that clients send: only known kinds, under names of ours, no larger than allowed, and nothing outside
an archive's folder.
"""

import io
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from fastapi import FastAPI, Request, UploadFile

from slem_app.errors import BadVolume, TooLarge
from slem_app.serving.http.application import complete
from slem_app.serving.http.received_files import IMAGES, LABELS, SENT_FILE, VOLUMES, keep, keep_all, unpack

MIB = 2**20
app = FastAPI()


@app.post("/read")
async def read(request: Request) -> int:
    return len(await request.body())


@pytest.fixture(scope="module")
def url(serve: Callable) -> Iterator[str]:
    complete(app, uploads=6 * MIB)
    with serve(app) as address:
        yield address


def sent(name: str | None, content: bytes = b"x") -> UploadFile:
    return UploadFile(io.BytesIO(content), filename=name)


@pytest.mark.parametrize("name", ["a.nii.gz", "../../etc/a.nii", "a.NRRD", "x" * 5000 + ".seg.nrrd", None])
def test_a_file_is_kept_under_a_name_of_ours_for_this_user_alone(name: str | None) -> None:
    path = keep(sent(name, b"volume"), LABELS)
    try:
        assert path.parent == Path(tempfile.gettempdir())
        assert SENT_FILE.fullmatch(path.name)
        assert path.read_bytes() == b"volume"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        path.unlink()


@pytest.mark.parametrize("name", ["a.exe", "a.nii.gz.py", "a", "a.nrrd", "nii.gz/", "a.\x00"])
def test_other_kinds_of_images_are_refused(name: str) -> None:
    with pytest.raises(BadVolume, match="this route takes .nii.gz, .nii"):
        keep(sent(name), IMAGES)


def test_several_files_keep_the_last_part_of_their_names(tmp_path: Path) -> None:
    kept = keep_all(
        [sent("C:\\scans\\IM0001"), sent("../1.2.840.dcm"), sent("a/b/t1.nii.gz")], VOLUMES, tmp_path
    )
    assert [path.name for path in kept] == ["IM0001", "1.2.840.dcm", "t1.nii.gz"]
    assert sorted(tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("name", ["..", ".hidden", "a\nb.dcm", "x" * 300, "run.sh"])
def test_names_that_are_none_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadVolume):
        keep_all([sent(name)], VOLUMES, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadVolume, match="two files are called a.dcm"):
        keep_all([sent("x/a.dcm"), sent("y/a.dcm")], VOLUMES, tmp_path)


def test_an_archive_stays_in_its_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../../out.dcm", b"1")
        archive.writestr("/etc/in.dcm", b"2")
    unpack(tmp_path / "a.zip", tmp_path / "new", 100)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.dcm")) == [
        "new/etc/in.dcm",
        "new/out.dcm",
    ]


def test_an_archive_that_is_none_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no")
    with pytest.raises(BadVolume, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "new", 100)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(3 * MIB))
    with pytest.raises(TooLarge, match="holds 3 MiB, the limit is 1"):
        unpack(tmp_path / "b.zip", tmp_path / "new", MIB)


def in_pieces(size: int) -> Iterator[bytes]:
    """A body whose length nobody tells beforehand."""
    for _ in range(size // 65536):
        yield b" " * 65536


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(
    ("kind", "size", "status"),
    [
        ("application/octet-stream", 5 * MIB, 200),
        ("application/octet-stream", 7 * MIB, 413),
        ("application/json", 5 * MIB, 413),
        ("application/json", MIB, 200),
    ],
)
def test_a_request_is_no_longer_than_it_may_be(
    url: str, kind: str, size: int, status: int, chunked: bool
) -> None:
    answer = requests.post(
        f"{url}/read",
        data=in_pieces(size) if chunked else b" " * size,
        headers={"content-type": kind, "connection": "close"},
        timeout=30,
    )
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["error"] == "TooLarge"
        assert "the request is longer than" in answer.json()["detail"]
    else:
        assert answer.json() == size


def zipped(name: str, method: int = zipfile.ZIP_STORED) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", method) as archive:
        archive.writestr(name, bytes(1000))
    return body.getvalue()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (zipped("a").replace(b"a", b"\0"), "cannot be unpacked"),  # an empty name
        (zipped("a", zipfile.ZIP_LZMA), "packed by method 14"),
        (zipped("a", zipfile.ZIP_BZIP2), "packed by method 12"),
        (zipped("a")[:-30], "cannot be unpacked"),
        (b"PK", "cannot be unpacked"),
    ],
)
def test_an_archive_that_is_damaged_or_odd_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BadVolume, match=text):
        unpack(tmp_path / "a.zip", tmp_path / "out", 2**20)


def test_an_archive_of_millions_of_files_is_refused_before_they_are_listed(tmp_path: Path) -> None:
    entry = b"PK\x01\x02" + bytes(42)
    count = (9 << 20) // len(entry)
    size = (count * len(entry)).to_bytes(4, "little")
    end = b"PK\x05\x06" + bytes(4) + b"\xfe\xff\xfe\xff" + size + bytes(6)
    (tmp_path / "a.zip").write_bytes(entry * count + end)
    with pytest.raises(TooLarge, match="list of files has 9.0 MiB, the limit is 8.0 MiB"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 2**20)
