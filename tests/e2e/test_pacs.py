"""Orthanc, this server over it, OHIF in Chromium: four series on grids of their own, clicks by mouse, results
in the PACS, the PACS gone for a while.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import requests
from pydicom import Dataset

from slem_app import phantom
from slem_app.weights import load_model
from tests.e2e import ohif
from tests.e2e.conftest import Server
from tests.e2e.orthanc import NEEDED, Orthanc, oblique_head, orthanc_with
from tests.e2e.seg import read_by_highdicom

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    NEEDED,
    ohif.NEEDED,
]
SERIES = {"t1n": "SAG T1 SE", "t1c": "AX T1 SE POST GAD", "t2w": "AX T2 TSE", "t2f": "AX T2 FLAIR"}


@pytest.fixture(scope="module")
def head() -> phantom.Phantom:
    return oblique_head()


@pytest.fixture(scope="module")
def pacs(head: phantom.Phantom, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    studies = tmp_path_factory.mktemp("studies")
    phantom.write_dicom(head, studies, "ann")
    phantom.write_dicom(phantom.make(seed=1, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5)), studies, "ben")
    with orthanc_with(studies, tmp_path_factory.mktemp("orthanc")) as one:
        yield one


@pytest.fixture(scope="module")
def server(
    pacs: Orthanc, start_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    return start_server(pacs.url, "--conf", "store", str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def viewer(server: Server) -> Iterator[ohif.Viewer]:
    with ohif.viewer(server.url) as one:
        yield one


def segmentations(pacs: Orthanc, study: str) -> list[Dataset]:
    """All that the PACS has of a study, in the order of their versions."""
    series = pacs.client.search_for_series(study, search_filters={"Modality": "SEG"})
    found = [pacs.client.retrieve_series(study, one["0020000E"]["Value"][0])[0] for one in series]
    return sorted(found, key=lambda seg: int(seg.SeriesNumber))


def healthy(head: phantom.Phantom, shown: ohif.Shown) -> np.ndarray:
    """Index of a voxel near the middle of the head that is neither tumour nor shown as such."""
    index = np.argwhere(shown.names == "")
    there = (
        np.round(head.grid.to_index(shown.grid.to_world(index)))
        .astype(int)
        .clip(0, np.array(head.grid.shape) - 1)
    )
    index = index[head.labels[tuple(there.T)] == 0]
    middle = head.grid.to_world((np.array(head.grid.shape) - 1) / 2)
    return index[np.linalg.norm(shown.grid.to_world(index) - middle, axis=1).argmin()]


@pytest.mark.parametrize("sequence", ["t1n", "t2w", "t2f"])
def test_each_series_is_segmented_clicked_and_saved_in_its_place(
    viewer: ohif.Viewer, pacs: Orthanc, head: phantom.Phantom, sequence: str
) -> None:
    study = pacs.study_of("ann")
    before = len(segmentations(pacs, study))
    viewer.open(study)
    # none of the other patient's
    assert sorted(one for one in viewer.descriptions() if not one.startswith("Segmentation")) == sorted(
        SERIES.values()
    )
    viewer.show(SERIES[sequence])
    viewer.connect()
    viewer.tab("Auto-Segmentation")
    viewer.run("Segmentation")
    automatic = viewer.shown()
    grid = head.grids[sequence]
    step = max(grid.spacing)
    corners = np.linalg.norm(
        np.sort(automatic.grid.corners(), axis=0) - np.sort(grid.corners(), axis=0), axis=1
    )
    assert corners.max() < 0.5 * min(grid.spacing)  # K may run the other way
    truth = head.grid.to_world(np.argwhere(head.labels).mean(axis=0))
    found = automatic.grid.to_world(np.argwhere(automatic.names != "").mean(axis=0))
    assert np.linalg.norm(found - truth) < 3 * step

    wanted = automatic.grid.to_world(healthy(head, automatic))
    viewer.tab("Point Prompts")
    viewer.choose("edema")
    world = viewer.click(wanted, within=0.55 * step)
    assert np.linalg.norm(world - wanted) < step
    viewer.run("PointPrompts")
    clicked = viewer.shown()
    # by the geometry of the phantom, which neither the server nor the viewer has made
    corner = np.round(clicked.grid.to_index(grid.to_world(np.round(grid.to_index(world))))).astype(int)
    assert clicked.names[tuple(corner)] == "edema"
    changed = clicked.grid.to_world(np.argwhere(clicked.names != automatic.names).mean(axis=0))
    assert np.linalg.norm(changed - world) < 3 * step

    name = f"Segmentation {before + 1}: slem_brain {load_model('slem_brain').card.version}, corrected"
    assert viewer.save().endswith(f"in the study as {name!r}.")
    found = segmentations(pacs, study)
    assert len(found) == before + 1
    assert (found[-1].PatientID, {one.SegmentAlgorithmType for one in found[-1].SegmentSequence}) == (
        "ann",
        {"SEMIAUTOMATIC"},
    )
    saved = read_by_highdicom(found[-1], clicked.grid)
    assert saved[tuple(corner)] == "edema"
    stale = (
        saved != clicked.names
        # OHIF redraws the labels that have points over the others as they were, so a few voxels between two
        # labels differ
    )
    assert stale.mean() < 0.001
    assert np.isin(clicked.names[stale], ["", *automatic.names[stale]]).all()
    assert segmentations(pacs, pacs.study_of("ben")) == []


def test_an_edit_in_the_viewer_becomes_a_version(viewer: ohif.Viewer, server: Server, pacs: Orthanc) -> None:
    study = pacs.study_of("ann")
    last = segmentations(pacs, study)[-1]
    before = requests.get(f"{server.url}/slem/labels", params={"image": study}, timeout=60).json()
    viewer.edit(study, f"{last.SeriesDescription}"[:30], "edema", "Edited in OHIF")
    end = time.monotonic() + 60
    while len(
        after := requests.get(f"{server.url}/slem/labels", params={"image": study}, timeout=60).json()
    ) == len(before):
        assert time.monotonic() < end, server.log.read_text()[-3000:]
        time.sleep(0.5)
    assert len(after) == len(before) + 1
    assert (after[-1]["tag"], after[-1]["counts"], after[-1]["automatic"]) == ("final", True, False)
    assert "edema" in after[-1]["present"]


def test_while_the_pacs_is_gone_nothing_is_lost(server: Server, pacs: Orthanc) -> None:
    study = pacs.study_of("ann")
    there = len(segmentations(pacs, study))

    def infer() -> requests.Response:
        fields = {"params": '{"client_id": "eva"}'}
        return requests.post(
            f"{server.url}/infer/slem_brain",
            params={"image": f"{study}/t2f", "output": "json"},
            data=fields,
            timeout=300,
        )

    assert infer().ok
    pacs.stop()
    try:
        assert infer().ok  # from what was fetched
        told = requests.post(
            f"{server.url}/slem/save", params={"image": study, "client_id": "eva"}, timeout=300
        ).json()
        assert not told["dicom"]["stored"]
        assert "it is sent again by itself" in told["message"]
        new = requests.post(
            f"{server.url}/infer/slem_brain",
            params={"image": study_of_memory(server, study), "output": "json"},
            timeout=300,
        )
        assert (new.status_code, new.json()["error"]) == (502, "PacsFailed")
    finally:
        pacs.start()
    [sent] = requests.post(f"{server.url}/slem/results/send", timeout=300).json()
    assert (sent["stored"], sent["instance"]) == (True, told["dicom"]["instance"])
    assert len(segmentations(pacs, study)) == there + 1
    assert requests.get(f"{server.url}/slem/results/unsent", timeout=60).json() == []


def study_of_memory(server: Server, known: str) -> str:
    """The other study, which nobody has opened yet, as the server knows it while the PACS is gone."""
    objects = requests.get(f"{server.url}/datastore/", params={"output": "all"}, timeout=60).json()["objects"]
    return next(name for name in objects if name != known)
