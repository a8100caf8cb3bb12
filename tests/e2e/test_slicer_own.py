"""The project's own module for 3D Slicer, SLeM Label, on Slicer's own C++ against a running server that asks
for a log-in: what a reader sees, and that what is stored is what was seen.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests

from slem_app import phantom
from slem_app.users import UserFile
from slem_app.weights import BRAIN_LABELS

PROJECT = Path(__file__).parents[2]
SLICER = PROJECT / ".venv-slicer" / "bin" / "python"
NAMES = list(BRAIN_LABELS.names)
SECRET = "a long secret"
SMALL = {"shape": (64, 72, 56), "spacing": (2.5, 2.5, 2.5)}
CASES = {
    "Straight": {"seed": 3},
    "Oblique": {"seed": 4, "oblique": True, "own_grids": True},
}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not SLICER.exists(), reason="no .venv-slicer: `make e2e` makes it"),
]


@pytest.fixture(scope="module")
def cases() -> dict[str, phantom.Phantom]:
    return {name: phantom.make(**SMALL, **options) for name, options in CASES.items()}


@pytest.fixture(scope="module")
def url(cases: dict, start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("server")
    for name, case in cases.items():
        phantom.write_nifti(case, folder / "studies", name, labels=False)
    users = UserFile(folder / "users.json")
    users.add("rea", SECRET, "reader")
    conf = {"users": str(users.path), "login": "required", "score_load": "0"}
    options = [word for pair in conf.items() for word in ("--conf", *pair)]
    return start_server(folder / "studies", *options).url


@pytest.fixture(scope="module")
def session(url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict[str, np.ndarray]]:
    """What one reader saw, and the label maps (I, J, K)."""
    folder = tmp_path_factory.mktemp("slicer")
    words = ["--server", url, "--out", folder, "--user", "rea", "--password", SECRET]
    command = [SLICER, PROJECT / "tests/e2e/slicer/own.py", *words]
    ended = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=1000, check=False
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    with np.load(folder / "shown.npz") as kept:
        shown = {name: kept[name].transpose(2, 1, 0) for name in kept}
    return json.loads((folder / "seen.json").read_text()), shown


@pytest.fixture(scope="module")
def seen(session: tuple) -> dict:
    return session[0]


@pytest.fixture(scope="module")
def shown(session: tuple) -> dict[str, np.ndarray]:
    return session[1]


def test_logs_in_and_lists_the_cases(seen: dict) -> None:
    assert seen["user"] == "rea"
    assert len(seen["asked"]) == 2
    assert "password" in seen["asked"][1]
    assert [(row["case"], row["state"], row["holder"]) for row in seen["rows"]] == [
        ("Oblique", "new", ""),
        ("Straight", "new", ""),
    ]
    assert seen["strategies"]
    after = {row["case"]: (row["state"], row["holder"]) for row in seen["rows_after"]}
    assert after["Oblique"][0] == "submitted"


def test_all_sequences_lie_where_their_files_say(seen: dict, cases: dict) -> None:
    volumes = seen["first"]["case"]["volumes"]
    assert set(volumes) == {"t1n", "t1c", "t2w", "t2f"}
    for name, grid in cases["Oblique"].grids.items():
        # Slicer turns a left-handed image around along K, voxels and matrix
        expected = grid.affine.copy()
        if np.linalg.det(expected) < 0:
            expected[:3, 3] += (grid.shape[2] - 1) * expected[:3, 2]
            expected[:3, 2] *= -1
        np.testing.assert_allclose(volumes[name]["affine"], expected, atol=1e-3, err_msg=name)
        assert tuple(volumes[name]["shape"]) == grid.shape


def test_four_linked_views_show_a_sequence_each_at_the_largest_slice(
    seen: dict, shown: dict, cases: dict
) -> None:
    case = seen["first"]["case"]
    assert case["views"] == ["t1n", "t1c", "t2w", "t2f"]
    assert case["linked"] == [True] * 4
    np.testing.assert_allclose(case["centres"], [case["centres"][0]] * 4, atol=1e-3)
    grid = cases["Oblique"].grids["t1c"]
    voxel = tuple(np.round(grid.to_index(case["centres"][0])).astype(int))
    assert shown["automatic"][voxel] > 0
    counts = (shown["automatic"] > 0).sum(axis=(0, 1))
    assert counts[voxel[2]] == counts.max()


def test_segments_are_named_and_coloured_as_the_card_says(seen: dict) -> None:
    expected = [[label.name, list(label.color)] for label in BRAIN_LABELS.labels]
    assert seen["first"]["case"]["segments"] == expected


def test_the_automatic_result_is_there_without_asking(seen: dict, shown: dict, cases: dict) -> None:
    grid, truth = cases["Oblique"].grids["t1c"], cases["Oblique"]
    assert shown["automatic"].shape == grid.shape
    found = grid.to_world(np.argwhere(shown["automatic"] > 0)).mean(0)
    tumour = truth.grid.to_world(np.argwhere(truth.labels > 0)).mean(0)
    assert np.linalg.norm(found - tumour) < 10
    assert seen["first"]["confirms"] == [True, False]
    assert set(seen["first"]["facts"]["used"]) == {"t1n", "t1c", "t2w", "t2f"}


def test_a_click_is_answered_and_marked(seen: dict, shown: dict) -> None:
    assert shown["clicked"][14, 20, 20] == 2
    assert seen["first"]["marks"] == 1


def test_an_edit_survives_the_next_click(seen: dict, shown: dict, cases: dict) -> None:
    edit = (slice(40, 44), slice(30, 34), slice(20, 24))
    assert (shown["painted"][edit] == 3).all()
    assert (shown["clicked_again"][edit] == 3).all()
    assert shown["clicked_again"][15, 50, 30] == 0
    assert shown["clicked_again"][14, 20, 20] == 2
    grid = cases["Oblique"].grids["t1c"]
    ml = (shown["painted"] == 3).sum() * abs(np.linalg.det(grid.affine[:3, :3])) / 1000
    assert seen["first"]["volumes"]["enhancing tumor"] == pytest.approx(ml, rel=1e-4)


def test_undo_and_redo_go_through_clicks_and_edits(shown: dict) -> None:
    np.testing.assert_array_equal(shown["undone"], shown["painted"])
    np.testing.assert_array_equal(shown["redone"], shown["clicked_again"])
    assert (shown["painted_again"][20:24, 20:22, 30:32] == 3).all()
    np.testing.assert_array_equal(shown["edit_undone"], shown["clicked_again"])
    np.testing.assert_array_equal(shown["edit_redone"], shown["painted_again"])


def test_what_is_drawn_is_what_it_was_drawn_as(seen: dict, shown: dict) -> None:
    scribble, lasso = seen["first"]["drawn"]
    assert (scribble["label"], lasso["label"]) == ("edema", "necrosis")
    for drawn, map_, value in ((scribble, "scribbled", 2), (lasso, "lassoed", 1)):
        assert len(drawn["runs"]) > 2
        for i, j, k, count in drawn["runs"]:
            assert (shown[map_][i : i + count, j, k] == value).all(), drawn["label"]


def test_a_box_keeps_labels_inside_until_it_is_gone(seen: dict, shown: dict) -> None:
    i1, i2, j1, j2, k1, k2 = seen["first"]["box"]
    outside = np.ones(shown["boxed"].shape, bool)
    outside[i1 : i2 + 1, j1 : j2 + 1, k1 : k2 + 1] = False
    assert not shown["boxed"][outside].any()
    np.testing.assert_array_equal(shown["unboxed"], shown["lassoed"])


def test_starting_over_can_be_undone(shown: dict) -> None:
    np.testing.assert_array_equal(shown["over"], shown["automatic"])
    np.testing.assert_array_equal(shown["back"], shown["unboxed"])


def stored(url: str, case: str, version: int, folder: Path) -> np.ndarray:
    """The label map that the server keeps, as a file."""
    with requests.Session() as http:
        form = {"username": "rea", "password": SECRET}
        token = http.post(f"{url}/auth/token", data=form, timeout=60).json()["access_token"]
        answer = http.get(
            f"{url}/slem/labels/file",
            params={"image": case, "tag": "final", "version": version},
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )
    answer.raise_for_status()
    path = folder / f"{case}.nii.gz"
    path.write_bytes(answer.content)
    return np.asarray(nibabel.load(path).dataobj)


def test_what_is_stored_is_what_was_shown(seen: dict, shown: dict, url: str, tmp_path: Path) -> None:
    assert seen["first"]["submitted"] == "Submitted: version 1 of Oblique."
    np.testing.assert_array_equal(stored(url, "Oblique", 1, tmp_path), shown["submitted"])
    np.testing.assert_array_equal(shown["reopened"], shown["submitted"])
    assert "Version 1 is shown, submitted, by rea" in seen["second"]["reopened"]


def test_a_result_is_confirmed_unchanged(seen: dict, shown: dict, url: str, tmp_path: Path) -> None:
    second = seen["second"]
    assert second["case"] == "Straight"
    assert second["submitted"] == "Confirmed unchanged: version 1 of Straight."
    np.testing.assert_array_equal(stored(url, "Straight", 1, tmp_path), shown["second"])
    assert second["none_left"].startswith("There is no further case")


def test_places_to_check_are_jumped_to(seen: dict) -> None:
    places = seen["second"]["places"]
    assert places
    assert places[0]["text"]
    np.testing.assert_allclose(seen["second"]["centre"], [places[0]["centre"]] * 4, atol=1e-3)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("outside", "The click holds no voxel of Oblique/t1c: draw inside that image."),
        ("lasso", "The lasso holds no voxel of Oblique/t1c: draw inside that image."),
        ("case", "No case 'nobody' among the"),
        ("segment", "The segment 'my own' is no label of slem_brain, which has necrosis, edema, enhancing"),
        ("train", "trainer"),
    ],
)
def test_refusals_are_told_in_a_sentence(seen: dict, what: str, text: str) -> None:
    assert text in seen["refusals"][what]


@pytest.fixture(scope="module")
def pressed(session: tuple, url: str, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a reader saw who pressed the buttons of the panel, after the first session."""
    folder = tmp_path_factory.mktemp("windows")
    words = ["--server", url, "--out", folder, "--user", "rea", "--password", SECRET, "--case", "Straight"]
    command = [SLICER, PROJECT / "tests/e2e/slicer/windows.py", *words]
    ended = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
    )
    if "No module named 'PySide6'" in ended.stderr:
        pytest.skip("no PySide6 in .venv-slicer: `make e2e` installs it")
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    pictures = sorted(path.name for path in folder.glob("*.png"))
    return json.loads((folder / "seen.json").read_text()) | {"pictures": pictures}


def test_the_buttons_of_the_panel_do_it_all(pressed: dict) -> None:
    assert pressed["rows"] == 2
    assert pressed["labels"] == [*NAMES, "nothing is here"]
    assert all(float(ml) > 0 for ml in pressed["ml"][:3])
    assert (pressed["automatic"], pressed["clicked"]) == ("Confirm unchanged", "Submit")
    assert float(pressed["more"]) >= float(pressed["edema"])
    assert pressed["less"] == pressed["edema"]  # as before it
    assert pressed["places"] > 0
    assert pressed["submitted"] == "Submitted: version 2 of Straight."
    assert {"setSegmentationNode", "setSourceVolumeNode"} <= set(pressed["editor"])
    assert len(pressed["pictures"]) >= 10


def test_nothing_to_undo_is_told(seen: dict) -> None:
    assert "here is nothing to undo" in seen["second"]["nothing_to_undo"]


def test_a_closed_module_leaves_no_image_in_the_scene(seen: dict) -> None:
    assert seen["nodes_left"] == 0
    assert seen["learning"]
