"""Our mode in the real OHIF: four sequences, the mask in all, clicks in each that need no *Run*, undo, a
brush whose strokes go along, and a saved label that is what was on the screen.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from slem_app import phantom
from slem_app.formats import read_label_file
from tests.e2e import ohif
from tests.e2e.ohif_mode import LabelMode, label_mode

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), ohif.NEEDED]
SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
SMALL = {"shape": (64, 72, 56), "spacing": (2.5, 2.5, 2.5)}


@pytest.fixture(scope="module")
def url(click_models: Path, start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    studies = tmp_path_factory.mktemp("studies")
    heads = {
        "axial": phantom.make(seed=1, **SMALL),
        "oblique": phantom.make(seed=2, oblique=True, own_grids=True, **SMALL),
        "sagittal": phantom.reorient_phantom(phantom.make(seed=3, **SMALL), "PIR"),
    }
    for name, head in heads.items():
        phantom.write_dicom(head, studies, name)
    conf = ("--conf", "models_dir", str(click_models), "--conf", "models", "slem_brain,slem_brain_clicks")
    store = ("--conf", "store", str(tmp_path_factory.mktemp("store")), "--conf", "score_load", "0")
    return start_server(studies, *conf, *store).url


@pytest.fixture
def mode(url: str) -> Iterator[LabelMode]:
    with label_mode(url) as one:
        yield one
        assert one.errors == []
        foreign = {urlsplit(asked).netloc for asked in one.asked if asked.startswith("http")}
        assert foreign == {urlsplit(url).netloc}


def told(url: str, case: str) -> dict:
    return requests.get(f"{url}/slem/viewer/case", params={"study": case}, timeout=60).json()


def point(values: np.ndarray, affine: np.ndarray, value: int, seed: int) -> np.ndarray:
    """A voxel of a label, RAS mm."""
    index = np.argwhere(values == value)
    return affine[:3, :3] @ index[np.random.default_rng(seed).integers(len(index))] + affine[:3, 3]


@pytest.mark.parametrize("case", ["axial", "oblique", "sagittal"])
def test_what_is_segmented_clicked_and_painted_is_what_is_stored(
    mode: LabelMode, url: str, case: str, tmp_path: Path
) -> None:
    study = told(url, case)["study"]
    mode.open(study)
    assert [mode.painted(one) for one in SEQUENCES] == [0, 0, 0, 0]
    mode.press("Segment")
    assert mode.problem == ""
    automatic, grid = mode.screen()
    assert {1, 2, 3} <= set(np.unique(automatic))
    assert min(mode.painted(one) for one in SEQUENCES) > 100

    mode.choose("edema")
    outside = np.where(automatic == 0, 9, 0)
    head = np.linalg.norm(np.indices(grid.shape).T - np.array(grid.shape) / 2, axis=-1).T < 12
    for count, sequence in enumerate(SEQUENCES):
        before, _ = mode.screen()
        world = point(np.where(head & (before == 0), outside, 0), grid.affine, 9, count)
        mode.click(sequence, world)
        after, _ = mode.screen()
        assert after[tuple(np.round(grid.to_index(world)).astype(int))] == 2, sequence

    clicked, _ = mode.screen()
    mode.page.keyboard.press("Control+z")
    np.testing.assert_array_equal(mode.screen()[0], before)
    mode.page.keyboard.press("Control+y")
    np.testing.assert_array_equal(mode.screen()[0], clicked)

    mode.press("Brush")
    mode.choose("necrosis")
    mode.paint("t2f", point(np.where(head, clicked == 0, 0), grid.affine, 1, 7))
    painted, _ = mode.screen()
    stroke = painted != clicked
    assert stroke.any()
    assert set(painted[stroke]) == {1}
    mode.press("Correct")
    mode.choose("edema")
    mode.click("t1n", point(np.where(head & (painted == 0), 9, 0), grid.affine, 9, 8))
    seen, _ = mode.screen()
    assert (seen[stroke] == 1).mean() > 0.5  # the stroke went along with the click

    mode.press("Submit")
    assert mode.problem == ""
    assert mode.said == "Submitted as version 1."
    kept = {"image": case, "tag": "final", "version": 1}
    answer = requests.get(f"{url}/slem/labels/file", params=kept, timeout=60)
    (tmp_path / "label.nii.gz").write_bytes(answer.content)
    stored, stored_grid, _ = read_label_file(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(stored, seen)
    assert stored_grid.same_as(grid)

    mode.open(study)
    np.testing.assert_array_equal(mode.screen()[0], seen)
    assert min(mode.painted(one) for one in SEQUENCES) > 100
