"""A reader's walk through two visits of one patient over a real PACS: the first is segmented and confirmed,
the second begins with it, is corrected and confirmed, and both reports, the follow-up and what went into the
PACS say the same.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
import requests
from pydicom import Dataset, dcmread

from slem_app import phantom
from slem_app.cli import main
from slem_app.phantom.head import AXES, rotation
from slem_app.weights import BRAIN_LABELS
from tests.e2e.conftest import Server
from tests.e2e.orthanc import NEEDED, Orthanc, orthanc_with

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), NEEDED]

SHAPE, SPACING = (52, 60, 44), (2.4, 2.4, 2.4)
OLD, NEW = np.array([-32.0, 22.0, 12.0]), np.array([34.0, -30.0, 14.0])
DATES = ("20240102", "20240405")
READER = "eva"


def visits() -> tuple[phantom.Phantom, phantom.Phantom]:
    """One head twice: its tumour grows, another one has come, and it lies elsewhere."""
    head = phantom.draw(5, float((np.array(SHAPE) * SPACING / (AXES * 2 + 16)).min()))
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = rotation(np.array([3.0, -2.0, 5.0])), (5.0, -4.0, 5.0)
    first = phantom.at_next_visit(head, 105, np.eye(4), [(OLD, (7.0, 12.0, 18.0))])
    second = phantom.at_next_visit(head, 106, move, [(OLD, (9.0, 15.0, 21.0)), (NEW, (5.0, 10.0, 15.0))])
    return tuple(phantom.make(shape=SHAPE, spacing=SPACING, head=one) for one in (first, second))


@pytest.fixture(scope="module")
def heads() -> tuple[phantom.Phantom, phantom.Phantom]:
    return visits()


@pytest.fixture(scope="module")
def pacs(
    heads: tuple[phantom.Phantom, phantom.Phantom], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    studies = tmp_path_factory.mktemp("studies")
    for head, date in zip(heads, DATES, strict=True):
        folder = phantom.write_dicom(head, studies, f"visit-{date}")
        for path in sorted(folder.rglob("*.dcm")):
            image = dcmread(path)
            image.PatientID, image.PatientName, image.StudyDate = "P1", "Doe^Jo", date
            image.save_as(path)
    with orthanc_with(studies, tmp_path_factory.mktemp("orthanc")) as one:
        yield one


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(pacs: Orthanc, store: Path, start_server: Callable[..., Server]) -> Server:
    settings = {
        "store": str(store),
        "models": "slem_brain,slem_brain_clicks",
        "score_load": "0",
    }
    return start_server(pacs.url, *(word for pair in settings.items() for word in ("--conf", *pair)))


@pytest.fixture(scope="module")
def cases(pacs: Orthanc) -> list[str]:
    """The studies in order of time."""
    found = pacs.client.search_for_studies(search_filters={"PatientID": "P1"}, fields=["StudyDate"])
    return [one["0020000D"]["Value"][0] for one in sorted(found, key=date_of)]


def date_of(study: dict) -> str:
    return study["00080020"]["Value"][0]


def infer(server: Server, case: str, **fields: object) -> tuple[dict, nibabel.Nifti1Image]:
    """What the server answers a tool for clicks: its JSON and the label map."""
    answer = requests.post(
        f"{server.url}/infer/slem_brain_clicks",
        params={"image": case, "output": "all"},
        data={"params": json.dumps({"result_extension": ".nii.gz", "client_id": READER, **fields})},
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    boundary = answer.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.content.split(b"--" + boundary)[1:-1]]
    told = next(json.loads(body) for body in bodies if body.lstrip().startswith(b"{"))
    packed = next(body.removesuffix(b"\r\n") for body in bodies if body.startswith(b"\x1f\x8b"))
    return told, nibabel.Nifti1Image.from_bytes(gzip.decompress(packed))


def submit(server: Server, case: str, image: nibabel.Nifti1Image, folder: Path) -> dict:
    """The reader confirms a label, as 3D Slicer sends it."""
    path = folder / "label.nii.gz"
    nibabel.save(image, path)
    params = {
        "label_info": [{"name": name, "idx": k} for k, name in enumerate(BRAIN_LABELS.names, 1)],
        "model": "slem_brain",
        "client_id": READER,
    }
    with path.open("rb") as file:
        fields = {
            "params": (None, json.dumps(params), "application/json"),
            "label": (path.name, file, "application/octet-stream"),
        }
        answer = requests.put(
            f"{server.url}/datastore/label", params={"image": case}, files=fields, timeout=300
        )
    assert answer.ok, answer.text
    return answer.json()


def truth(head: phantom.Phantom) -> nibabel.Nifti1Image:
    """What the reader draws."""
    return nibabel.Nifti1Image(head.labels, head.grid.affine)


def instances(pacs: Orthanc, study: str, modality: str) -> list[Dataset]:
    """The first instance of each series of a kind, as the file that the PACS keeps."""
    found = pacs.client.search_for_series(study, search_filters={"Modality": modality})
    root = pacs.url.removesuffix("/dicom-web")
    files = []
    for series in (one["0020000E"]["Value"][0] for one in found):
        [kept] = requests.post(f"{root}/tools/lookup", data=series, timeout=60).json()
        first = requests.get(f"{root}/series/{kept['ID']}", timeout=60).json()["Instances"][0]
        files.append(requests.get(f"{root}/instances/{first}/file", timeout=60).content)
    return [dcmread(BytesIO(file)) for file in files]


def test_a_patient_is_followed_over_two_visits(
    server: Server,
    pacs: Orthanc,
    store: Path,
    cases: list[str],
    heads: tuple[phantom.Phantom, phantom.Phantom],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, now = cases
    told, _ = infer(server, before)
    assert told["label_names"]
    submit(server, before, truth(heads[0]), tmp_path)
    [segmentation] = instances(pacs, before, "SEG")
    assert segmentation.PatientID == "P1"

    told, started = infer(server, now, start_from="prior")
    array, grid = np.asarray(started.dataobj), heads[1].grid
    assert array.shape == grid.shape
    found, right = array > 0, heads[1].labels > 0
    assert 2 * (found & right).sum() / (found.sum() + right.sum()) > 0.8
    sides = np.sign(grid.to_world(np.argwhere(found))[:, 0])
    assert min(np.mean(sides < 0), np.mean(sides > 0)) > 0.15  # the earlier tumour, and the new one
    assert any("changed where the model sees a change" in note for note in told["notes"])
    page = requests.get(f"{server.url}/case/{now}", timeout=120).text
    assert "2024-01-02" in page
    submit(server, now, truth(heads[1]), tmp_path)

    pdf = requests.get(f"{server.url}/case/{now}/followup.pdf", timeout=300)
    assert pdf.content.startswith(b"%PDF"), pdf.text
    common = ["--store", str(store), "--out", str(tmp_path)]
    assert main(["followup", pacs.url, now, *common]) == 0
    found = json.loads((tmp_path / f"{now}.followup.json").read_text())
    assert found["status"] == "confirmed"
    assert sorted(row["kind"] for row in found["lesions"]) == ["new", "same"]
    assert found["response"]["category"] == "PD"

    capsys.readouterr()
    assert main(["report", pacs.url, now, *common, "--send"]) == 0
    assert "4 of them are in the PACS, too" in capsys.readouterr().out
    table = json.loads((tmp_path / f"{now}.report.json").read_text())
    assert (table["status"], table["confirmed_by"]) == ("confirmed", READER)
    [whole] = [row for row in table["structures"] if row["name"] == "WT"]
    assert sorted(row["side"] for row in whole["lesions"]) == ["left", "right"]
    check_stored(pacs, now, {row["name"]: row["volume_ml"] for row in table["structures"]})


def check_stored(pacs: Orthanc, study: str, volumes: dict[str, float]) -> None:
    """What the PACS has of a report: page, picture, and numbers that refer to its own segmentation."""
    [document], [capture], [stored] = (instances(pacs, study, kind) for kind in ("DOC", "OT", "SR"))
    assert bytes(document.EncapsulatedDocument).startswith(b"%PDF")
    assert capture.pixel_array.shape[2] == 3
    report = highdicom.sr.Comprehensive3DSR.from_dataset(stored, copy=False)
    segmentations = {one.SOPInstanceUID for one in instances(pacs, study, "SEG")}
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert {group.tracking_identifier for group in groups} == set(BRAIN_LABELS.names)
    for group in groups:
        assert group.referenced_segment.referenced_sop_instance_uid in segmentations
        [volume] = [one for one in group.get_measurements() if one.name.meaning == "Volume"]
        assert float(volume.value) == pytest.approx(volumes[group.tracking_identifier], abs=2e-3)
        assert group.finding_sites
