"""Saving over HTTP, as OHIF's bar and its Segmentation mode do: what is shown, what was edited, what is
refused; with files alone and over a PACS.
"""

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread

from slem_app import phantom
from slem_app.formats import read_label_file
from slem_app.formats.seg_reader import read_seg
from slem_app.serving.app_folder import open_serving
from slem_app.serving.http.application import build
from slem_app.serving.server import Serving
from slem_app.weights import BRAIN_LABELS
from tests.fake_pacs import FakePacs, running

SMALL = {"shape": (24, 28, 20), "spacing": (6.0, 6.0, 7.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    studies = tmp_path_factory.mktemp("dicom") / "studies"
    phantom.write_dicom(phantom.make(seed=1, **SMALL), studies, "ann")
    phantom.write_dicom(phantom.make(seed=2, **SMALL), studies, "ben")
    return studies


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module", params=["folder", "pacs"])
def serving(
    request: pytest.FixtureRequest, folder: Path, click_models: Path, place: Path
) -> Iterator[Serving]:
    """The whole app over a folder, and over a PACS that holds the same."""
    with running(FakePacs(folder, place / "pacs")) as pacs, pytest.MonkeyPatch.context() as patch:
        studies, store = (
            (str(folder), place / "store")
            if request.param == "folder"
            else (pacs.url, place / "store of a PACS")
        )
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(place / "sessions"))
        serving = open_serving(studies, {"models_dir": str(click_models), "store": str(store)})
        serving.fake = pacs
        yield serving


@pytest.fixture(scope="module")
def url(serving: Serving, serve: Callable) -> Iterator[str]:
    with serve(build(serving)) as address:
        yield address


@pytest.fixture
def stored(serving: Serving, url: str) -> DICOMwebClient:
    """Where results are: this server's own DICOMweb, or the PACS's."""
    session = requests.Session()
    session.headers["Connection"] = "close"
    return DICOMwebClient(
        f"{url}/dicom-web" if serving.dicom_results else serving.fake.url,
        session=session,
        permissive_uid=True,
    )


@pytest.mark.parametrize("model", ["slem_brain", "slem_brain_clicks"])
def test_a_reply_may_be_a_segmentation_that_is_not_stored(
    url: str, folder: Path, stored: DICOMwebClient, model: str
) -> None:
    source, before = (
        header(folder, "ann/4_t2f"),
        len(stored.search_for_series(search_filters={"Modality": "SEG"})),
    )
    fields = {"client_id": "sam", **({"edema": [[12, 14, 10]]} if model.endswith("clicks") else {})}

    def ask(output: str) -> requests.Response:
        where = {"image": str(source.SeriesInstanceUID), "output": output}
        return requests.post(
            f"{url}/infer/{model}",
            params=where,
            data={"params": json.dumps(fields)},
            headers={"Connection": "close"},
            timeout=60,
        )

    answer, map_ = ask("dicom_seg"), ask("image")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom"), answer.text
    seg = dcmread(BytesIO(answer.content))
    assert (seg.PatientID, seg.ReferencedSeriesSequence[0].SeriesInstanceUID) == (
        "ann",
        source.SeriesInstanceUID,
    )
    assert {one.SegmentAlgorithmType for one in seg.SegmentSequence} == {
        "SEMIAUTOMATIC" if "edema" in fields else "AUTOMATIC"
    }
    (place_ := folder.parent / "reply.nrrd").write_bytes(map_.content)
    array, grid, _ = read_label_file(place_)
    np.testing.assert_array_equal(read_seg(seg, grid, BRAIN_LABELS), array)
    assert array.any()
    assert len(stored.search_for_series(search_filters={"Modality": "SEG"})) == before


def header(folder: Path, name: str) -> Any:
    return dcmread(next((folder / name).iterdir()), stop_before_pixels=True)


def infer(
    url: str, image: str, model: str = "slem_brain", params: str = "{}", client: str = "eva"
) -> requests.Response:
    fields = {
        "params": params.replace(
            "{", f'{{"client_id": "{client}", ' if params != "{}" else f'{{"client_id": "{client}"', 1
        )
    }
    answer = requests.post(
        f"{url}/infer/{model}",
        params={"image": image, "output": "image"},
        data=fields,
        timeout=120,
        headers={"Connection": "close"},
    )
    assert answer.ok, answer.text
    return answer


def save(url: str, image: str, client: str = "eva") -> requests.Response:
    return requests.post(
        f"{url}/slem/save",
        params={"image": image, "client_id": client},
        timeout=120,
        headers={"Connection": "close"},
    )


def segs(client: DICOMwebClient, study: str) -> list[Any]:
    found = client.search_for_series(study, search_filters={"Modality": "SEG"})
    return [client.retrieve_series(study, one["0020000E"]["Value"][0])[0] for one in found]


def test_what_is_shown_is_saved_as_a_segmentation(
    url: str, serving: Serving, stored: DICOMwebClient, folder: Path, tmp_path: Path
) -> None:
    image = header(folder, "ann/4_t2f")
    study, series = str(image.StudyInstanceUID), str(image.SeriesInstanceUID)
    nothing = save(url, series)
    assert (nothing.status_code, nothing.json()["error"]) == (404, "NotFound")
    assert "run one first" in nothing.json()["detail"]

    (tmp_path / "automatic.nrrd").write_bytes(infer(url, series).content)
    automatic, grid, _ = read_label_file(tmp_path / "automatic.nrrd")
    told = save(url, series).json()
    where = f"saved as version 1, in the study as {told['dicom']['description']!r}"
    assert told["message"] == f"Confirmed unchanged and {where}."
    assert told["dicom"]["kind"] == "AUTOMATIC"

    clicks = '{"edema": [[4, 5, 6]], "label": "edema"}'
    (tmp_path / "clicked.nrrd").write_bytes(infer(url, series, "slem_brain_clicks", clicks).content)
    clicked = read_label_file(tmp_path / "clicked.nrrd")[0]
    assert save(url, study).json()["dicom"]["kind"] == "SEMIAUTOMATIC"
    found = sorted(segs(stored, study), key=lambda seg: seg.SeriesNumber)
    assert [seg.SeriesDescription for seg in found] == [
        "Segmentation 1: slem_brain test, automatic",
        "Segmentation 2: slem_brain test, corrected",
    ]
    for seg, expected in zip(found, (automatic, clicked)):
        np.testing.assert_array_equal(read_seg(seg, grid, BRAIN_LABELS), expected)
        assert (seg.PatientID, {one.SegmentAlgorithmType for one in seg.SegmentSequence}) == (
            "ann",
            {"AUTOMATIC" if expected is automatic else "SEMIAUTOMATIC"},
        )
        assert {one.SeriesInstanceUID for one in seg.ReferencedSeriesSequence} == {series}
        bytes_of = BytesIO()
        seg.save_as(bytes_of, write_like_original=False)
        bytes_of.seek(0)
        assert highdicom.seg.segread(bytes_of).number_of_segments == 3
    assert segs(stored, str(header(folder, "ben/4_t2f").StudyInstanceUID)) == []
    other = save(url, series, client="kim")  # was given nothing
    assert other.status_code == 404


def test_a_label_that_is_submitted_becomes_one_too(
    url: str, serving: Serving, stored: DICOMwebClient, folder: Path, tmp_path: Path
) -> None:
    image = header(folder, "ben/3_t2w")
    path = tmp_path / "label.nrrd"
    path.write_bytes(infer(url, str(image.SeriesInstanceUID)).content)

    def submit(client: str) -> dict:
        with path.open("rb") as file:
            fields = {"params": f'{{"client_id": "{client}"}}'}
            answer = requests.put(
                f"{url}/datastore/label",
                params={"image": str(image.SeriesInstanceUID)},
                data=fields,
                files={"label": file},
                timeout=60,
            )
        assert answer.ok, answer.text
        return answer.json()

    # this reader was given nothing, so nobody but the reader can have made it
    assert submit("lee")["dicom"]["kind"] == "MANUAL"
    told = submit("eva")
    assert told["dicom"]["kind"] == "AUTOMATIC"  # as it was given
    assert told["dicom"]["series"] in [
        seg.SeriesInstanceUID for seg in segs(stored, str(image.StudyInstanceUID))
    ]


def test_what_was_edited_in_another_viewer_becomes_a_version(
    url: str, serving: Serving, stored: DICOMwebClient, folder: Path
) -> None:
    image = header(folder, "ann/4_t2f")
    case = serving.cases.find(str(image.SeriesInstanceUID))
    [first, *_] = sorted(segs(stored, str(image.StudyInstanceUID)), key=lambda seg: seg.SeriesNumber)
    first.SOPInstanceUID = first.file_meta.MediaStorageSOPInstanceUID = f"{first.SOPInstanceUID[:50]}.77"
    first.SeriesInstanceUID, first.SeriesDescription, first.Manufacturer, first.ManufacturerModelName = (
        "1.2.77",
        "Edited",
        "OHIF",
        "",
    )
    for segment in first.SegmentSequence:
        segment.SegmentAlgorithmType = "MANUAL"
    before = len(serving.datastore.history(case.id))
    stored.store_instances([first])
    if not serving.dicom_results:
        serving.dicom_sync.look()
    history = serving.datastore.history(case.id)
    assert len(history) == before + 1
    assert (history[-1]["tag"], history[-1]["client"], history[-1]["counts"]) == ("final", "OHIF", True)
    assert requests.get(f"{url}/slem/results/unsent", timeout=30).json() == []
    assert requests.post(f"{url}/slem/results/fetch", params={"image": case.id}, timeout=30).json() == {
        "new": 0
    }


@pytest.mark.parametrize("change", ["patient", "study", "image"])
def test_what_is_no_segmentation_of_its_study_is_not_stored(
    serving: Serving, url: str, folder: Path, change: str
) -> None:
    if not serving.dicom_results:
        pytest.skip("a PACS decides by itself")
    seg = dcmread(
        next((serving.dicom_results.root / str(header(folder, "ann/4_t2f").StudyInstanceUID)).glob("*/*.dcm"))
    )
    path = f"/studies/{seg.StudyInstanceUID}"
    if change == "patient":
        seg.PatientID = "ben"
    elif change == "study":
        path = f"/studies/{header(folder, 'ben/4_t2f').StudyInstanceUID}"
    else:
        seg = dcmread(next((folder / "ann/4_t2f").iterdir()))
    seg.SOPInstanceUID = "1.2.3.4"
    content = BytesIO()
    seg.save_as(content, write_like_original=False)
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + content.getvalue() + b"\r\n--x--"
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
    answer = requests.post(f"{url}/proxy/dicom/wado{path}", data=body, headers=kind, timeout=30)
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [
        0x0122 if change == "image" else 0xA900
    ]
    assert not list(serving.dicom_results.root.rglob("1.2.3.4.dcm"))
    assert (
        requests.post(
            f"{url}/dicom-web{path}", data=b"nothing", headers={"Content-Type": "text/plain"}, timeout=30
        ).status_code
        == 400
    )


def test_the_viewer_gets_the_bar(url: str) -> None:
    page = requests.get(f"{url}/ohif/monai-label", timeout=30)
    assert '<script defer src="/ohif-save.js"></script></head>' in page.text
    script = requests.get(f"{url}/ohif-save.js", timeout=30)
    assert script.headers["content-type"].startswith("text/javascript")
    assert "/slem/save?image=" in script.text
