"""The index of headers: what it saves, and that nothing in it is believed when the studies have changed."""

import os
import shutil
import sqlite3
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from slem_app.phantom import Phantom, write_dicom, write_nifti
from slem_app.studies import Study, dicom, folders, open_source
from slem_app.studies.dicomweb import DicomWebSource
from slem_app.studies.file_cache import FileCache
from slem_app.studies.header_index import HeaderIndex
from slem_app.studies.pacs import Pacs
from tests.fake_pacs import FakePacs, running


def settle(root: Path) -> None:
    """Make every folder look as if it was left alone for long, as files of a moment ago are not relied on."""
    for here, _, _ in os.walk(root):
        before = Path(here).stat().st_mtime - 7200
        os.utime(here, (before, before))


def index(tmp_path: Path) -> HeaderIndex:
    return HeaderIndex(tmp_path / "index/headers.sqlite")


@pytest.fixture
def dicom_root(tmp_path: Path, phantom: Phantom) -> Path:
    for name in ("ann", "bob"):
        write_dicom(phantom, tmp_path / "dicom", name)
    settle(tmp_path / "dicom")
    return tmp_path / "dicom"


def same(one: Study, other: Study) -> None:
    assert (one.id, one.layout, one.root, one.coding) == (other.id, other.layout, other.root, other.coding)
    assert one.series == other.series
    for a, b in zip(one.series, other.series, strict=True):
        assert a.header == b.header
        assert a.frames == b.frames
        assert a.grid.shape == b.grid.shape
        np.testing.assert_array_equal(a.grid.affine, b.grid.affine)


def test_unchanged_folders_are_not_read_again(
    dicom_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = open_source(dicom_root)
    ids = open_source(dicom_root, index=index(tmp_path)).ids()
    assert ids == plain.ids() == ("ann", "bob")
    monkeypatch.setattr(dicom, "probe", lambda path: pytest.fail(f"{path} was read again"))
    source = open_source(dicom_root, index=index(tmp_path))
    assert (source.ids(), source.uids()) == (ids, plain.uids())  # type: ignore[attr-defined]


def test_a_study_is_opened_from_the_index_just_as_from_its_files(
    dicom_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = open_source(dicom_root).study("ann")
    same(open_source(dicom_root, index=index(tmp_path)).study("ann"), plain)
    monkeypatch.setattr(dicom, "read_slices", lambda path: pytest.fail(f"{path} was read again"))
    again = open_source(dicom_root, index=index(tmp_path))
    same(again.study("ann"), plain)
    assert again.study("ann").series[0].header["PatientID"] == "ann"  # from the file itself


def test_who_the_patient_is_is_not_in_the_index(dicom_root: Path, tmp_path: Path) -> None:
    kept = index(tmp_path)
    study = open_source(dicom_root, index=kept).study("ann")
    (kept_uid,) = {one.header["StudyInstanceUID"] for one in study.series}
    kept.close()
    with sqlite3.connect(kept.path) as base:
        rows = base.execute("SELECT uid, headers FROM studies").fetchall()
    assert [uid for uid, _ in rows] == [kept_uid]
    assert "PatientID" not in zlib.decompress(rows[0][1]).decode()


def test_headers_are_read_again_when_a_file_has_changed(dicom_root: Path, tmp_path: Path) -> None:
    before = open_source(dicom_root, index=index(tmp_path)).study("ann")
    gone = before.series[0]
    for path in gone.paths:
        path.unlink()
    after = open_source(dicom_root, index=index(tmp_path)).study("ann")
    assert len(after.series) == len(before.series) - 1
    assert after.find(gone.id) is None


def test_new_and_removed_cases_are_seen(tmp_path: Path, phantom: Phantom) -> None:
    root = tmp_path / "nifti"
    for name in ("a", "b"):
        write_nifti(phantom, root, name)
    settle(root)
    kept = index(tmp_path)
    assert open_source(root, index=kept).ids() == ("a", "b")
    shutil.copytree(root / "a", root / "c")
    shutil.rmtree(root / "b")
    assert open_source(root, index=kept).ids() == ("a", "c")
    settle(root)
    assert open_source(root, index=kept).ids() == open_source(root, index=index(tmp_path)).ids() == ("a", "c")
    rows = sqlite3.connect(kept.path).execute("SELECT path FROM folders ORDER BY path").fetchall()
    assert [path for (path,) in rows] == ["", "a", "c"]


def test_a_folder_of_a_moment_ago_is_not_relied_on(tmp_path: Path, phantom: Phantom) -> None:
    """The time of a folder is coarse, and files may still be coming."""
    root, kept = tmp_path / "nifti", index(tmp_path)
    write_nifti(phantom, root, "a")
    write_nifti(phantom, root, "b")
    assert len(open_source(root, index=kept).study("a").series) == 4
    time = (root / "a").stat().st_mtime_ns
    (root / "a" / "a-t1c.nii.gz").unlink()
    os.utime(root / "a", ns=(time, time))
    assert len(open_source(root, index=kept).study("a").series) == 3


def test_a_study_that_probing_missed_is_found_after_a_restart(tmp_path: Path, phantom: Phantom) -> None:
    heap = tmp_path / "heap"
    heap.mkdir()
    for k, path in enumerate(sorted(write_dicom(phantom, tmp_path / "a", "a").rglob("*.dcm"))):
        shutil.copy(path, heap / f"{k:04d}")
    stray = sorted(write_dicom(phantom, tmp_path / "b", "b").rglob("*.dcm"))[0]
    shutil.copy(stray, heap / "0001b")
    settle(heap)
    source = open_source(heap, index=index(tmp_path))
    assert len(source) == 1
    source.study(source.ids()[0])
    for _ in range(2):
        assert len(open_source(heap, index=index(tmp_path))) == 2


def test_a_damaged_index_is_made_anew(dicom_root: Path, tmp_path: Path) -> None:
    kept = index(tmp_path)
    assert open_source(dicom_root, index=kept).ids() == ("ann", "bob")
    kept.close()
    kept.path.write_bytes(b"no data base" * 1000)
    for _ in range(2):
        source = open_source(dicom_root, index=index(tmp_path))
        assert source.ids() == ("ann", "bob")
        assert len(source.study("ann").series) == 4


def test_without_a_place_for_it_everything_is_read(dicom_root: Path, tmp_path: Path) -> None:
    (tmp_path / "index").write_text("a file where the folder should be")
    source = open_source(dicom_root, index=index(tmp_path))
    assert source.ids() == ("ann", "bob")
    assert len(source.study("ann").series) == 4


def test_threads_share_an_index(dicom_root: Path, tmp_path: Path) -> None:
    kept, found = index(tmp_path), []

    def look() -> None:
        source = open_source(dicom_root, index=kept)
        found.append((source.ids(), len(source.study("bob").series)))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(("ann", "bob"), 4)] * 4


def test_the_index_is_for_its_owner_alone(dicom_root: Path, tmp_path: Path) -> None:
    kept = index(tmp_path)
    open_source(dicom_root, index=kept).ids()
    assert kept.path.stat().st_mode & 0o777 == 0o600


def test_few_folders_are_read_each_time_and_leave_no_file(dicom_root: Path, tmp_path: Path) -> None:
    kept = HeaderIndex(tmp_path / "index/headers.sqlite", smallest=200)
    assert open_source(dicom_root, index=kept).ids() == ("ann", "bob")
    assert not kept.path.exists()


def test_an_unreadable_folder_is_looked_at_again(tmp_path: Path, phantom: Phantom) -> None:
    content, seconds = folders._read(str(tmp_path / "none"), {})
    assert content["cases"] == {}
    assert seconds == float("inf")


def test_what_a_pacs_has_said_holds_after_a_restart(dicom_root: Path, tmp_path: Path) -> None:
    with running(FakePacs(dicom_root, tmp_path / "pacs")) as pacs:

        def source() -> DicomWebSource:
            cache = FileCache(tmp_path / "cache", 2**20)
            return DicomWebSource(Pacs(pacs.url, attempts=1), cache, index=index(tmp_path))

        first = source()
        assert not first.listed_before
        first.refresh()
        study = first.study(first.ids()[0])
        asked = len(pacs.asked)
        again = source()
        assert again.listed_before
        assert again.ids() == first.ids()
        assert len(pacs.asked) == asked
        same(again.study(study.id), study)
        assert not any("metadata" in str(one) for one in pacs.asked[asked:])
        with again.study(study.id).series[0].files() as paths:
            assert all(path.is_file() for path in paths)
