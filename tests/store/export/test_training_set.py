"""Training sets for other programs: read back by the package itself, and held to each layout's rules."""

import csv
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app import phantom
from slem_app.errors import BadLabel, BadSetting, BadStudy
from slem_app.finetune.cases import truth
from slem_app.formats import write_nifti
from slem_app.grouping import group
from slem_app.labels import LabelSet, Region
from slem_app.store.case_labels import CaseLabels, LabelledCase
from slem_app.store.export.training_set import export
from slem_app.store.record import LabelRecord
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

SMALL = {"shape": (24, 30, 26), "spacing": (6.0, 6.0, 6.0)}


@pytest.fixture(scope="module")
def heads() -> dict[str, phantom.Phantom]:
    return {
        "A-1": phantom.make(seed=1, **SMALL),
        "A_1": phantom.make(seed=2, oblique=True, own_grids=True, **SMALL),
    }


def label_grid(head: phantom.Phantom) -> Grid:
    return head.grids["t1c"]


def map_of(head: phantom.Phantom) -> np.ndarray:
    """The head's labels on the grid of its t1c."""
    from slem_app.volumes.geometry import resample

    return resample(head.labels, head.grid, label_grid(head), order=0)


def submit(
    store: CaseLabels,
    case: str,
    array: np.ndarray,
    grid: Grid,
    labels: LabelSet = BRAIN_LABELS,
    reader: str = "eva",
) -> None:
    meta = {"sequence": "t1c", "label_names": {name: value for value, name in enumerate(labels.names, 1)}}
    record = LabelRecord(1000.0, f"{reader}@here", "3D Slicer", "slem_brain", "2", seconds=60, clicks=4)
    store.store.save(
        case, "final", lambda path: write_nifti(array, grid, labels, path), {**meta, **record.to_meta()}
    )


@pytest.fixture
def labels(heads: dict, tmp_path: Path) -> CaseLabels:
    for name, head in heads.items():
        phantom.write_nifti(head, tmp_path / "studies", name)
    store = CaseLabels(str(tmp_path / "studies"), tmp_path / "store")
    for name, head in heads.items():
        submit(store, name, map_of(head), label_grid(head))
    return store


def cases(labels: CaseLabels) -> list[LabelledCase]:
    return [labels.labelled(case) for case in labels.store.cases()]


def read_back(folder: Path, heads: dict) -> dict[str, dict[str, Grid]]:
    """Open the set as any user would; labels must be those that were saved. Returns the grids of the images,
    by the seed's case.
    """
    source, found = open_source(folder), {}
    assert len(source) == len(heads)
    for study, (name, head) in zip(source, sorted(heads.items()), strict=True):
        array, grid = truth(study, BRAIN_LABELS)
        np.testing.assert_array_equal(array, map_of(head))
        assert grid.same_as(label_grid(head))
        found[name] = {sequence: series.grid for sequence, series in group(study).sequences.items()}
        assert set(found[name]) == {"t1n", "t1c", "t2w", "t2f"}
    return found


@pytest.mark.parametrize(
    ("coding", "values", "words"), [("", {1, 2, 3}, "-t1c"), ("brats2018", {1, 2, 4}, "_t1ce")]
)
def test_brats(
    labels: CaseLabels, heads: dict, tmp_path: Path, coding: str, values: set[int], words: str
) -> None:
    report = export(cases(labels), "brats", tmp_path / "out", coding)
    assert (report.written, dict(report.skipped)) == (("A-1", "A_1"), {})
    grids = read_back(tmp_path / "out", heads)
    for name, head in heads.items():
        assert all(grid.same_as(label_grid(head)) for grid in grids[name].values())  # one grid a case
        assert (tmp_path / "out" / name / f"{name}{words}.nii.gz").is_file()
        seg = np.asarray(nibabel.load(next((tmp_path / "out" / name).glob("*seg.nii.gz"))).dataobj)
        assert set(np.unique(seg)) - {0} == values
    source = tmp_path / "studies/A-1/A-1-t2f.nii.gz"
    assert (
        tmp_path / "out/A-1" / f"A-1{'-t2f' if not coding else '_flair'}.nii.gz"
    ).read_bytes() == source.read_bytes()  # nothing to resample: as it was
    assert set(report.resampled) == {"A_1"}
    assert "t1c" not in report.resampled["A_1"]
    rows = list(csv.DictReader((tmp_path / "out/labels.csv").read_text().splitlines()))
    assert [(row["case"], row["reader"], row["seconds"], row["clicks"]) for row in rows] == [
        ("A-1", "eva", "60", "4"),
        ("A_1", "eva", "60", "4"),
    ]


def test_nnunet(labels: CaseLabels, heads: dict, tmp_path: Path) -> None:
    folder = tmp_path / "nnUNet_raw" / "Dataset042_Glioma"
    export(cases(labels), "nnunet", folder)
    read_back(folder, heads)
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "necrosis": 1, "edema": 2, "enhancing tumor": 3}
    assert sorted(content["channel_names"]) == ["0", "1", "2", "3"]
    assert (content["numTraining"], content["file_ending"]) == (2, ".nii.gz")
    for label in (folder / "labelsTr").iterdir():
        case, truth_image = label.name.removesuffix(".nii.gz"), nibabel.load(label)
        assert set(np.unique(np.asarray(truth_image.dataobj))) <= {0, 1, 2, 3}
        for channel in range(4):
            image = nibabel.load(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
            assert image.shape == truth_image.shape
            np.testing.assert_allclose(image.affine, truth_image.affine, atol=1e-3)
    assert len(list((folder / "imagesTr").iterdir())) == 8


def test_bids_keeps_every_image_as_it_is(labels: CaseLabels, heads: dict, tmp_path: Path) -> None:
    folder = tmp_path / "bids"
    report = export(cases(labels), "bids", folder)
    assert not report.resampled
    grids = read_back(folder, heads)
    assert not grids["A_1"]["t2f"].same_as(label_grid(heads["A_1"]))
    copied = {path.name: path for path in folder.rglob("*.nii.gz")}
    assert (
        copied["sub-A1n1_ce-gadolinium_T1w.nii.gz"].read_bytes()
        == (tmp_path / "studies/A-1/A-1-t1c.nii.gz").read_bytes()
    )
    assert re.fullmatch(
        r"sub-A1n2/anat/sub-A1n2_FLAIR.nii.gz", str(copied["sub-A1n2_FLAIR.nii.gz"].relative_to(folder))
    )
    derived = folder / "derivatives/slem"
    sidecar = json.loads((derived / "sub-A1n1/anat/sub-A1n1_ce-gadolinium_space-orig_dseg.json").read_text())
    assert (sidecar["Reader"], sidecar["Case"], sidecar["Manual"]) == ("eva", "A-1", True)
    assert (folder / sidecar["Sources"][0].removeprefix("bids:raw:")).is_file()
    assert json.loads((folder / "dataset_description.json").read_text())["DatasetType"] == "raw"
    assert (
        json.loads((derived / "dataset_description.json").read_text())["GeneratedBy"][0]["Name"]
        == "SLeM Label"
    )
    assert (derived / "dseg.tsv").read_text().splitlines()[4] == "3\tenhancing tumor"
    assert (folder / "participants.tsv").read_text().splitlines() == [
        "participant_id\tcase",
        "sub-A1n1\tA-1",
        "sub-A1n2\tA_1",
    ]


def test_a_case_that_cannot_be_exported_is_left_out_whole_with_its_reason(
    labels: CaseLabels, heads: dict, tmp_path: Path
) -> None:
    (tmp_path / "studies/A-1/A-1-t2f.nii.gz").unlink()
    report = export(cases(labels), "brats", tmp_path / "out")
    assert (report.written, dict(report.skipped)) == (
        ("A_1",),
        {"A-1": "A-1: the layout requires t2f, which this case does not have"},
    )
    assert not list((tmp_path / "out").glob("A-1/*"))
    report = export(cases(labels), "nnunet", tmp_path / "Dataset001_X")  # three channels are there in both
    assert report.written == ("A-1", "A_1")
    assert len(json.loads((tmp_path / "Dataset001_X/dataset.json").read_text())["channel_names"]) == 3
    submit(labels, "A-1", np.zeros((5, 5, 5), np.uint8), Grid((5, 5, 5), np.eye(4)))
    report = export(cases(labels), "bids", tmp_path / "bids")
    assert "its label lies on 5x5x5" in report.skipped["A-1"]


def test_the_label_that_counts_is_exported(labels: CaseLabels, heads: dict, tmp_path: Path) -> None:
    submit(labels, "A-1", 0 * map_of(heads["A-1"]), label_grid(heads["A-1"]), reader="tom")
    export(cases(labels), "brats", tmp_path / "newest")
    assert not np.asarray(nibabel.load(tmp_path / "newest/A-1/A-1-seg.nii.gz").dataobj).any()
    labels.experts = ("eva",)
    export(cases(labels), "brats", tmp_path / "expert")
    assert np.asarray(nibabel.load(tmp_path / "expert/A-1/A-1-seg.nii.gz").dataobj).any()


def test_what_cannot_be_exported_at_all_is_refused_before_anything_is_written(
    labels: CaseLabels, heads: dict, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/note").touch()
    for layout, folder, coding, error, text in (
        ("brats", tmp_path / "full", "", BadSetting, "is not empty"),
        ("msd", tmp_path / "out", "", BadSetting, "unknown layout 'msd'"),
        ("nnunet", tmp_path / "out", "", BadSetting, "name like Dataset042_Glioma, got 'out'"),
        ("brats", tmp_path / "out", "msd", BadSetting, "'msd' is not one of BraTS"),
    ):
        with pytest.raises(error, match=text):
            export(cases(labels), layout, folder, coding)
    with pytest.raises(BadStudy, match="no final label to export"):
        export([], "brats", tmp_path / "out")
    one = BRAIN_LABELS.labels[0]
    liver = LabelSet((type(one)("liver", 1, one.type),), (Region("liver", ("liver",)),))
    other = CaseLabels(str(tmp_path / "studies"), tmp_path / "other")
    submit(other, "A-1", (map_of(heads["A-1"]) > 0).astype(np.uint8), label_grid(heads["A-1"]), liver)
    with pytest.raises(BadLabel, match="BraTS knows no label liver"):
        export(cases(other), "brats", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["brats", "nnunet"])
def test_a_sequence_that_was_moved_for_the_model_is_moved_in_the_export(tmp_path: Path, layout: str) -> None:
    head = phantom.make(seed=3, shape=(40, 48, 36), spacing=(4.0, 4.0, 4.0))
    phantom.write_nifti(head, tmp_path / "studies", "A-1", labels=False)
    path = tmp_path / "studies/A-1/A-1-t2f.nii.gz"
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += [9, -7, 8]  # the same grid else: only the record tells that it lies elsewhere
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), path)
    store = CaseLabels(str(tmp_path / "studies"), tmp_path / "labels")
    meta = {"sequence": "t1c", "label_names": {n: v for v, n in enumerate(BRAIN_LABELS.names, 1)}}
    done = {"moved_mm": {"t2f": 13.9}, "onto": "t1c", "left_out": {}, "brain_mask": None}
    record = LabelRecord(1000.0, "eva@here", "3D Slicer", "slem_brain", "2", preparation=done)
    store.store.save(
        "A-1",
        "final",
        lambda file: write_nifti(map_of(head), label_grid(head), BRAIN_LABELS, file),
        {**meta, **record.to_meta()},
    )
    folder = tmp_path / "Dataset001_X"
    report = export(cases(store), layout, folder)
    assert report.resampled == {"A-1": ("t2f",)}
    written = folder / ("A-1/A-1-t2f.nii.gz" if layout == "brats" else "imagesTr/A-1_0003.nii.gz")
    there, own = np.asarray(nibabel.load(written).dataobj), head.images["t2f"]
    inside = (own > 0) & (there > 0)
    assert np.count_nonzero(inside) > 0.9 * np.count_nonzero(own)
    assert np.corrcoef(there[inside], own[inside])[0, 1] > 0.9
