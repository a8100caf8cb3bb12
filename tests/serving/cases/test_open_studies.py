"""Cases of a PACS: found by any UID, new ones at once, never another patient's; settings and where things are
kept.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from slem_app import phantom
from slem_app.errors import BadSetting, NotFound, PacsFailed
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.open_studies import open_studies
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.settings import Settings
from slem_app.studies.dicomweb import DicomWebSource
from slem_app.weights import BRAIN_LABELS
from tests.fake_pacs import FakePacs, running
from tests.waiting import wait_until

SMALL = {"shape": (16, 18, 12), "spacing": (9.0, 9.0, 12.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    studies = tmp_path_factory.mktemp("dicom") / "studies"
    for name, seed in (("ann", 1), ("ben", 2)):
        phantom.write_dicom(phantom.make(seed=seed, **SMALL), studies, name, extras=True)
    return studies


@pytest.fixture(scope="module")
def pacs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakePacs]:
    with running(FakePacs(folder, tmp_path_factory.mktemp("pacs"))) as server:
        yield server


@pytest.fixture
def cases(pacs: FakePacs, tmp_path: Path) -> Cases:
    return Cases(open_studies(pacs.url, Settings(), tmp_path / "store"), tmp_path / "store/uploads")


def header(folder: Path, name: str):
    return dcmread(next((folder / name).iterdir()), stop_before_pixels=True)


@pytest.mark.parametrize("patient", ["ann", "ben"])
def test_any_series_of_a_study_is_an_image_on_its_own_grid(cases: Cases, folder: Path, patient: str) -> None:
    for name in ("1_t1n", "2_t1c", "3_t2w", "4_t2f", "9_adc"):
        one = header(folder, f"{patient}/{name}")
        case = cases.find(str(one.SeriesInstanceUID))
        assert (case.id, case.series.id) == (one.StudyInstanceUID, one.SeriesInstanceUID)
        assert case.sequence == (name[2:] if name != "9_adc" else "t1c")
    assert cases.find(str(one.StudyInstanceUID)).sequence == "t1c"
    assert cases.find(f"{one.StudyInstanceUID}/t2f").sequence == "t2f"


def test_what_is_not_listed_is_not_found(pacs: FakePacs, folder: Path, tmp_path: Path) -> None:
    cases = Cases(
        open_studies(pacs.url, Settings(pacs_query="PatientID=ann"), tmp_path / "store"), tmp_path / "uploads"
    )
    other = header(folder, "ben/2_t1c")
    for identifier in (str(other.SeriesInstanceUID), str(other.StudyInstanceUID), "1.2.3", "ann", "../x"):
        with pytest.raises(NotFound):
            cases.find(identifier)


def test_an_unchanged_study_is_not_asked_for_again(cases: Cases, pacs: FakePacs) -> None:
    case = cases.ids()[0]
    grouping = cases.find(case).grouping
    pacs.asked.clear()
    assert cases.find(f"{case}/t2f").grouping is grouping
    assert pacs.asked == []


def test_the_datastore_serves_images_of_the_pacs(cases: Cases, tmp_path: Path) -> None:
    datastore = CaseDatastore(cases, tmp_path / "store", {"slem_brain": BRAIN_LABELS})
    case = datastore.list_images()[0]
    assert datastore.name() == "PACS"
    assert Path(datastore.get_image_uri(f"{case}/t2w")).name.startswith("t2w-")
    assert datastore.get_image_info(case)["sequences"]["t1c"]["series"] == cases.find(case).series.id
    assert datastore.status()["total"] == 2


def test_a_pacs_that_does_not_answer_is_told(tmp_path: Path) -> None:
    source = open_studies("http://127.0.0.1:9/dicom-web", Settings(), tmp_path)
    assert isinstance(source, DicomWebSource)
    object.__setattr__(source.pacs, "pause", 0.0)
    with pytest.raises(
        PacsFailed, match="the PACS at http://127.0.0.1:9/dicom-web gives no usable answer to its studies"
    ):
        Cases(source, tmp_path / "uploads")


@pytest.mark.parametrize(
    "address", ["http://", "http://user:secret@pacs/dicom-web", "http://pacs/dicom-web?PatientID=1"]
)
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="the address of the PACS must be http://HOST:PORT/PATH") as error:
        open_studies(address, Settings(), tmp_path)
    assert "secret" not in str(error.value)


def test_a_folder_stays_a_folder(tmp_path: Path) -> None:
    assert open_studies(str(tmp_path), Settings(), tmp_path) == tmp_path


def test_new_studies_and_series_appear_within_seconds(cases: Cases, folder: Path) -> None:
    ann = str(header(folder, "ann/2_t1c").StudyInstanceUID)
    (folder / "ann/4_t2f").rename(folder.parent / "later")
    assert set(cases.find(ann).grouping.sequences) == {"t1n", "t1c", "t2w"}
    (folder.parent / "later").rename(folder / "ann/4_t2f")
    phantom.write_dicom(phantom.make(seed=3, **SMALL), folder, "eve")
    wait_until(lambda: len(cases.ids()) >= 3 and len(cases.find(ann).grouping.sequences) >= 4, 8, pause=0.2)
    assert cases.find(str(header(folder, "eve/2_t1c").StudyInstanceUID)).sequence == "t1c"


def test_a_pacs_may_be_empty_and_become_so_again(folder: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    with running(FakePacs(studies, tmp_path / "pacs")) as pacs:
        cases = Cases(open_studies(pacs.url, Settings(), tmp_path / "store"), tmp_path / "store/uploads")
        assert (cases.ids(), cases.name) == ((), "PACS")
        uid = str(header(folder, "ann/2_t1c").StudyInstanceUID)
        for _ in range(2):
            shutil.copytree(folder / "ann", studies / "ann")
            cases.refresh()
            assert cases.ids() == (uid,)
            assert cases.find(uid).sequence == "t1c"
            shutil.rmtree(studies / "ann")
            pacs.cases.refresh()
            cases.refresh()
            assert cases.ids() == cases.known() == ()
            with pytest.raises(NotFound, match="among the 0 here"):
                cases.find(uid)
