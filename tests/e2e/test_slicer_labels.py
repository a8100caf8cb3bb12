"""Labels that 3D Slicer's client saves: renumbered by name, kept in every version, or refused."""

import gzip
import json
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests

from tests.e2e.slicer_client import NAMES, World, load_client

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # the client leaves its sockets to the garbage collector
]


def test_a_saved_label_is_renumbered_by_name_and_comes_back(world: World, tmp_path: Path) -> None:
    case = "own-grids"
    truth = world.phantoms[case]
    # the reader's segments: edema, enhancing tumor, necrosis
    file_values = np.array([0, 3, 1, 2], np.uint8)[truth.labels]
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(file_values, truth.grid.affine), path)
    # idx counts a background
    info = [
        {"name": "edema", "idx": 2},
        {"name": "enhancing tumor", "idx": 3},
        {"name": "necrosis", "idx": 4},
    ]
    before = world.client.info()["datastore"]["completed"]
    assert world.client.save_label(case, str(path), params={"label_info": info})["label"] == case
    assert world.client.info()["datastore"]["completed"] == before + 1
    again = nibabel.load(world.client.download_label(case, "final"))
    np.testing.assert_array_equal(np.asarray(again.dataobj), truth.labels)
    np.testing.assert_allclose(again.affine, truth.grid.affine, atol=1e-4)
    stored = world.client.datastore()["objects"][case]["labels"]["final"]["info"]
    assert stored["present"] == NAMES
    assert world.client.next_sample("first", {})["id"] != case


def test_every_version_of_a_label_is_kept_beside_the_sources(world: World, tmp_path: Path) -> None:
    case = "sagittal"
    grid, sources = world.phantoms[case].grid, sorted(path.name for path in (world.studies / case).iterdir())
    for value in (1, 2, 3):
        path = tmp_path / f"{value}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.full(grid.shape, value, np.uint8), grid.affine), path)
        world.client.save_label(
            case, str(path), tag="draft", params={"label_info": [{"name": name} for name in NAMES]}
        )
    versions = sorted((world.studies / ".slem/labels" / case / "draft").iterdir())
    assert [np.asarray(nibabel.load(version / "label.nii.gz").dataobj).max() for version in versions] == [
        1,
        2,
        3,
    ]
    assert sorted(path.name for path in (world.studies / case).iterdir()) == sources


def test_a_label_on_another_grid_is_refused_and_nothing_lost(world: World, tmp_path: Path) -> None:
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((9, 9, 9), np.uint8), np.diag([3.3, 3.3, 3.3, 1])), path)
    with pytest.raises(world.error) as refused:
        world.client.save_label(
            "case one", str(path), tag="strange", params={"label_info": [{"name": "edema"}]}
        )
    assert "Status: 422" in refused.value.msg
    assert "nothing was saved" in refused.value.msg
    assert "strange" not in world.client.datastore()["objects"]["case one"]["labels"]


def test_a_label_of_unknown_names_is_refused(world: World, tmp_path: Path) -> None:
    grid = world.phantoms["case one"].grid
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones(grid.shape, np.uint8), grid.affine), path)
    with pytest.raises(world.error) as refused:
        world.client.save_label("case one", str(path), params={"label_info": [{"name": "liver"}]})
    assert "Status: 422" in refused.value.msg
    assert (
        "unknown label 'liver': this model has necrosis, edema, enhancing tumor"
        in json.loads(refused.value.msg.partition("Response: ")[2])["detail"]
    )


def test_a_label_file_that_is_none_is_refused(world: World) -> None:
    status, text = world.refusal(
        "PUT",
        "/datastore/label?image=case one",
        files={"label": ("label.nii.gz", gzip.compress(b"no image"))},
    )
    assert status == 422
    assert "cannot be read as NIfTI" in text


def test_a_submitted_label_tells_who_made_it_with_what_and_in_what_time(world: World, tmp_path: Path) -> None:
    """By the client's own requests, which say little."""
    grid, path = world.phantoms["case one"].grid, tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(world.phantoms["case one"].labels.astype(np.uint8), grid.affine), path)
    for reader in ("eva", "tom"):
        client = load_client().MONAILabelClient(world.url, tmpdir=str(tmp_path), client_id=reader)
        client.infer("slem_brain", "case one", {"result_extension": ".nrrd"})
        time.sleep(0.2)  # seconds are told by tenths, and the second answer comes from memory
        client.save_label(
            "case one",
            str(path),
            tag="look",
            params={"label_info": [{"name": name} for name in NAMES], "model": "slem_brain"},
        )
    looks = [
        one
        for one in requests.get(f"{world.url}/slem/labels", params={"image": "case one"}, timeout=60).json()
        if one["tag"] == "look"
    ]
    assert [
        (one["version"], one["reader"].partition("@")[0], one["client"], one["model"]) for one in looks
    ] == [
        (1, "eva", "3D Slicer", "slem_brain"),
        (2, "tom", "3D Slicer", "slem_brain"),
    ]
    assert all(0 < one["seconds"] < 60 and one["clicks"] == 0 and not one["automatic"] for one in looks)
    file = requests.get(
        f"{world.url}/slem/labels/file", params={"image": "case one", "tag": "look", "version": 1}, timeout=60
    )
    (tmp_path / "first.nii.gz").write_bytes(file.content)
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(tmp_path / "first.nii.gz").dataobj), world.phantoms["case one"].labels
    )
