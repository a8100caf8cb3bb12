"""Studies of a PACS: as from files, fetched only when needed, and what happens when the PACS is slow, cut
off, wrong or gone.
"""

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from slem_app import phantom
from slem_app.errors import NotFound, PacsFailed
from slem_app.grouping import group
from slem_app.studies import Study, open_source
from slem_app.studies.dicomweb import DicomWebSource
from slem_app.studies.file_cache import FileCache
from slem_app.studies.pacs import Pacs
from slem_app.volumes.read import read, read_all
from tests.fake_pacs import FakePacs, cut, instead, late, running, status

SMALL = {"shape": (16, 18, 12), "spacing": (9.0, 9.0, 12.0)}
IMAGE = r"GET .*/instances/[0-9.]+$"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    studies = tmp_path_factory.mktemp("dicom")
    phantom.write_dicom(phantom.make(seed=1, **SMALL), studies, "ann", extras=True)
    phantom.write_dicom(phantom.make(seed=2, oblique=True, own_grids=True, **SMALL), studies, "ben")
    return studies


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakePacs]:
    with running(FakePacs(folder, tmp_path_factory.mktemp("store"))) as pacs:
        yield pacs


@pytest.fixture
def pacs(server: FakePacs) -> Iterator[FakePacs]:
    server.asked.clear()
    yield server
    server.mend()


@pytest.fixture
def source(pacs: FakePacs, tmp_path: Path) -> DicomWebSource:
    return DicomWebSource(
        Pacs(pacs.url, pause=0.01, timeout=2.0), FileCache(tmp_path / "cache", 100 * MEGABYTE)
    )


def uid_of(folder: Path, patient: str) -> str:
    return str(dcmread(next((folder / patient).rglob("*.dcm")), stop_before_pixels=True).StudyInstanceUID)


def files(source: DicomWebSource) -> list[Path]:
    return [path for path in source.cache.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("patient", ["ann", "ben"])
def test_a_study_is_as_its_files_are(source: DicomWebSource, folder: Path, patient: str) -> None:
    uid = uid_of(folder, patient)
    assert uid in source.ids()
    there, here = group(source.study(uid)), group(open_source(folder).study(uid))
    assert list(there.sequences) == list(here.sequences)
    assert [(one.sequence, one.reason) for one in there.choices] == [
        (one.sequence, one.reason) for one in here.choices
    ]
    assert [one.reason for one in there.leftovers] == [one.reason for one in here.leftovers]
    fetched, expected = read_all(there.sequences), read_all(here.sequences)
    for name, volume in expected.items():
        assert fetched[name].grid.same_as(volume.grid)
        np.testing.assert_array_equal(fetched[name].array, volume.array)


def test_pixels_come_only_of_what_is_read_and_once(
    source: DicomWebSource, pacs: FakePacs, folder: Path
) -> None:
    sequences = group(source.study(uid_of(folder, "ann"))).sequences
    assert pacs.count(IMAGE) == 0
    for _ in range(2):
        read(sequences["t2f"])
    assert pacs.count(IMAGE) == len(sequences["t2f"].paths) == 12
    assert sorted(path.name for path in files(source)) == sorted(path.name for path in sequences["t2f"].paths)
    assert {
        path.stat().st_mode & 0o077 for path in (source.cache.root, sequences["t2f"].paths[0].parent)
    } == {0}


def test_a_study_can_be_handed_to_another_process_which_fetches_it_itself(
    pacs: FakePacs, folder: Path, tmp_path: Path
) -> None:
    secret = Pacs(pacs.url, user="eva", password="abracadabra", pause=0.01)
    source = DicomWebSource(secret, FileCache(tmp_path / "cache", 100 * MEGABYTE))
    uid = uid_of(folder, "ann")
    packed = pickle.dumps(group(source.study(uid)))
    assert b"abracadabra" not in packed  # the other process has it in its environment
    assert not files(source)
    there, here = pickle.loads(packed), group(open_source(folder).study(uid))
    assert there.sequences["t1c"].origin.pacs.timeout == secret.timeout
    np.testing.assert_array_equal(read(there.sequences["t1c"]).array, read(here.sequences["t1c"]).array)
    assert files(source)


def test_two_readers_of_one_series_fetch_it_once(
    source: DicomWebSource, pacs: FakePacs, folder: Path
) -> None:
    series = group(source.study(uid_of(folder, "ann"))).sequences["t1c"]
    threads = [threading.Thread(target=read, args=(series,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pacs.count(IMAGE) == 12


def test_the_cache_keeps_its_limit_and_what_was_used_last(
    pacs: FakePacs, folder: Path, tmp_path: Path
) -> None:
    one = sum(path.stat().st_size for path in (folder / "ann/2_t1c").iterdir())
    source = DicomWebSource(Pacs(pacs.url, pause=0.01), FileCache(tmp_path / "cache", int(2.5 * one)))
    sequences = group(source.study(uid_of(folder, "ann"))).sequences
    for name in ("t1n", "t1c", "t1n", "t2w"):
        read(sequences[name])
    assert sorted(path.name for path in source.cache.root.glob("*/*")) == sorted(
        sequences[name].id for name in ("t1n", "t2w")
    )
    read(sequences["t1c"])  # is fetched again
    assert source.cache.clear() == 2
    assert files(source) == []


@pytest.mark.parametrize(
    "fault",
    [status(500), status(429), cut(0.5), cut(0.9, announced=False)],
    ids=["500", "429", "cut", "short"],
)
def test_what_passes_is_tried_again(
    source: DicomWebSource, pacs: FakePacs, folder: Path, fault: object
) -> None:
    for what in (r"GET .*/studies$", r"GET .*/series$", r"GET .*/metadata$", IMAGE):
        pacs.fail(what, fault, times=2)
    uid = uid_of(folder, "ann")
    assert uid in source.ids()
    series = group(source.study(uid)).sequences["t2w"]
    np.testing.assert_array_equal(
        read(series).array, read(group(open_source(folder).study(uid)).sequences["t2w"]).array
    )


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (status(500), "answers 500 to image [0-9.]+ of series [0-9.]+: check its log"),
        (status(403), "answers 403 .*: check the user"),
        (cut(0.5), "gives no usable answer .*the connection was cut|no connection, or one that was cut"),
        (cut(0.9, announced=False), "gives no usable answer to image .*: check that it runs"),
        (late(3.0), "it takes too long|no connection"),
    ],
    ids=["500", "403", "cut", "short", "slow"],
)
def test_what_stays_wrong_is_told_and_nothing_is_half_stored(
    source: DicomWebSource, pacs: FakePacs, folder: Path, fault: object, text: str
) -> None:
    series = group(source.study(uid_of(folder, "ann"))).sequences["t2w"]
    object.__setattr__(source.pacs, "attempts", 2)
    failing = series.paths[7].stem
    pacs.fail(f"GET .*{failing}$", fault)
    with pytest.raises(PacsFailed, match=text) as error:
        read(series)
    assert "ann" not in str(error.value).lower()
    whole = {path.name: path.stat().st_size for path in files(source)}
    assert f"{failing}.dcm" not in whole
    assert len(set(whole.values())) <= 2  # UIDs have two lengths here, files no other reason to differ
    pacs.mend()
    before = pacs.count(IMAGE)
    read(series)
    assert pacs.count(IMAGE) - before == 12 - len(whole)  # what had come is not fetched again


def test_an_image_of_another_patient_is_refused(source: DicomWebSource, pacs: FakePacs, folder: Path) -> None:
    mine, other = (
        group(source.study(uid_of(folder, patient))).sequences["t1c"] for patient in ("ann", "ben")
    )
    wrong = other.paths[0]
    pacs.fail(
        f"GET .*{mine.paths[3].stem}$",
        instead(
            f"/dicom-web/studies/{wrong.parent.parent.name}/series/{wrong.parent.name}/instances/{wrong.stem}"
        ),
    )
    with pytest.raises(PacsFailed, match="another image than was asked for"):
        read(mine)
    assert not mine.paths[3].exists()


def test_headers_of_another_series_are_refused(source: DicomWebSource, pacs: FakePacs, folder: Path) -> None:
    other = source.study(uid_of(folder, "ben")).series[0]
    pacs.fail(
        r"GET .*/metadata$", instead(f"/dicom-web/studies/{uid_of(folder, 'ben')}/series/{other.id}/metadata")
    )
    with pytest.raises(PacsFailed, match="headers of another series"):
        source.study(uid_of(folder, "ann"))


def test_a_series_that_goes_while_it_is_fetched_is_told(
    source: DicomWebSource, pacs: FakePacs, folder: Path
) -> None:
    series = group(source.study(uid_of(folder, "ann"))).sequences["t2w"]
    pacs.fail(IMAGE, status(404))
    with pytest.raises(NotFound, match=f"series {series.id} has lost images since it was listed"):
        read(series)


def test_while_the_pacs_is_gone_what_is_known_stays(folder: Path, tmp_path: Path) -> None:
    with running(FakePacs(folder, tmp_path / "store")) as pacs:
        source = DicomWebSource(
            Pacs(pacs.url, pause=0.01, attempts=2, timeout=1), FileCache(tmp_path / "cache", 100 * MEGABYTE)
        )
        ids, uid = source.ids(), uid_of(folder, "ann")
        sequences, state = group(source.study(uid)).sequences, source.state(uid)
        read(sequences["t1c"])
    source.refresh()
    source.said = {study: (0.0, found) for study, (_, found) in source.said.items()}  # as after a while
    assert (source.ids(), source.state(uid)) == (ids, state)
    read(sequences["t1c"])
    with pytest.raises(PacsFailed, match="no connection, or one that was cut"):
        read(sequences["t2f"])
    with pytest.raises(PacsFailed, match="gives no usable answer to its studies"):
        DicomWebSource(Pacs(pacs.url, pause=0.01, attempts=2), source.cache).ids()
    with running(pacs, int(pacs.url.split(":")[2].split("/")[0])):
        read(sequences["t2f"])


def test_what_comes_into_a_study_is_seen(folder: Path, tmp_path: Path) -> None:
    def listed(source: DicomWebSource, uid: str) -> Study:
        source.forget(uid)
        return source.study(uid)

    studies = tmp_path / "studies"
    phantom.write_dicom(phantom.make(seed=1, **SMALL), studies, "ann")
    late_one = studies / "ann/4_t2f"
    late_one.rename(tmp_path / "late")
    with running(FakePacs(studies, tmp_path / "store")) as pacs:
        source = DicomWebSource(Pacs(pacs.url), FileCache(tmp_path / "cache", MEGABYTE))
        [uid] = source.ids()
        assert set(group(source.study(uid)).sequences) == {"t1n", "t1c", "t2w"}
        before = source.state(uid)
        (tmp_path / "late").rename(late_one)
        assert set(group(listed(source, uid)).sequences) == {"t1n", "t1c", "t2w", "t2f"}
        assert source.state(uid) != before
        phantom.write_dicom(phantom.make(seed=2, **SMALL), studies, "ben")
        source.refresh()
        assert len(source.ids()) == 2


def test_what_was_said_is_kept_of_so_many_studies_only(
    source: DicomWebSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slem_app.studies.dicomweb.ASKED", 1)
    for patient in ("ann", "ben"):
        assert source.listing(uid_of(folder, patient))
        assert list(source.said) == [uid_of(folder, patient)]


def test_a_query_chooses_the_studies(pacs: FakePacs, folder: Path, tmp_path: Path) -> None:
    for query, count in (("PatientID=ann", 1), ("ModalitiesInStudy=CT", 0), ("", 2)):
        assert len(DicomWebSource(Pacs(pacs.url, query), FileCache(tmp_path, 1)).ids()) == count


def test_a_series_leads_to_its_study(source: DicomWebSource, folder: Path) -> None:
    series = str(dcmread(next((folder / "ben/2_t1c").iterdir()), stop_before_pixels=True).SeriesInstanceUID)
    assert source.study_of(series) == uid_of(folder, "ben")
    assert source.study_of("1.2.3") is None
