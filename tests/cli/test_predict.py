"""`slem predict`: from a case folder to a file and a report."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread

from slem_app import phantom
from slem_app.cli import main
from slem_app.formats.seg_reader import read_seg, referenced_series
from slem_app.network import build
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS, Confidence, save_model
from tests.untrained import SMALL, small_card

CASE = phantom.make(seed=4, shape=(40, 48, 36), spacing=(3.0, 3.0, 3.0), own_grids=True)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    phantom.write_nifti(CASE, tmp_path / "studies", "case-1")
    phantom.write_nifti(CASE, tmp_path / "studies", "case-2")
    (tmp_path / "studies" / "case-2" / "case-2-t1n.nii.gz").unlink()
    return tmp_path / "studies"


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    torch.manual_seed(0)
    card = small_card(3.0, network=replace(SMALL, prior=0.5))
    save_model(tmp_path / "models" / "small", card, build(card.network))
    monkeypatch.setenv("SLEM_MODELS", str(tmp_path / "models"))
    return "small"


def test_writes_the_label_map_and_tells_volumes_sequences_and_times(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(studies / "case-1"), "-o", str(tmp_path / "out"), "--model", "small"]) == 0
    image = nib.load(tmp_path / "out" / "case-1.nii.gz")
    assert image.shape == CASE.grids["t1c"].shape
    np.testing.assert_allclose(image.affine, CASE.grids["t1c"].affine, atol=1e-4)
    array = np.asarray(image.dataobj)
    assert set(np.unique(array)) <= {0, 1, 2, 3}
    assert array.any()
    out = capsys.readouterr().out
    assert "case-1: " in out
    assert "sequences  t1n t1c t2w t2f\n" in out
    for label in BRAIN_LABELS.labels:
        line = next(line for line in out.splitlines() if line.strip().startswith(label.name))
        assert float(line.split()[-2]) == pytest.approx(
            (array == label.value).sum() * CASE.grids["t1c"].voxel_volume / 1000, abs=0.006
        )
        assert line.endswith(" ml")
    for step in ("read", "prepare", "network", "restore", "write"):
        assert f"{step} " in out


def test_one_file_another_reference_and_a_missing_sequence(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "result.nii"
    assert (
        main(
            [
                "predict",
                str(studies),
                "case-2",
                "-o",
                str(target),
                "--model",
                str(tmp_path / "models" / "small"),
                "--reference",
                "t2f",
            ]
        )
        == 0
    )
    assert nib.load(target).shape == CASE.grids["t2f"].shape
    assert "sequences  t1c t2w t2f; missing: t1n" in capsys.readouterr().out


def test_all_cases_of_a_folder(studies: Path, tmp_path: Path) -> None:
    assert main(["predict", str(studies), "all", "-o", str(tmp_path), "--model", "small"]) == 0
    assert {path.name for path in tmp_path.glob("*.nii.gz")} == {"case-1.nii.gz", "case-2.nii.gz"}


def test_a_result_of_another_case_of_that_name_is_kept(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / "case-1"
    shutil.copytree(studies / "case-2", other)
    for path in other.iterdir():
        path.rename(other / path.name.replace("case-2", "case-1"))
    out = tmp_path / "out"
    assert main(["predict", str(studies / "case-1"), "-o", str(out), "--model", "small"]) == 0
    first = (out / "case-1.nii.gz").read_bytes()
    assert main(["predict", str(studies / "case-1"), "-o", str(out), "--model", "small"]) == 0
    assert [path.name for path in out.iterdir()] == ["case-1.nii.gz"], "the same again is no other result"
    capsys.readouterr()
    assert main(["predict", str(other), "-o", str(out), "--model", "small"]) == 0
    assert (out / "case-1.before1.nii.gz").read_bytes() == first != (out / "case-1.nii.gz").read_bytes()
    assert "is now case-1.before1.nii.gz" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["nifti", "seg"])
def test_a_map_of_where_the_result_is_likely_wrong_lies_beside_the_file(tmp_path: Path, kind: str) -> None:
    card = small_card(3.0, network=replace(SMALL, prior=0.5), confidence=Confidence(places=True))
    save_model(tmp_path / "models" / "telling", card, build(card.network))
    one = replace(CASE, images={"t1c": CASE.images["t1c"]})
    write = phantom.write_nifti if kind == "nifti" else phantom.write_dicom
    write(one, tmp_path / "studies", "case-1")
    out = tmp_path / "out"
    asked = [str(tmp_path / "studies" / "case-1"), "-o", str(out), "--model", "telling", "--format", kind]
    assert main(["predict", *asked, "--check-here"]) == 0
    if kind == "nifti":
        values = np.asarray(nib.load(out / "case-1.check_here.nii.gz").dataobj)
        assert values.shape == CASE.grids["t1c"].shape
    else:
        seg = dcmread(next(out.glob("*.check_here.dcm")))
        assert (seg.SegmentationType, seg.SegmentSequence[0].SegmentLabel) == ("FRACTIONAL", "check here")
        values = seg.pixel_array / seg.MaximumFractionalValue
    assert 0 <= values.min() < values.max() <= 1


def test_the_readers_own_choice_of_series_counts(studies: Path, tmp_path: Path) -> None:
    first = ["predict", str(studies / "case-1"), "--model", "small", "-o"]
    assert main([*first, str(tmp_path / "a.nii")]) == 0
    assert main([*first, str(tmp_path / "b.nii"), "--series", "t1c", "t2f"]) == 0
    assert nib.load(tmp_path / "b.nii").shape == CASE.grids["t2f"].shape


def test_dicom_results_refer_to_the_series_of_the_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = phantom.make(seed=4, shape=(20, 24, 18), spacing=(6.0, 6.0, 6.0), own_grids=True)
    phantom.write_dicom(small, tmp_path / "dicom", "case-1")
    case = ["predict", str(tmp_path / "dicom"), "case-1", "--model", "small", "--reference", "t2f"]
    assert main([*case, "-o", str(tmp_path / "a.nii")]) == 0
    assert main([*case, "-o", str(tmp_path / "a.dcm")]) == 0
    assert main([*case, "-o", str(tmp_path), "--format", "rtstruct"]) == 0
    assert f"case-1: {tmp_path / 'case-1.rtstruct.dcm'}" in capsys.readouterr().out
    series = next(
        one for one in open_source(tmp_path / "dicom").study("case-1").series if "FLAIR" in one.name
    )
    image = nib.load(tmp_path / "a.nii")
    assert referenced_series(tmp_path / "a.dcm") == (series.id,)
    np.testing.assert_array_equal(
        read_seg(tmp_path / "a.dcm", Grid(image.shape, image.affine), BRAIN_LABELS), np.asarray(image.dataobj)
    )
    seg = dcmread(tmp_path / "a.dcm")
    assert seg.SeriesDescription == "small 1 automatic"
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert [
        item.ROIName for item in dcmread(tmp_path / "case-1.rtstruct.dcm").StructureSetROISequence
    ] == list(BRAIN_LABELS.names)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["{studies}/case-1", "-o", "{studies}/a.dcm"],
            "case-1: t1c is a nifti file, to which no DICOM SEG can refer: use --format nifti",
        ),
        (
            ["{studies}/case-1", "-o", "{studies}/a.nii", "--format", "seg"],
            "a.nii does not end like a file of --format seg",
        ),
        (["{studies}"], "holds 2 cases (case-1, case-2): name the cases that you want, or `all`"),
        (["{studies}", "case-3"], "case-3"),
        (["{studies}", "../case-1"], "../case-1"),
        (
            ["{studies}", "all", "-o", "{studies}/a.nii"],
            "is one file but 2 cases are to be segmented: give a folder",
        ),
        (["{studies}/case-1", "--model", "large"], "no model 'large'; known: "),
        (["{studies}/case-1", "--reference", "swi"], "swi"),
        (["{studies}/case-1", "--precision", "int4"], "unknown precision 'int4'"),
        (["{studies}/case-1", "--device", "abacus"], "abacus"),
        (["{studies}/nowhere/at/all"], "nowhere"),
        (["{studies}/case-1", "-o", "{studies}/case-1/case-1-t1c.nii.gz/out"], "cannot make the folder"),
    ],
)
def test_a_mistake_is_one_clear_line(
    studies: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    given = [part.format(studies=studies) for part in arguments]
    if "--model" not in given:
        given += ["--model", "small"]
    assert main(["predict", *given]) == 2
    out, err = capsys.readouterr()
    assert text in err
    assert err.startswith("slem predict: ")
    assert err.count("\n") == 1
    assert out == ""


def test_a_sequence_that_moved_is_registered_and_told(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slem_app.volumes.coarse.FINE", 4.0)  # mm; an eighth of the work
    path = studies / "case-1" / "case-1-t2f.nii.gz"
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += (8, -6, 5)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)
    asked = ["predict", str(studies), "case-1", "-o", str(tmp_path), "--model", "small"]
    assert main([*asked, "--register"]) == 0
    assert "t2f was moved by" in capsys.readouterr().out
    assert main([*asked, "--as-is"]) == 0
    assert "was moved by" not in capsys.readouterr().out


def test_a_picture_of_every_sequence_lies_beside_the_file_and_json_tells_all(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = [str(studies), "case-1", "case-2", "-o", str(out), "--model", "small", "--preview", "--json"]
    assert main(["predict", *given]) == 0
    one, two = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (one["case"], two["case"]) == ("case-1", "case-2")
    assert (two["used"], two["missing"]) == (["t1c", "t2w", "t2f"], ["t1n"])
    array = np.asarray(nib.load(one["file"]).dataobj)
    volume = (array == 2).sum() * CASE.grids["t1c"].voxel_volume / 1000
    assert one["volumes_ml"]["edema"] == pytest.approx(volume, abs=0.001)
    assert one["kept"] is None
    assert one["seconds"]["network"] > 0
    for told, count in ((one, 4), (two, 3)):
        picture = np.asarray(Image.open(told["preview"])).astype(int)
        assert Path(told["preview"]) == out / f"{told['case']}.png"
        assert picture.shape == (338, 320 * count, 3)
        coloured = np.ptp(picture, axis=2) > 40  # images are grey, outlines have the card's colours
        assert all(part.any() for part in np.split(coloured, count, axis=1))
