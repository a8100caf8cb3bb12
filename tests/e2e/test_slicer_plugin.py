"""The plugin of 3D Slicer as the wheel ships it, on Slicer's own C++, against a running server: what a reader
sees and saves.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests
import SimpleITK as sitk

from slem_app import phantom

PROJECT = Path(__file__).parents[2]
SLICER = PROJECT / ".venv-slicer" / "bin" / "python"
PLUGIN = Path(sys.prefix) / "monailabel" / "plugins" / "slicer" / "MONAILabel"
NAMES = ["necrosis", "edema", "enhancing tumor"]
CLOSE = 0.05  # mm between two ways of reckoning one centre

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not SLICER.exists(), reason="no .venv-slicer: `make e2e` makes it"),
]


@dataclass
class Session:
    """What one reader saw of one case, with what the server and the truth say of it."""

    seen: dict
    server: str
    case: phantom.Phantom

    @property
    def key(self) -> str:
        return self.seen["sample"]["id"]

    def reply(self, folder: Path) -> dict[str, tuple[int, np.ndarray]]:
        """Voxels and centre (RAS mm) of each label in the server's own reply, read without Slicer."""
        address, wanted = (
            f"{self.server}/infer/{self.seen['model']}",
            json.dumps({"result_extension": ".nrrd"}),
        )
        answer = requests.post(
            address, params={"image": self.key, "output": "image"}, data={"params": wanted}, timeout=300
        )
        answer.raise_for_status()
        path = folder / "reply.nrrd"
        path.write_bytes(answer.content)
        image = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)  # (I, J, K)
        found = {}
        for value, name in enumerate(NAMES, 1):
            voxels = np.argwhere(array == value)
            lps = np.array(image.TransformContinuousIndexToPhysicalPoint(voxels.mean(0).tolist()))
            found[name] = (len(voxels), lps * [-1, -1, 1])
        return found


CASES = {
    "Straight": {"seed": 3},
    "Oblique": {"seed": 4, "oblique": True, "anisotropic": True},
}


@pytest.fixture(scope="module")
def cases() -> dict[str, phantom.Phantom]:
    return {name: phantom.make(**options) for name, options in CASES.items()}


@pytest.fixture(scope="module")
def server(
    cases: dict[str, phantom.Phantom], start_server: Callable, tmp_path_factory: pytest.TempPathFactory
) -> object:
    """A server with the two cases and the automatic model alone."""
    studies = tmp_path_factory.mktemp("studies")
    for name, case in cases.items():
        phantom.write_nifti(case, studies, name, labels=False)
    return start_server(studies, "--conf", "models", "slem_brain")


def drive(server: object, folder: Path, *options: str) -> dict:
    """What the reader saw, without any error box."""
    command = [
        SLICER,
        PROJECT / "tests/e2e/slicer/drive.py",
        "--plugin",
        PLUGIN,
        "--server",
        server.url,
        "--folder",
        folder,
        "--out",
        folder / "seen.json",
    ]
    ended = subprocess.run(
        [str(word) for word in [*command, *options]], capture_output=True, text=True, timeout=400, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    seen = json.loads((folder / "seen.json").read_text())
    assert seen["errors"] == [], f"{seen['errors']}\n{server.log.read_text()[-4000:]}"
    return seen


@pytest.fixture(scope="module", params=["path", "download"])
def session(
    request: pytest.FixtureRequest, server: object, cases: dict, tmp_path_factory: pytest.TempPathFactory
) -> Session:
    """A reader takes the next case, segments it and saves; the image comes by a path of the same disk, the
    next reader's by download.
    """
    seen = drive(
        server, tmp_path_factory.mktemp("slicer"), *(["--elsewhere"] if request.param == "download" else [])
    )
    return Session(seen, server.url, cases[seen["sample"]["id"]])


def test_offers_the_model_with_its_labels_in_order(session: Session) -> None:
    assert session.seen["model"] == "slem_brain"
    assert session.seen["info"]["labels"] == NAMES
    assert session.seen["strategies"]


def test_shows_the_reference_sequence_where_it_lies(session: Session) -> None:
    grid = session.case.grids["t1c"]
    assert tuple(session.seen["volume"]["shape"]) == grid.shape
    np.testing.assert_allclose(session.seen["volume"]["affine"], grid.affine, atol=1e-4)


def test_begins_with_an_empty_segment_a_label(session: Session) -> None:
    assert [(segment["name"], segment["voxels"]) for segment in session.seen["before"]] == [
        (name, 0) for name in NAMES
    ]


def test_shows_three_named_segments_as_the_server_sent_them(session: Session, tmp_path: Path) -> None:
    segments = session.seen["segments"]
    assert [segment["name"] for segment in segments] == NAMES
    for name, (voxels, centre) in session.reply(tmp_path).items():
        shown = segments[NAMES.index(name)]
        assert shown["voxels"] == voxels > 0, name
        np.testing.assert_allclose(shown["centre"], centre, atol=CLOSE, err_msg=name)


def test_shows_the_tumour_where_it_is(session: Session) -> None:
    segments = session.seen["segments"]
    shown = np.average(
        [segment["centre"] for segment in segments],
        axis=0,
        weights=[segment["voxels"] for segment in segments],
    )
    truth = session.case.grid.to_world(np.argwhere(session.case.labels > 0)).mean(0)
    assert np.linalg.norm(shown - truth) < 10, f"shown at {shown}, the tumour is at {truth}"


def test_saves_the_label_by_name_and_lists_it(session: Session, tmp_path: Path) -> None:
    listed = session.seen["datastore"]["objects"][session.key]["labels"]
    assert "final" in listed
    path = tmp_path / "final.nii.gz"
    answer = requests.get(
        f"{session.server}/datastore/label", params={"label": session.key, "tag": "final"}, timeout=60
    )
    answer.raise_for_status()
    path.write_bytes(answer.content)
    image = nibabel.load(path)
    array = np.asarray(image.dataobj)
    for value, segment in enumerate(session.seen["segments"], 1):
        voxels = np.argwhere(array == value)
        assert len(voxels) == segment["voxels"], segment["name"]
        np.testing.assert_allclose(
            nibabel.affines.apply_affine(image.affine, voxels).mean(0), segment["centre"], atol=CLOSE
        )


def test_segments_and_saves_a_volume_that_is_not_on_the_server(server: object, tmp_path: Path) -> None:
    """As a session: one sequence, sent up by the plugin; the label then belongs to a new case of
    that name.
    """
    case = phantom.make(seed=5)
    own = phantom.write_nifti(case, tmp_path, "guest", labels=False) / "guest-t1c.nii.gz"
    seen = drive(server, tmp_path, "--volume", str(own))
    assert [segment["name"] for segment in seen["segments"]] == NAMES
    assert tuple(seen["volume"]["shape"]) == case.grids["t1c"].shape
    listed = seen["datastore"]["objects"]
    assert [name for name, entry in listed.items() if name not in CASES and "final" in entry["labels"]] == [
        "guest-t1c"
    ]


@pytest.fixture(scope="module")
def clicked(
    cases: dict[str, phantom.Phantom],
    click_models: Path,
    start_server: Callable,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict:
    """A reader segments the oblique case, then places landmarks with SmartEdit: two labels, nothing, and
    takes the last one away.
    """
    studies, case = tmp_path_factory.mktemp("click_studies"), cases["Oblique"]
    phantom.write_nifti(case, studies, "Oblique", labels=False)
    grid = case.grids["t1c"]
    places = [
        grid.to_world(np.floor(np.array(grid.shape) * share)).tolist()
        for share in ((0.3, 0.5, 0.5), (0.65, 0.45, 0.5), (0.5, 0.3, 0.5))
    ]
    clicks = [
        {"label": name, "ras": ras} for name, ras in zip(["edema", "enhancing tumor", "background"], places)
    ]
    back = {"remove": "enhancing tumor"}
    options = (
        "--conf",
        "models_dir",
        str(click_models),
        "--conf",
        "models",
        "slem_brain,slem_brain_clicks,slem_brain_scribbles",
    )
    return drive(
        start_server(studies, *options),
        tmp_path_factory.mktemp("slicer"),
        "--clicks",
        json.dumps([*clicks, back]),
    )


def test_smart_edit_offers_the_labels_and_the_background(clicked: dict) -> None:
    assert clicked["info"]["models"]["slem_brain_clicks"]["type"] == "deepedit"
    assert clicked["info"]["labels"] == [*NAMES, "background"]
    assert [segment["name"] for segment in clicked["segments"]] == [*NAMES, "background"]


def test_a_landmark_shows_its_label_where_it_lies(clicked: dict) -> None:
    assert [click["at"] for click in clicked["clicks"][:3]] == [["edema"], ["enhancing tumor"], []]
    assert [click["landmarks"] for click in clicked["clicks"]] == [1, 1, 1, 0]
    for click in clicked["clicks"]:
        assert next(one for one in click["segments"] if one["name"] == "background")["voxels"] == 0


def test_a_landmark_taken_away_takes_its_label_with_it(clicked: dict) -> None:
    assert clicked["clicks"][3]["at"] == []
    voxels = [
        next(one["voxels"] for one in click["segments"] if one["name"] == "enhancing tumor")
        for click in clicked["clicks"]
    ]
    assert voxels[1] > voxels[0]
    assert voxels[3] < voxels[2]
