"""Through the proxy a reader sees the served studies alone, and stores results of theirs alone."""

import json
from collections.abc import Callable, Iterator
from io import BytesIO

import pydicom
import pytest
import requests
from fastapi import FastAPI
from pydicom.uid import generate_uid

from slem_app import phantom
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.open_studies import open_studies
from slem_app.serving.dicom.proxy import proxy_router
from slem_app.serving.dicom.served import ServedStudies
from slem_app.serving.http.application import complete
from slem_app.serving.settings import Settings
from tests.fake_pacs import FakePacs

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pydicom.Dataset]:
    """One image of each patient; the folder has both, the server serves ann's study alone."""
    folder = tmp_path_factory.mktemp("dicom")
    found = {}
    for seed, patient in enumerate(("ann", "ben")):
        head = phantom.make(seed=seed, shape=(20, 24, 16), spacing=(9.0, 9.0, 9.0))
        phantom.write_dicom(head, folder, patient)
        found[patient] = pydicom.dcmread(next((folder / patient).rglob("*.dcm")))
    found["folder"] = folder
    return found


@pytest.fixture(scope="module")
def url(images: dict, serve: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("store")
    pacs = FakePacs(images["folder"], root)
    with serve(pacs) as address:
        query = f"StudyInstanceUID={images['ann'].StudyInstanceUID}"
        settings = Settings(pacs_query=query, pacs_timeout=10.0)
        cases = Cases(open_studies(f"{address}/dicom-web", settings, root), root / "uploads")
        app = FastAPI()
        app.include_router(proxy_router(cases.pacs.pacs, ServedStudies(cases, cases.pacs.pacs)))
        complete(app)
        with serve(app) as proxy:
            yield f"{proxy}/proxy/dicom"


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=60, headers={"Connection": "close"})


@pytest.mark.parametrize(
    "what", ["studies", "series", "instances", "studies?PatientID=ben", "series?Modality=MR"]
)
def test_searches_find_served_studies_alone(url: str, images: dict, what: str) -> None:
    answer = get(f"{url}/qido/{what}")
    assert answer.status_code == 200
    uids = {one["0020000D"]["Value"][0] for one in answer.json()}
    assert uids == (set() if "ben" in what else {images["ann"].StudyInstanceUID})


def test_a_study_that_is_not_served_is_not_there(url: str, images: dict) -> None:
    ann, ben = images["ann"].StudyInstanceUID, images["ben"].StudyInstanceUID
    assert get(f"{url}/wado/studies/{ann}/metadata").status_code == 200
    assert get(f"{url}/qido/studies/{ann}/series").json()
    for path in (
        f"studies/{ben}",
        f"studies/{ben}/metadata",
        f"studies/{ben}/series",
        f"studies/{ben}/series/{images['ben'].SeriesInstanceUID}/metadata",
        f"studies/{ann},{ben}/metadata",
        f"series/{images['ben'].SeriesInstanceUID}/metadata",
        f"bulkdata/{ben}",
    ):
        assert get(f"{url}/wado/{path}").status_code == 404, path


def result(image: pydicom.Dataset, **fields: object) -> bytes:
    """An instance that refers to the study of an image."""
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one.is_little_endian, one.is_implicit_VR = True, False
    one.SOPClassUID, one.SOPInstanceUID, one.SeriesInstanceUID = SEG, generate_uid(), generate_uid()
    for key in ("StudyInstanceUID", "PatientID", "PatientName", "FrameOfReferenceUID"):
        if key in image:
            setattr(one, key, image[key].value)
    for key, value in fields.items():
        setattr(one, key, value)
    one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = (
        one.SOPClassUID,
        one.SOPInstanceUID,
    )
    content = BytesIO()
    one.save_as(content, write_like_original=False)
    return content.getvalue()


def store(url: str, *contents: bytes, path: str = "studies") -> requests.Response:
    body = b"".join(b"--x\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in contents)
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=x',
        "Connection": "close",
    }
    return requests.post(f"{url}/stow/{path}", data=body + b"--x--\r\n", headers=headers, timeout=60)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"SOPClassUID": MR}, "only results can be stored here"),
        ({"PatientName": "Forged^Name"}, "another patient"),
        ({"PatientID": "forged"}, "another patient"),
        ({"FrameOfReferenceUID": "1.2.3.4"}, "a frame of reference (1.2.3.4) that study"),
        ({"StudyInstanceUID": "1.2.3.4"}, "no study '1.2.3.4' is served here"),
    ],
)
def test_nothing_forged_is_stored(url: str, images: dict, fields: dict, text: str) -> None:
    answer = store(url, result(images["ann"]), result(images["ann"], **fields))
    assert answer.status_code in (404, 422)
    assert text in json.dumps(answer.json())


def test_nothing_is_stored_in_a_study_that_is_not_served(url: str, images: dict) -> None:
    assert store(url, result(images["ben"])).status_code == 404
    there = f"studies/{images['ben'].StudyInstanceUID}"
    assert store(url, result(images["ann"]), path=there).status_code == 422
    assert store(url, b"no DICOM").status_code == 422


def test_a_result_of_a_served_study_reaches_the_pacs(url: str, images: dict) -> None:
    # the PACS itself takes no segmentation without pixels, and says so in its own words
    assert store(url, result(images["ann"])).status_code == 409
