"""All cases as one zip: a file for each request, sent in pieces, gone once it was sent or its reader left."""

import errno
import gc
import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from fastapi import FastAPI

from slem_app.errors import StorageFailed
from slem_app.serving.auth.roles import role_of
from slem_app.serving.http.datastore_routes import datastore_router
from slem_app.serving.labels.archive import dataset_archive, pieces
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.unpack import PIECE
from tests.serving.labels.test_datastore import label_file
from tests.serving.web import served

LARGE = 8 * 2**20  # bytes of an image; of all of them a connection holds only a part back
FILES = 8  # images of the two cases


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image is a large file."""
    path = tmp_path / "large.nii"
    with path.open("wb") as file:
        file.truncate(LARGE)
    monkeypatch.setattr("slem_app.serving.labels.archive.image_file", lambda *_: path)


@pytest.fixture
def ask(datastore: CaseDatastore) -> Iterator[Callable[..., requests.Response]]:
    with served(datastore_router(datastore)) as ask:
        yield lambda **fields: ask("GET", "/datastore/dataset", **fields)


def opened(datastore: CaseDatastore) -> list[str]:
    """Files of the export folder that this process has open, with or without a name."""
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(handle.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return [place for place in found if place.startswith(str(datastore.root / "export"))]


def is_left(datastore: CaseDatastore) -> bool:
    """Whether anything of an archive is still there a moment later."""
    end = time.monotonic() + 30
    while (left := opened(datastore)) and time.monotonic() < end:
        time.sleep(0.05)
    return bool(left or list((datastore.root / "export").iterdir()))


def test_it_holds_every_sequence_and_the_final_label(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    path = label_file(heads["A"].labels, heads["A"].grid, tmp_path / "label.nii.gz")
    datastore.save_label("A", path, "final", {})
    with dataset_archive(datastore) as file, zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    assert sorted(name for name in names if name.startswith("A/")) == [
        "A/A_t1c.nii.gz",
        "A/A_t1n.nii.gz",
        "A/A_t2f.nii.gz",
        "A/A_t2w.nii.gz",
        "A/label.nii.gz",
    ]
    assert len([name for name in names if name.startswith("B/")]) == 4


def test_two_at_once_each_get_their_own(datastore: CaseDatastore, ask: Callable, large: None) -> None:
    with ask(stream=True) as first:
        begin = first.raw.read(1000)
        assert len(opened(datastore)) == 1  # the first is not sent to its end
        second = ask(params={"limit_cases": 1})
        bodies = [begin + first.raw.read(), second.content]
    contents = [zipfile.ZipFile(io.BytesIO(body)) for body in bodies]
    assert [one.testzip() for one in contents] == [None, None]
    assert [len(one.namelist()) for one in contents] == [FILES, FILES // 2]
    assert {one.headers["Content-Type"] for one in (first, second)} == {"application/zip"}
    assert not is_left(datastore)


def test_nothing_is_left_of_a_reader_who_goes_away(
    datastore: CaseDatastore, ask: Callable, large: None
) -> None:
    gc.disable()  # which would close it in the end
    try:
        with ask(stream=True) as answer:
            assert answer.raw.read(1000)
            assert opened(datastore)
        assert not is_left(datastore)
    finally:
        gc.enable()


def test_it_is_read_piece_by_piece() -> None:
    asked: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size or 0)
            return super().read(size)

    file = Watched(bytes(5 * PIECE))
    sent = pieces(file)
    assert [len(next(sent)), len(next(sent))] == [PIECE, PIECE]
    assert asked == [PIECE, PIECE]  # no more than was asked for
    sent.close()
    assert file.closed


def test_a_full_disk_is_told_and_leaves_nothing(
    datastore: CaseDatastore, ask: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("slem_app.serving.labels.archive._pack", full)
    with pytest.raises(StorageFailed, match="No space left on device: free some space") as caught:
        dataset_archive(datastore)
    assert not opened(datastore), caught  # closed though the error, and what it holds, lives on
    assert ask().status_code == 507
    assert not is_left(datastore)


def test_it_is_described(datastore: CaseDatastore) -> None:
    app = FastAPI()
    app.include_router(datastore_router(datastore))
    described = app.openapi()["paths"]["/datastore/dataset"]["get"]["responses"]
    assert set(described) >= {"200"}
    assert "application/zip" in described["200"]["content"]


def test_it_is_for_trainers() -> None:
    assert role_of("GET", "/datastore/dataset") == "trainer"
