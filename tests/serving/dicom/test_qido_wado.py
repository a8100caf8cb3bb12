"""DICOMweb over a folder with two patients: what is listed, what is handed out, and that nobody sees the
other's.
"""

from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from fastapi import FastAPI

from slem_app import phantom
from slem_app.errors import BadStudy, NotFound
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.dicom.qido_wado import install
from slem_app.serving.http.application import complete
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.weights import BRAIN_LABELS

SMALL = {"shape": (24, 28, 20), "spacing": (8.0, 8.0, 8.0)}
PREFIXES = ("/dicom-web", "/proxy/dicom/qido", "/proxy/dicom/wado")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    studies = tmp_path_factory.mktemp("dicom")
    phantom.write_dicom(phantom.make(seed=1, **SMALL), studies, "ann", extras=True)
    phantom.write_dicom(phantom.make(seed=2, oblique=True, own_grids=True, **SMALL), studies, "ben")
    return studies


@pytest.fixture(scope="module")
def cases(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(folder, tmp_path_factory.mktemp("store") / "uploads")


@pytest.fixture(scope="module")
def get(cases: Cases, serve: Callable) -> Iterator[Callable[..., requests.Response]]:
    app = FastAPI()
    install(app, cases)
    complete(app)
    with serve(app) as url:
        yield lambda path, **params: requests.get(
            url + path, params=params, timeout=30, headers={"Connection": "close"}
        )


def patients(answer: requests.Response) -> list[str]:
    return [one["00100020"]["Value"][0] for one in answer.json()]


@pytest.fixture(scope="module")
def uids(folder: Path) -> dict[str, dict[str, str]]:
    """Patient -> series description -> SeriesInstanceUID; under '' the study's."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        found.setdefault(header.PatientID, {"": header.StudyInstanceUID})[header.SeriesDescription] = (
            header.SeriesInstanceUID
        )
    return found


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["ann", "ben"]),
        ({"PatientID": "ann"}, ["ann"]),
        ({"00100020": "ben"}, ["ben"]),
        ({"PatientID": "AN*"}, []),
        ({"PatientID": "?nn"}, ["ann"]),
        ({"PatientID": "[ab]*"}, []),
        ({"PatientID": ""}, ["ann", "ben"]),
        ({"PatientName": "phantom^ANN"}, ["ann"]),
        ({"PatientName": "ben", "fuzzymatching": "true"}, ["ben"]),
        ({"PatientName": "ben"}, []),
        ({"StudyDate": "20240101-20240131"}, ["ann", "ben"]),
        ({"StudyDate": "-20231231"}, []),
        ({"ModalitiesInStudy": "CT"}, []),
        ({"limit": "1", "offset": "1", "includefield": "00081030"}, ["ben"]),
        ({"StudyInstanceUID": "1.2.3"}, []),
    ],
)
def test_studies_are_found_by_what_was_asked(
    get: Callable, prefix: str, query: dict, expected: list[str]
) -> None:
    assert sorted(patients(get(f"{prefix}/studies", **query))) == expected


def test_a_study_is_found_by_its_uid_alone_or_in_a_list(get: Callable, uids: dict) -> None:
    assert patients(get("/dicom-web/studies", StudyInstanceUID=uids["ann"][""])) == ["ann"]
    assert patients(get("/dicom-web/studies", StudyInstanceUID=f"{uids['ben']['']},1.2")) == ["ben"]


@pytest.mark.parametrize(
    "query", [{"Patient": "ann"}, {"00109999": "x"}, {"SeriesInstanceUID": "1.2"}, {"limit": "many"}]
)
def test_a_filter_that_is_not_understood_is_refused(get: Callable, query: dict) -> None:
    answer = get("/dicom-web/studies", **query)
    assert (answer.status_code, answer.json()["error"]) == (400, "BadSetting")


def test_series_and_instances_are_those_of_the_files(get: Callable, uids: dict, folder: Path) -> None:
    study = uids["ann"][""]
    series = get(f"/dicom-web/studies/{study}/series").json()
    assert {one["0008103E"]["Value"][0]: one["0020000E"]["Value"][0] for one in series} == {
        name: uid for name, uid in uids["ann"].items() if name
    }
    flair = [one for one in series if "FLAIR" in one["0008103E"]["Value"][0]]
    assert [one["00201209"]["Value"] for one in flair] == [[20]]
    assert get(f"/dicom-web/studies/{study}/series", Modality="CT").json() == []
    uid = flair[0]["0020000E"]["Value"][0]
    instances = get(f"/dicom-web/studies/{study}/series/{uid}/instances").json()
    assert len({one["00080018"]["Value"][0] for one in instances}) == 20
    assert len(get(f"/dicom-web/studies/{study}/instances", limit=1000).json()) == len(
        list((folder / "ann").rglob("*.dcm"))
    )


def test_headers_pixels_and_files_are_handed_out(get: Callable, uids: dict, folder: Path) -> None:
    path = sorted((folder / "ann/4_t2f").glob("*.dcm"))[3]
    image = pydicom.dcmread(path)
    where = f"/proxy/dicom/wado/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}"
    headers = get(f"{where}/metadata").json()
    positions = [one["00200032"]["Value"][2] for one in headers]
    assert positions == sorted(positions)
    assert len(positions) == 20
    [header] = get(f"{where}/instances/{image.SOPInstanceUID}/metadata").json()
    assert header["00280010"]["Value"] == [image.Rows]
    assert "7FE00010" not in header
    frame = parts(get(f"{where}/instances/{image.SOPInstanceUID}/frames/1"))
    assert frame[0].get_param("transfer-syntax") == "1.2.840.10008.1.2.1"
    np.testing.assert_array_equal(
        np.frombuffer(frame[0].get_payload(decode=True), "<u2").reshape(image.Rows, image.Columns),
        image.pixel_array,
    )
    [file] = parts(get(f"{where}/instances/{image.SOPInstanceUID}"))
    assert file.get_payload(decode=True) == path.read_bytes()
    again = get(f"{where}/instances/{image.SOPInstanceUID}/frames/{','.join(['1'] * 20_000)}")
    assert len(again.content) < 2 * len(frame[0].get_payload(decode=True)) + 500  # each frame once
    assert get(f"{where}/instances/{image.SOPInstanceUID}/frames/2").status_code == 404
    assert get(f"{where}/instances/{image.SOPInstanceUID}/frames/one").status_code == 400


def parts(answer: requests.Response) -> list:
    """The parts of a multipart body; the mail parser wants to be told that they are binary."""
    assert answer.ok, answer.text
    body = answer.content.replace(
        b"\r\nContent-Type", b"\r\nContent-Transfer-Encoding: binary\r\nContent-Type"
    )
    return message_from_bytes(
        b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n" + body
    ).get_payload()


def test_nothing_of_one_patient_is_found_under_the_other(get: Callable, uids: dict) -> None:
    ann, ben = uids["ann"], uids["ben"][""]
    theirs = next(uid for name, uid in ann.items() if name)
    assert get(f"/dicom-web/studies/{ben}/series", SeriesInstanceUID=theirs).json() == []
    assert get(f"/dicom-web/studies/{ben}/series/{theirs}/instances").json() == []
    assert get(f"/dicom-web/studies/{ben}/series/{theirs}/metadata").status_code == 404
    assert get("/dicom-web/studies/1.2.3/metadata").status_code == 404
    assert get(f"/dicom-web/studies/{ben}/series", StudyInstanceUID=ann[""]).json() == []


def test_storing_is_not_offered_and_monai_labels_proxy_not_reached(get: Callable) -> None:
    for path in (
        "/proxy/dicom/stow/studies",
        "/proxy/dicom/studies",
        "/proxy/dicom/wado/studies/1.2/rendered",
    ):
        assert get(path).status_code == 501


def test_any_series_uid_is_an_image_and_names_its_own_grid(cases: Cases, uids: dict, folder: Path) -> None:
    for patient in ("ann", "ben"):
        for name, uid in uids[patient].items():
            case = Cases(folder, cases.uploads).find(uid)  # a server that has not seen the study before
            assert case.id == patient
            if name:
                assert case.series.id == uid
                assert case.image == (uid if "ADC" in name or "localizer" in name else case.sequence)


def test_an_unknown_uid_is_no_case(cases: Cases) -> None:
    with pytest.raises(NotFound, match="no case '1.2.3.4'"):
        cases.find("1.2.3.4")


def test_a_series_that_two_cases_have_must_be_named_with_its_case(folder: Path, tmp_path: Path) -> None:
    for source in sorted((folder / "ann/4_t2f").glob("*.dcm")):
        image = pydicom.dcmread(source)
        for case in ("one", "two"):
            image.StudyInstanceUID = f"1.2.3.{len(case)}.{ord(case[0])}"
            (tmp_path / case).mkdir(exist_ok=True)
            image.save_as(tmp_path / case / source.name)
    cases = Cases(tmp_path, tmp_path / ".slem/uploads")
    with pytest.raises(BadStudy, match="several cases have a series"):
        cases.find(str(image.SeriesInstanceUID))
    assert cases.find(f"two/{image.SeriesInstanceUID}").id == "two"


def test_a_case_tells_the_uids_by_which_ohif_opens_it(
    cases: Cases, uids: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    told = CaseDatastore(cases, tmp_path / "store", {"slem_brain": BRAIN_LABELS}).get_image_info("ann")
    assert told["StudyInstanceUID"] == uids["ann"][""]
    assert told["SeriesInstanceUID"] in uids["ann"].values()
    assert cases.find(told["SeriesInstanceUID"]).sequence == told["sequence"] == "t1c"
