"""The wheel's own client for 3D Slicer against a real server on phantoms: ask, download, segment, save; what
goes wrong: `test_slicer_refusals.py`.
"""

import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests
import SimpleITK as sitk

from slem_app.grouping import group
from slem_app.predict import Predictor, assessed
from slem_app.studies import open_source
from slem_app.weights import load_model
from tests.e2e.slicer_client import BUNDLED, NAMES, SEQUENCES, World, load_client

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # the client leaves its sockets to the garbage collector
]


def assert_same_grid(result: sitk.Image, image: sitk.Image) -> None:
    assert result.GetSize() == image.GetSize()
    for corner in ((0, 0, 0), tuple(n - 1 for n in image.GetSize())):
        np.testing.assert_allclose(
            result.TransformIndexToPhysicalPoint(corner),
            image.TransformIndexToPhysicalPoint(corner),
            atol=1e-3,
        )
    np.testing.assert_allclose(result.GetDirection(), image.GetDirection(), atol=1e-5)


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0)


def expected(world: World, case: str, sequence: str) -> np.ndarray:
    """The same segmentation without any server, without what the case's sequences cannot show."""
    grouping = group(open_source(world.studies).study(case))
    return assessed(Predictor(load_model(world.model)).predict_case(grouping, sequence)).array


def test_info_lists_models_labels_and_strategies(world: World) -> None:
    assert not world.client.auth_enabled()
    info = world.client.info()
    model = info["models"]["slem_brain"]
    assert (model["type"], model["dimension"]) == ("segmentation", 3)
    assert sorted(model["labels"], key=model["labels"].get) == NAMES
    assert model["config"] == {"sequence": ["auto", *SEQUENCES]}
    assert info["labels"] == NAMES  # OHIF needs a list
    assert set(info["strategies"]) == {
        "balanced",
        "uncertainty",
        "disagreement",
        "diverse",
        "foreground_random",
        "random",
        "first",
    }
    assert list(info["trainers"]) == ["slem_brain"]  # pre-training is no button of a client
    there = {key: info["datastore"][key] for key in ("total", "completed", "label_tags")}
    assert there == {"total": 4, "completed": 0, "label_tags": {}}
    assert set(world.client.datastore()["objects"]) == set(world.phantoms)


@pytest.mark.parametrize("strategy", ["first", "random", "balanced"])
def test_next_sample_can_be_opened(world: World, strategy: str, tmp_path: Path) -> None:
    sample = world.client.next_sample(strategy, {})
    assert sample["id"] in world.phantoms
    assert Path(sample["path"]).is_file()
    assert sample["name"] == f"{sample['id']}_{sample['sequence']}.nii.gz"
    sequence = "t2f" if sample["id"] == "without-contrast" else "t1c"
    assert sample["sequence"] == sequence
    image = world.image(sample["id"], tmp_path)
    assert image.GetSize() == world.phantoms[sample["id"]].grids[sequence].shape
    noted = world.client.datastore()["objects"][sample["id"]]["image"]["info"]["strategy"][strategy]
    assert noted["client_id"] == "reader"


def test_every_case_is_segmented_on_its_image_grid_with_the_right_names(world: World, tmp_path: Path) -> None:
    for case in world.phantoms:
        result, params = world.infer(case)
        assert_same_grid(result, world.image(case, tmp_path))
        assert params["label_names"] == {"necrosis": 1, "edema": 2, "enhancing tumor": 3}
        assert set(np.unique(voxels(result))) <= {0, 1, 2, 3}
        steps = {"read", "prepare", "network", "detail", "recalibrate", "restore", "write", "total"}
        assert set(params["latencies"]) == steps
        assert (
            sum(params["latencies"][step] for step in params["latencies"] if step != "total")
            <= params["latencies"]["total"] + 0.01
        )
        assert params["missing"] == (["t1c"] if case == "without-contrast" else [])
        np.testing.assert_array_equal(voxels(result), expected(world, case, params["sequence"]))
        for name, value in params["label_names"].items():
            ml = (voxels(result) == value).sum() * np.prod(result.GetSpacing()) / 1000
            if name in params["not_assessable"]:
                assert (ml, params["volumes_ml"].get(name)) == (0, None)
            else:
                assert params["volumes_ml"][name] == pytest.approx(ml, abs=2e-3)
        lost = ["enhancing tumor"] if case == "without-contrast" else []
        assert params["not_assessable"] == lost


@pytest.mark.skipif(not BUNDLED, reason="no bundled weights: an untrained model finds no tumour")
def test_the_tumour_is_found(world: World) -> None:
    for case in ("case one", "own-grids", "sagittal"):
        found, truth = voxels(world.infer(case)[0]) > 0, world.phantoms[case].labels > 0
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.5, case


def test_any_sibling_gives_the_result_on_its_own_grid(world: World, tmp_path: Path) -> None:
    for sequence in SEQUENCES:
        result, params = world.infer(f"own-grids/{sequence}")
        assert_same_grid(result, world.image(f"own-grids/{sequence}", tmp_path))
        assert result.GetSize() == world.phantoms["own-grids"].grids[sequence].shape
        assert params["sequence"] == sequence
        # prepared when the case was asked for before
        assert params["latencies"]["read"] == params["latencies"]["prepare"] == 0.0
        np.testing.assert_array_equal(voxels(result), expected(world, "own-grids", sequence))


def test_a_series_may_be_named_as_its_file_is(world: World) -> None:
    by_series, _ = world.infer("case one/t2f")
    by_case, _ = world.infer("case one")
    # on one grid all siblings give the same
    np.testing.assert_array_equal(voxels(by_series), voxels(by_case))


def test_ohif_gets_raw_voxels(world: World) -> None:
    params = {
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
        "result_compress": False,
        "restore_label_idx": False,
    }
    answer = requests.post(
        f"{world.url}/infer/slem_brain",
        params={"image": "case one", "output": "image"},
        data={"params": json.dumps(params)},
        timeout=120,
    )
    answer.raise_for_status()
    header, _, body = answer.content.partition(b"\n\n")
    assert b"encoding: raw" in header
    assert len(body) == np.prod(world.phantoms["case one"].grid.shape)


# uploads


def test_an_uploaded_volume_is_segmented_alone(world: World, tmp_path: Path) -> None:
    path = tmp_path / "tmpq3x9_w1z.nii.gz"  # a viewer's name says nothing
    shutil.copy(world.studies / "case one/case one-t2f.nii.gz", path)
    session = world.client.create_session(str(path))["session_id"]
    assert world.client.get_session(session)["image"]
    file, params = world.client.infer("slem_brain", "MRHead", {"sequence": "t2f"}, session_id=session)
    assert_same_grid(sitk.ReadImage(file), sitk.ReadImage(str(path)))
    assert params["used"] == ["t2f"]
    assert params["not_assessable"] == ["enhancing tumor"]
    warnings = {one["code"]: one["text"] for one in params["warnings"]}
    told = warnings["enhancement-not-assessable"]
    assert "enhancement cannot be assessed without a T1 after contrast (t1c)" in told
    _, params = world.client.infer(
        "slem_brain", "MRHead", {"sequence": ["auto", *SEQUENCES]}, session_id=session
    )
    assert params["used"] == ["t1c"]
    assert "does not tell which sequence" in params["warnings"][0]["text"]
    world.client.remove_session(session)


def test_an_upload_of_several_sequences_uses_what_its_names_tell(world: World) -> None:
    names = [f"case one-{sequence}.nii.gz" for sequence in ("t1c", "t2f")]
    files = [("files", (name, (world.studies / "case one" / name).read_bytes())) for name in names]
    session = requests.put(f"{world.url}/session/", files=files, timeout=60).json()["session_id"]
    file, params = world.client.infer("slem_brain", "x", {}, session_id=session)
    assert (params["sequence"], params["used"]) == ("t1c", ["t1c", "t2f"])
    assert voxels(sitk.ReadImage(file)).shape == world.phantoms["case one"].grid.shape


def test_a_file_sent_with_the_request_is_segmented(world: World) -> None:
    file, params = world.client.infer(
        "slem_brain", "", {"sequence": "t1c"}, file=str(world.studies / "case one/case one-t1c.nii.gz")
    )
    assert voxels(sitk.ReadImage(file)).shape == world.phantoms["case one"].grid.shape
    assert params["used"] == ["t1c"]


def test_an_uploaded_image_becomes_a_case_that_takes_labels(world: World, tmp_path: Path) -> None:
    source = world.studies / "case one/case one-t2w.nii.gz"
    assert world.client.upload_image(str(source), "Reader's scan_t2w")["image"] == "Reader's scan_t2w"
    world.client.upload_image(str(source), "Reader's scan_t2w")  # again: the same
    assert world.client.info()["datastore"]["total"] == 5
    result, params = world.infer("Reader's scan_t2w")
    assert params["used"] == ["t2w"]
    path = tmp_path / "label.nii.gz"
    sitk.WriteImage(result, str(path))
    world.client.save_label(
        "Reader's scan_t2w", str(path), params={"label_info": [{"name": name} for name in NAMES]}
    )
    other = (world.studies / "sagittal/sagittal-t2w.nii.gz").read_bytes()
    status, text = world.refusal(
        "PUT", "/datastore/?image=Reader's scan_t2w", files={"file": ("x.nii.gz", other)}
    )
    assert status == 400
    assert "another image with the id" in text
    requests.delete(f"{world.url}/datastore/?id=Reader's scan_t2w", timeout=60).raise_for_status()
    assert world.client.info()["datastore"]["total"] == 4


# labels


def test_batch_inference_saves_labels_of_all_cases(world: World) -> None:
    """In a process of its own; again it makes only what is missing."""
    requests.post(
        f"{world.url}/batch/infer/slem_brain?images=all", json={"label_tag": "original"}, timeout=60
    ).raise_for_status()
    end = time.monotonic() + 300
    while (task := requests.get(f"{world.url}/batch/infer", timeout=60).json())["status"] in (
        "SUBMITTED",
        "RUNNING",
    ) and time.monotonic() < end:
        time.sleep(1)
    assert task["status"] == "DONE", task
    objects = world.client.datastore()["objects"]
    assert all("original" in objects[case]["labels"] for case in world.phantoms)
    label = nibabel.load(world.client.download_label("case one", "original"))
    np.testing.assert_array_equal(np.asarray(label.dataobj), voxels(world.infer("case one")[0]))
    info = objects["case one"]["labels"]["original"]["info"]
    assert info["label_names"] == {"necrosis": 1, "edema": 2, "enhancing tumor": 3}
    assert (info["record"]["automatic"], info["record"]["client"]) == (True, "slem predict")
    before = len(requests.get(f"{world.url}/slem/labels", timeout=60).json())
    requests.post(
        f"{world.url}/batch/infer/slem_brain?images=unlabeled", timeout=60
    ).raise_for_status()  # MONAI Label's own defaults
    while (task := requests.get(f"{world.url}/batch/infer", timeout=60).json())[
        "status"
    ] == "RUNNING" and time.monotonic() < end:
        time.sleep(1)
    assert (
        task["status"],
        task["total"],
        len(requests.get(f"{world.url}/slem/labels", timeout=60).json()),
    ) == ("DONE", 0, before)  # made once


@pytest.mark.skipif(not BUNDLED, reason="no bundled weights: an untrained model takes no clicks")
def test_each_of_the_15_sets_of_sequences_is_segmented_corrected_and_told(
    world: World, start_server: Callable, tmp_path: Path
) -> None:
    """With the tools for clicks as well, which the other tests' server does not offer."""
    library = load_client()
    client = library.MONAILabelClient(
        start_server(tmp_path / "studies").url, tmpdir=str(tmp_path), client_id="reader"
    )

    def ask(model: str, case: str, **more: object) -> tuple:
        return client.infer(model, case, {"result_extension": ".nrrd", **more})

    place = [int(v) for v in np.argwhere(world.phantoms["case one"].labels == 0).mean(axis=0).round()]
    sets = [kept for count in range(1, 5) for kept in itertools.combinations(SEQUENCES, count)]
    assert len(sets) == 15
    for kept in sets:
        case = "only " + " ".join(kept)
        (tmp_path / "studies" / case).mkdir(parents=True)
        for name in kept:
            shutil.copy(
                world.studies / f"case one/case one-{name}.nii.gz",
                tmp_path / "studies" / case / f"{case}-{name}.nii.gz",
            )
        if kept == ("t1n",):
            with pytest.raises(library.MONAILabelClientException, match="a T1 before contrast alone"):
                ask("slem_brain", case)
            continue
        file, params = ask("slem_brain", case)
        result, told = voxels(sitk.ReadImage(file)), (sorted(kept), sorted(set(SEQUENCES) - set(kept)))
        assert (sorted(params["used"]), sorted(params["missing"])) == told
        wrong = "edema" if result[tuple(place)] != 2 else "necrosis"
        file, params = ask("slem_brain_clicks", case, background=[], **{wrong: [place]})
        corrected = voxels(sitk.ReadImage(file))
        assert (sorted(params["used"]), sorted(params["missing"])) == told
        assert corrected[tuple(place)] == NAMES.index(wrong) + 1
        np.testing.assert_array_equal(result[:, :, :3], corrected[:, :, :3])  # far from the click


def test_train_status_says_that_nothing_runs(world: World) -> None:
    assert world.client.train_status(check_if_running=True) is False
