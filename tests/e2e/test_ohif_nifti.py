"""Studies in NIfTI in the real OHIF: opened from its list, segmented, clicked, saved, and compared with the
file's own voxels.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests
from dicomweb_client import DICOMwebClient
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from slem_app import phantom
from slem_app.formats import read_label_file
from slem_app.types import Grid
from slem_app.weights import load_model
from tests.e2e import ohif
from tests.e2e.conftest import Server
from tests.e2e.seg import read_by_highdicom

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), ohif.NEEDED]

NAMES = np.array(["", "necrosis", "edema", "enhancing tumor"])
# as three kinds of files hold them: left-handed, sagittal, and as most public data sets do
ORDERS = {"demo-left": "LAS", "demo-sagittal": "PSR", "demo-oblique": "LPS"}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    for seed, (name, axes) in enumerate(ORDERS.items(), 1):
        oblique = name == "demo-oblique"
        head = phantom.make(
            seed=seed, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5), oblique=oblique, own_grids=oblique
        )
        for path in sorted(phantom.write_nifti(head, folder, name).glob("*.nii.gz")):
            image = nibabel.load(path)
            change = ornt_transform(io_orientation(image.affine), axcodes2ornt(axes))
            nibabel.save(image.as_reoriented(change), path)
    return folder


@pytest.fixture(scope="module")
def server(
    studies: Path, click_models: Path, start_server: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Server:
    names = "slem_brain,slem_brain_clicks,slem_brain_scribbles"
    store = str(tmp_path_factory.mktemp("store"))
    conf = {"models_dir": str(click_models), "models": names, "store": store}
    return start_server(studies, *(part for key, value in conf.items() for part in ("--conf", key, value)))


@pytest.fixture(scope="module")
def viewer(server: Server) -> Iterator[ohif.Viewer]:
    with ohif.viewer(server.url) as one:
        yield one


def label_of(server: Server, case: str, path: Path) -> tuple[np.ndarray, Grid]:
    """The final label of a case as names, on the grid of its file."""
    answer = requests.get(f"{server.url}/datastore/label", params={"label": case, "tag": "final"}, timeout=60)
    assert answer.ok, answer.text
    path.write_bytes(answer.content)
    array, grid, _ = read_label_file(path)
    return NAMES[array], grid


def on(grid: Grid, shown: ohif.Shown) -> np.ndarray:
    """What the viewer shows, voxel by voxel of another order of the same voxels."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    there = shown.grid.to_index(grid.to_world(index))
    assert np.abs(there - np.rint(there)).max() < 0.02
    return shown.names[tuple(np.moveaxis(np.rint(there).astype(int), -1, 0))]


@pytest.mark.parametrize("case", ORDERS)
def test_a_study_in_nifti_is_opened_segmented_clicked_and_saved(
    viewer: ohif.Viewer, server: Server, studies: Path, case: str, tmp_path: Path
) -> None:
    errors: list[str] = []
    viewer.page.on("pageerror", lambda error: errors.append(str(error)))
    viewer.open_from_list(case)
    assert sorted(viewer.descriptions()) == ["t1c", "t1n", "t2f", "t2w"]
    viewer.connect()
    viewer.tab("Auto-Segmentation")
    viewer.run("Segmentation")
    automatic = viewer.shown()
    assert {"edema"} <= set(np.unique(automatic.names))

    viewer.tab("Point Prompts")
    # another in every study: one that comes again is taken for what a client leaks from the last image
    place = automatic.grid.to_world(np.array(automatic.grid.shape) // 2 + list(ORDERS).index(case))
    voxel = tuple(np.rint(automatic.grid.to_index(place)).astype(int))
    wanted = "edema" if automatic.names[voxel] != "edema" else "necrosis"
    viewer.choose(wanted)
    there = viewer.click(place, within=automatic.grid.spacing.max() / 2)
    voxel = tuple(np.rint(automatic.grid.to_index(there)).astype(int))
    viewer.run("PointPrompts")
    clicked = viewer.shown()
    assert clicked.names[voxel] == wanted

    said = viewer.save()
    version = load_model("slem_brain").card.version
    assert said == f"Saved as version 1, in the study as 'Segmentation 1: slem_brain {version}, corrected'."
    names, grid = label_of(server, case, tmp_path / "saved.nii.gz")
    [series] = [
        path
        for path in (studies / case).glob("*.nii.gz")
        if Grid(nibabel.load(path).shape, nibabel.load(path).affine).same_as(grid) and "seg" not in path.name
    ][:1]
    assert series.is_file()  # the file's own order of voxels, not the viewer's
    np.testing.assert_array_equal(on(grid, clicked), names)

    # an independent reader of what is listed in the study
    [found] = requests.get(f"{server.url}/dicom-web/studies", params={"PatientID": case}, timeout=60).json()
    study, store = (
        found["0020000D"]["Value"][0],
        DICOMwebClient(f"{server.url}/dicom-web", permissive_uid=True),
    )
    [one] = store.search_for_series(study, search_filters={"Modality": "SEG"})
    [seg] = store.retrieve_series(study, one["0020000E"]["Value"][0])
    np.testing.assert_array_equal(read_by_highdicom(seg, clicked.grid), clicked.names)
    assert errors == []
