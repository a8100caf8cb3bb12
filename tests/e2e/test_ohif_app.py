"""What this server stores in a PACS, under the eyes of an OHIF that knows nothing of it: names, colours,
counts and every voxel's place.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from slem_app import phantom
from slem_app.formats import read_label_file, write_nifti
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS
from tests.e2e import ohif
from tests.e2e.conftest import Server
from tests.e2e.ohif_app import FOLDER, IndependentViewer, ohif_app
from tests.e2e.orthanc import NEEDED, Orthanc, oblique_head, orthanc_with

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    NEEDED,
    ohif.NEEDED,
    pytest.mark.skipif(
        not (FOLDER / "index.html").is_file(), reason="no viewer in .ohif: `make e2e` fetches it"
    ),
]
NAMES = np.array(["", *BRAIN_LABELS.names])


@pytest.fixture(scope="module")
def head() -> phantom.Phantom:
    return oblique_head()


@pytest.fixture(scope="module")
def pacs(head: phantom.Phantom, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    studies = tmp_path_factory.mktemp("studies")
    phantom.write_dicom(head, studies, "ann")
    with orthanc_with(studies, tmp_path_factory.mktemp("orthanc")) as one:
        yield one


@pytest.fixture(scope="module")
def server(
    pacs: Orthanc, start_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    return start_server(pacs.url, "--conf", "store", str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def viewer(pacs: Orthanc) -> Iterator[IndependentViewer]:
    with ohif_app(pacs.url) as one:
        yield one


@pytest.fixture(scope="module")
def study(pacs: Orthanc) -> str:
    return pacs.study_of("ann")


def segment(server: Server, image: str, path: Path) -> tuple[np.ndarray, Grid]:
    """The automatic segmentation of an image, as a client gets it."""
    fields = {"params": json.dumps({"client_id": "eva"})}
    answer = requests.post(
        f"{server.url}/infer/slem_brain", params={"image": image, "output": "image"}, data=fields, timeout=300
    )
    assert answer.ok, answer.text
    path.write_bytes(answer.content)
    array, grid, _ = read_label_file(path)
    return array, grid


def save(server: Server, study: str) -> dict:
    """Save what was given last, as OHIF's bar does."""
    told = requests.post(
        f"{server.url}/slem/save", params={"image": study, "client_id": "eva"}, timeout=300
    ).json()
    assert told["dicom"]["stored"], told
    return told["dicom"]


def submit(server: Server, image: str, label: Path) -> dict:
    """Send a label, as 3D Slicer does."""
    params = {
        "label_info": [{"name": name, "idx": k} for k, name in enumerate(BRAIN_LABELS.names, 1)],
        "model": "slem_brain",
        "client_id": "eva",
    }
    with label.open("rb") as file:
        fields = {
            "params": (None, json.dumps(params), "application/json"),
            "label": (label.name, file, "application/octet-stream"),
        }
        answer = requests.put(
            f"{server.url}/datastore/label", params={"image": image}, files=fields, timeout=300
        )
    assert answer.json()["dicom"]["stored"], answer.text
    return answer.json()["dicom"]


@pytest.mark.parametrize("sequence", ["t1n", "t2w", "t2f"])
def test_a_stored_segmentation_is_the_same_in_an_independent_viewer(
    viewer: IndependentViewer,
    server: Server,
    study: str,
    head: phantom.Phantom,
    tmp_path: Path,
    sequence: str,
) -> None:
    array, grid = segment(server, f"{study}/{sequence}", tmp_path / "given.nrrd")
    if sequence == "t2w":  # a class that is absent, in the middle of the numbers
        array[array == BRAIN_LABELS.value("edema")] = 0
        told = submit(
            server, f"{study}/{sequence}", write_nifti(array, grid, BRAIN_LABELS, tmp_path / "edited.nii.gz")
        )
    else:
        told = save(server, study)
    loaded = viewer.load(study, told["description"])

    assert loaded.label == told["description"]
    assert [one.name for one in loaded.segments] == list(BRAIN_LABELS.names)
    assert [one.type for one in loaded.segments] == [label.type.meaning for label in BRAIN_LABELS.labels]
    assert {one.algorithm for one in loaded.segments} == {told["kind"]}
    for one, label in zip(loaded.segments, BRAIN_LABELS.labels):
        # on its way through CIELab
        assert np.abs(np.subtract(one.color, label.color)).max() <= 2, (
            f"{one.name}: {one.color}, not {label.color}"
        )
        assert len(one.world) == (array == label.value).sum()
    np.testing.assert_array_equal(loaded.names(grid), NAMES[array])
    # by the geometry of the phantom, which neither the server nor the viewer has made
    truth = head.grid.to_world(np.argwhere(head.labels).mean(axis=0))
    assert np.linalg.norm(
        np.concatenate([one.world for one in loaded.segments]).mean(axis=0) - truth
    ) < 3 * max(head.grids[sequence].spacing)
    # the proxy is enough
    assert {address.split("/")[2] for address in viewer.asked if address.startswith("http")} == {
        viewer.url.split("/")[2]
    }


def test_no_answer_through_the_proxy_names_the_pacs(
    viewer: IndependentViewer, pacs: Orthanc, study: str
) -> None:
    own = f":{pacs.port}/"  # with its colon: the figures alone stand in many a UID
    found = requests.get(f"{viewer.url}/proxy/dicom/studies/{study}/series", timeout=60)
    metadata = requests.get(f"{viewer.url}/proxy/dicom/studies/{study}/metadata", timeout=60)
    for answer in (found, metadata):
        assert answer.ok
        assert own not in answer.text
    address = found.json()[0]["00081190"]["Value"][0]
    assert address.startswith(f"{viewer.url}/proxy/dicom/wado/studies/{study}")
    assert requests.get(f"{address}/metadata", timeout=60).json()
    assert own in requests.get(f"{pacs.url}/studies/{study}/series", timeout=60).text  # it does name itself
