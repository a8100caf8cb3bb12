"""The real OHIF, in a browser, on a study of four series beside another patient's: what it lists, shows and
corrects by mouse clicks.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from dicomweb_client import DICOMwebClient

from slem_app import phantom
from slem_app.formats import read_label_file
from slem_app.types import Grid
from slem_app.weights import load_model
from tests.e2e import ohif
from tests.e2e.seg import read_by_highdicom

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    ohif.NEEDED,
]
NAMES = np.array(["", "necrosis", "edema", "enhancing tumor"])
DESCRIPTIONS = {"AX T1 SE", "AX T1 SE POST GAD", "AX T2 TSE", "AX T2 FLAIR"}


@pytest.fixture(scope="module")
def url(click_models: Path, start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    studies = tmp_path_factory.mktemp("studies")
    for name, seed in (("ann", 1), ("ben", 2)):
        phantom.write_dicom(
            phantom.make(seed=seed, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5)), studies, name
        )
    head = phantom.make(seed=3, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5))
    two = {
        name: {sequence: what[sequence] for sequence in ("t1n", "t2f")}
        for name, what in (("images", head.images), ("grids", head.grids))
    }
    phantom.write_dicom(dataclasses.replace(head, **two), studies, "two")
    return start_server(
        studies,
        "--conf",
        "models_dir",
        str(click_models),
        "--conf",
        "models",
        "slem_brain,slem_brain_clicks,slem_brain_scribbles",
    ).url


@pytest.fixture(scope="module")
def viewer(url: str) -> Iterator:
    [study] = requests.get(f"{url}/dicom-web/studies", params={"PatientID": "ann"}, timeout=60).json()
    with ohif.viewer(url) as one:
        one.open(study["0020000D"]["Value"][0])
        yield one


def served(url: str, series: str, path: Path) -> tuple[np.ndarray, Grid]:
    """The automatic segmentation of a series as label names, asked for as OHIF does, and its grid."""
    answer = requests.post(
        f"{url}/infer/slem_brain",
        params={"image": series, "output": "image"},
        data={"params": '{"result_compress": false}'},
        timeout=300,
    )
    assert answer.ok, answer.text
    path.write_bytes(answer.content)
    array, grid, _ = read_label_file(path)
    return NAMES[array], grid


def same_place(shown: Grid, expected: Grid) -> bool:
    """True where every corner voxel lies within half a voxel of where it should."""
    corners = (np.array(np.meshgrid(*[(0, n - 1) for n in expected.shape])).reshape(3, -1)).T
    away = np.linalg.norm(shown.to_world(corners) - expected.to_world(corners), axis=1)
    return shown.shape == expected.shape and away.max() < 0.5 * min(expected.spacing)


def test_clicks_in_the_viewer_change_what_it_shows_where_they_are(viewer, url: str, tmp_path: Path) -> None:
    assert set(viewer.descriptions()) == DESCRIPTIONS
    assert len(viewer.descriptions()) == 4  # the other patient's four are not among them
    assert viewer.page.input_value("#monailabelServerURL") == f"{url}/"
    viewer.connect()

    viewer.tab("Auto-Segmentation")
    viewer.run("Segmentation")
    automatic, (expected, grid) = viewer.shown(), served(url, viewer.series, tmp_path / "served.nrrd")
    assert same_place(automatic.grid, grid)
    np.testing.assert_array_equal(automatic.names, expected)
    assert {"edema"} <= set(np.unique(automatic.names))

    viewer.tab("Point Prompts")
    voxel = (20, 30, 30)
    assert automatic.names[voxel] == ""
    viewer.choose("edema")
    viewer.click(grid.to_world(np.array(voxel)))
    viewer.run("PointPrompts")
    clicked = viewer.shown()
    assert clicked.names[voxel] == "edema"
    changed = np.argwhere(clicked.names != automatic.names)
    # mm
    assert (
        np.linalg.norm(clicked.grid.to_world(changed.mean(axis=0)) - grid.to_world(np.array(voxel)), axis=-1)
        < 10
    )
    kept = np.isin(automatic.names, ["necrosis", "enhancing tumor"])
    np.testing.assert_array_equal(clicked.names[kept], automatic.names[kept])

    second = (20, 33, 30)
    assert clicked.names[second] == "edema"
    viewer.choose("background")
    viewer.click(grid.to_world(np.array(second)))
    viewer.run("PointPrompts")
    corrected = viewer.shown()
    assert (corrected.names[second], corrected.names[voxel]) == ("", "edema")

    # saved without a PACS
    [study] = requests.get(f"{url}/dicom-web/studies", params={"PatientID": "ann"}, timeout=60).json()
    study, store = study["0020000D"]["Value"][0], DICOMwebClient(f"{url}/dicom-web", permissive_uid=True)
    name = f"Segmentation 1: slem_brain {load_model('slem_brain').card.version}, corrected"
    assert viewer.save() == f"Saved as version 1, in the study as {name!r}."
    [series] = store.search_for_series(study, search_filters={"Modality": "SEG"})
    [seg] = store.retrieve_series(study, series["0020000E"]["Value"][0])
    np.testing.assert_array_equal(read_by_highdicom(seg, corrected.grid), corrected.names)


def test_a_study_of_two_sequences_is_segmented_clicked_and_the_missing_ones_are_told(
    viewer, url: str, tmp_path: Path
) -> None:
    [study] = requests.get(f"{url}/dicom-web/studies", params={"PatientID": "two"}, timeout=60).json()
    viewer.open(study["0020000D"]["Value"][0])
    assert set(viewer.descriptions()) == {"AX T1 SE", "AX T2 FLAIR"}
    viewer.connect()
    assert viewer.sequences() == ""
    viewer.tab("Auto-Segmentation")
    viewer.run("Segmentation")
    assert viewer.sequences() == "Segmented from t1n, t2f; missing: t1c, t2w"
    automatic, (expected, grid) = viewer.shown(), served(url, viewer.series, tmp_path / "served.nrrd")
    assert same_place(automatic.grid, grid)
    np.testing.assert_array_equal(automatic.names, expected)
    viewer.tab("Point Prompts")
    voxel = (24, 31, 29)
    wanted = "edema" if automatic.names[voxel] != "edema" else "necrosis"
    viewer.choose(wanted)
    viewer.click(grid.to_world(np.array(voxel)))
    viewer.run("PointPrompts")
    assert viewer.shown().names[voxel] == wanted
    assert viewer.sequences() == "Segmented from t1n, t2f; missing: t1c, t2w"


def test_the_viewers_files_are_themselves(url: str) -> None:
    icon = requests.get(f"{url}/ohif/assets/favicon-32x32.png", timeout=60)
    assert (icon.status_code, icon.content[:4]) == (200, b"\x89PNG")
    assert requests.get(f"{url}/ohif/app-config.js", timeout=60).text.startswith("window.config")
    assert requests.get(f"{url}/ohif/nothing.js", timeout=60).status_code == 404
