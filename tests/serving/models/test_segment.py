"""A model as an inference task: the reply's file and facts, what is kept in memory, bad request fields."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app.errors import BadSetting, BadStudy, BadVolume
from slem_app.formats import read_label_file
from slem_app.predict import Predictor
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.http.infer_request import parse_reply
from slem_app.serving.models.compute import Caches, LocalCompute
from slem_app.serving.models.inference import Reply
from slem_app.serving.models.segment import SegmentationTask
from slem_app.serving.models.versions import ServedVersions
from slem_app.serving.monai.adapters import InferAdapter
from slem_app.weights import BRAIN_SEQUENCES, load_model
from tests.serving.conftest import nothing_kept
from tests.serving.language import ask

NAMES = {"necrosis": 1, "edema": 2, "enhancing tumor": 3}


@pytest.fixture
def task(models: Path, tmp_path: Path) -> SegmentationTask:
    (tmp_path / "results").mkdir()
    served = ServedVersions(Predictor(load_model(models / "slem_brain")))
    return SegmentationTask(served, LocalCompute(nothing_kept()), tmp_path / "results")


def test_tells_clients_what_it_is(task: SegmentationTask) -> None:
    listed = InferAdapter(task)
    info = listed.info()
    assert (info["type"], info["labels"], info["dimension"]) == ("segmentation", NAMES, 3)
    assert info["config"]["sequence"] == ["auto", "t1n", "t1c", "t2w", "t2f"]
    assert Path(listed.get_path()).is_file()
    assert listed.is_valid()


@pytest.mark.parametrize("key", ["A", "B", "B/t1n", "B/t2f"])
def test_the_result_lies_on_the_grid_of_what_was_asked_for(
    task: SegmentationTask, cases: Cases, key: str
) -> None:
    case = cases.find(key)
    file, params = ask(task, {"case": case})
    array, grid, names = read_label_file(Path(file))
    assert grid.same_as(case.series.grid)
    assert names == {1: "necrosis", 2: "edema", 3: "enhancing tumor"}
    np.testing.assert_array_equal(array, task.predictor.predict_case(case.grouping, case.sequence).array)
    assert array.any()
    assert params["label_names"] == NAMES
    assert (params["case"], params["sequence"], params["missing"]) == (case.id, case.sequence, [])
    assert set(params["latencies"]) == {"read", "prepare", "network", "restore", "write", "total"}
    assert params["volumes_ml"]["edema"] == pytest.approx(
        (array == 2).sum() * grid.voxel_volume / 1000, abs=1e-3
    )


def test_a_prepared_case_serves_all_its_sequences(task: SegmentationTask, cases: Cases) -> None:
    first = ask(task, {"case": cases.find("B")})[1]["latencies"]
    assert first["read"] > 0
    second = ask(task, {"case": cases.find("B/t2f")})[1]["latencies"]
    assert second["read"] == second["prepare"] == 0
    assert task.compute.caches.prepared.used > 0


def test_a_sequence_that_moved_is_registered_and_the_reply_says_so(
    models: Path, cases: Cases, studies: Path, tmp_path: Path
) -> None:
    served = ServedVersions(Predictor(load_model(models / "slem_brain")))
    task = SegmentationTask(served, LocalCompute(nothing_kept(), register=True), tmp_path)
    path = studies / "A/A-t2f.nii.gz"
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += (9, -8, 6)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), path)
    os.utime(path, (2, 2))
    file, params = ask(task, {"case": cases.find("A/t2f")})
    assert params["preparation"]["onto"] == "t1c"
    assert params["preparation"]["moved_mm"]["t2f"] == pytest.approx(13.5, abs=3)
    assert params["preparation"]["brain_mask"] is None
    assert any(note.startswith("t2f was moved by ") for note in params["notes"])
    array, grid, *_ = read_label_file(Path(file))
    np.testing.assert_allclose(grid.affine, affine, atol=1e-3)
    assert array.any()


@pytest.fixture
def keeping(task: SegmentationTask, monkeypatch: pytest.MonkeyPatch) -> tuple[SegmentationTask, list[int]]:
    """A task that keeps results, and how many passes its network has done."""
    task.compute = LocalCompute(Caches.of_size(64, 256))
    passes: list[int] = []
    run = Predictor.probabilities

    def counted(self: Predictor, *args: object) -> np.ndarray:
        passes.append(1)
        return run(self, *args)

    monkeypatch.setattr(Predictor, "probabilities", counted)
    return task, passes


def test_what_is_asked_for_again_is_not_segmented_again(
    keeping: tuple[SegmentationTask, list[int]], cases: Cases
) -> None:
    task, passes = keeping
    first, told = ask(task, {"case": cases.find("A")})
    again, said = ask(task, {"case": cases.find("A"), "client_id": "ben"})
    np.testing.assert_array_equal(read_label_file(Path(first))[0], read_label_file(Path(again))[0])
    assert len(passes) == 1
    assert said["latencies"]["network"] == 0
    for key in ("volumes_ml", "warnings", "trust", "used"):
        assert said.get(key) == told.get(key)
    ask(task, {"case": cases.find("B")})
    assert len(passes) == 2


def test_what_changed_or_is_only_saved_is_segmented_each_time(
    keeping: tuple[SegmentationTask, list[int]], cases: Cases
) -> None:
    task, passes = keeping
    for _ in range(2):
        ask(task, {"case": cases.find("A"), "save_label": True})
    assert len(passes) == 2
    ask(task, {"case": cases.find("A")})
    path = cases.find("A").series.paths[0]
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))
    ask(task, {"case": cases.find("A")})
    assert len(passes) == 4


def test_a_changed_file_is_read_again(task: SegmentationTask, cases: Cases, studies: Path) -> None:
    ask(task, {"case": cases.find("A")})
    path = studies / "A/A-t1c.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine), path)
    os.utime(path, (1, 1))
    file, params = ask(task, {"case": cases.find("A")})
    assert params["latencies"]["read"] > 0
    np.testing.assert_array_equal(
        read_label_file(Path(file))[0], task.predictor.predict_case(cases.find("A").grouping, "t1c").array
    )


def test_a_missing_sequence_is_told(task: SegmentationTask, cases: Cases, studies: Path) -> None:
    (studies / "A/A-t1n.nii.gz").unlink()
    _, params = ask(task, {"case": cases.find("A")})
    assert (params["used"], params["missing"]) == (["t1c", "t2w", "t2f"], ["t1n"])


@pytest.mark.parametrize("layout", ["nifti", "dicom"])
def test_each_of_the_15_sets_of_sequences_is_segmented_and_told(
    task: SegmentationTask, subsets: Path, tmp_path: Path, layout: str
) -> None:
    """By case, as Slicer asks, or by the UID of a series, as OHIF does; sets that differ give results that
    differ. A T1 alone is refused.
    """
    cases, results = Cases(subsets / layout, tmp_path / "uploads"), set()
    for case in cases.ids():
        found = cases.find(case)
        if layout == "dicom":
            found = cases.find(found.series.id)
        if case == "t1n":
            with pytest.raises(BadStudy, match="a T1 before contrast alone"):
                ask(task, {"case": found})
            continue
        file, params = ask(task, {"case": found})
        kept = case.split("_")
        assert (params["case"], params["used"]) == (case, [name for name in BRAIN_SEQUENCES if name in kept])
        assert params["missing"] == [name for name in BRAIN_SEQUENCES if name not in kept]
        array, grid, _ = read_label_file(Path(file))
        assert grid.same_as(found.series.grid)
        results.add(array.tobytes())
    assert len(results) == 14


@pytest.mark.parametrize(
    ("extension", "start"), [(".nrrd", b"NRRD"), (".nii.gz", b"\x1f\x8b"), (".nii", b"\x5c\x01\x00\x00")]
)
def test_the_client_chooses_the_file_type(
    task: SegmentationTask, cases: Cases, extension: str, start: bytes
) -> None:
    file, _ = ask(task, {"case": cases.find("A"), "result_extension": extension})
    assert file.endswith(extension)
    assert Path(file).read_bytes().startswith(start)


def test_raw_nrrd_on_request(task: SegmentationTask, cases: Cases) -> None:
    file, _ = ask(task, {"case": cases.find("A"), "result_compress": False})
    header, _, body = Path(file).read_bytes().partition(b"\n\n")
    assert b"encoding: raw" in header
    assert len(body) == np.prod(cases.find("A").series.grid.shape)


@pytest.mark.parametrize(
    ("fields", "reply"),
    [
        ({}, Reply(".nrrd", True)),
        ({"result_compress": "false"}, Reply(".nrrd", False)),
        ({"result_extension": ".nii.gz"}, Reply(".nii.gz", True)),
    ],
)
def test_reply_fields(fields: dict, reply: Reply) -> None:
    assert parse_reply(fields) == reply


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"result_extension": ".png"}, "result_extension '.png' is unknown: use .nrrd"),
        ({"result_dtype": "float32"}, "'float32' is unknown: label maps are uint8"),
    ],
)
def test_unknown_reply_fields_are_refused(fields: dict, text: str) -> None:
    with pytest.raises(BadSetting, match=text):
        parse_reply(fields)


def test_a_case_of_other_sequences_is_refused(
    task: SegmentationTask, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cases.find("A")
    monkeypatch.setattr(
        type(case.grouping), "sequences", property(lambda grouping: {"pd": grouping.choices[0].series})
    )
    with pytest.raises(
        BadStudy, match="case A has none of the sequences t1n, t1c, t2w, t2f that slem_brain needs; it has pd"
    ):
        task.compute.prepare(case, task.predictor)


def test_a_damaged_file_is_told(task: SegmentationTask, cases: Cases, studies: Path) -> None:
    path = studies / "A/A-t2f.nii.gz"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadVolume, match="A-t2f.nii.gz"):
        ask(task, {"case": cases.find("A")})
