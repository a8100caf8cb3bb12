"""Folders of cases: what is written where, what a bad case does, and how a killed run goes on."""

import csv
import io
import json
import os
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from PIL import Image

from slem_app.cli import main
from slem_app.errors import BadSetting
from slem_app.files import take_lock
from slem_app.grouping import group
from slem_app.preprocess import folder as folder_module
from slem_app.preprocess import preprocess_all
from slem_app.studies import open_source


def run(studies, out, wanted):
    source = open_source(studies)
    return preprocess_all(source, source.ids(), out, wanted)


def spoil(studies):
    """One sequence of a third case is empty."""
    bad = studies / "case-<3>"
    bad.mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)), bad / "case-<3>-t1c.nii.gz")


def test_brats_folders_are_read_as_brats(stripped, tmp_path, wanted):
    outcome = run(stripped, tmp_path / "out", wanted(spacing=3.0))
    source = open_source(tmp_path / "out/brats")
    assert list(outcome.records) == list(source.ids()) == ["case-1", "case-2"]
    study = source.study("case-1")
    assert study.label is None
    assert sorted(group(study).sequences) == ["t1c", "t1n", "t2f", "t2w"]
    mask = nibabel.load(tmp_path / "out/masks/case-1.nii.gz")
    image = nibabel.load(tmp_path / "out/brats/case-1/case-1-t2f.nii.gz")
    np.testing.assert_allclose(mask.affine, image.affine)
    picture = Image.open(io.BytesIO((tmp_path / "out/pictures/case-1.png").read_bytes()))
    assert picture.size[1] > picture.size[0] / 2
    red, _, blue = np.moveaxis(np.asarray(picture, int), -1, 0)
    assert (red > blue + 100).any(), "the mask is outlined"


def test_a_corrected_mask_is_cut_to_in_place_of_the_networks(stripped, tmp_path, wanted):
    run(stripped, tmp_path / "out", wanted())
    mask = nibabel.load(tmp_path / "out/masks/case-1.nii.gz")
    corrected = np.asarray(mask.dataobj).copy()
    corrected[: corrected.shape[0] // 2] = 0
    (tmp_path / "own").mkdir()
    nibabel.save(nibabel.Nifti1Image(corrected, mask.affine), tmp_path / "own/case-1.nii.gz")
    outcome = run(stripped, tmp_path / "again", replace(wanted(), brains=tmp_path / "own"))
    assert outcome.records["case-1"]["preparation"]["brain_mask"]["method"] == "the reader's own mask"
    assert outcome.records["case-2"]["preparation"]["brain_mask"] is None
    image = np.asarray(nibabel.load(tmp_path / "again/brats/case-1/case-1-t2f.nii.gz").dataobj)
    assert not image[: image.shape[0] // 2].any()
    assert image.any()


def test_nnunet_demands_all_sequences(stripped, tmp_path, wanted):
    (stripped / "case-2/case-2-t2w.nii.gz").unlink()
    outcome = run(stripped, tmp_path / "out", wanted("nnunet"))
    assert dict(outcome.failed) == {
        "case-2": "case-2: the layout requires t2w, which this case does not have"
    }
    folder = tmp_path / "out/Dataset001_Prepared"
    assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == [
        f"case-1_000{n}.nii.gz" for n in range(4)
    ]
    content = json.loads((folder / "dataset.json").read_text())
    assert (content["numTraining"], content["channel_names"]["1"]) == (1, "t1c")


def test_bids_derivatives_have_a_sidecar_an_image(stripped, tmp_path, wanted):
    run(stripped, tmp_path / "out", wanted("bids"))
    anat = tmp_path / "out/bids/sub-case1/anat"
    images = sorted(path.name for path in anat.glob("*.nii.gz"))
    assert images == [
        "sub-case1_ce-gadolinium_space-individual_desc-preproc_T1w.nii.gz",
        "sub-case1_space-individual_desc-brain_mask.nii.gz",
        "sub-case1_space-individual_desc-preproc_FLAIR.nii.gz",
        "sub-case1_space-individual_desc-preproc_T1w.nii.gz",
        "sub-case1_space-individual_desc-preproc_T2w.nii.gz",
    ]
    for name in images:
        sidecar = json.loads((anat / name.replace(".nii.gz", ".json")).read_text())
        assert sidecar["SpatialReference"].startswith("the world of the header of t1c")
        assert name.endswith("mask.nii.gz") or sidecar["SkullStripped"] is True
    described = json.loads((tmp_path / "out/bids/dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"


def test_a_bad_case_is_named_and_the_others_go_on(stripped, tmp_path, wanted):
    spoil(stripped)
    outcome = run(stripped, tmp_path / "out", wanted())
    assert list(outcome.records) == ["case-1", "case-2"]
    assert "image is empty" in outcome.failed["case-<3>"]
    rows = {
        row["case"]: row for row in csv.DictReader((tmp_path / "out/report.csv").read_text().splitlines())
    }
    assert [rows[id]["state"] for id in ("case-1", "case-2", "case-<3>")] == ["done", "done", "left out"]
    assert "empty" in rows["case-<3>"]["reason"]
    page = (tmp_path / "out/report.html").read_text()
    assert "2 cases prepared, 1 left out" in page
    assert "case-&lt;3&gt;" in page
    assert 'src="pictures/case-1.png"' in page


def test_a_killed_run_goes_on_where_it_was(stripped, tmp_path, wanted, monkeypatch):
    write = folder_module.write_values

    def killed(array, grid, path):
        if "case-2" in path.name:
            raise KeyboardInterrupt
        return write(array, grid, path)

    monkeypatch.setattr(folder_module, "write_values", killed)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(stripped, out, wanted())
    first = out / "brats/case-1/case-1-t1c.nii.gz"
    made, part = first.stat().st_mtime_ns, out / "brats/case-2/.case-2-t1n.nii.gz.00000000-1-00.part"
    part.write_bytes(b"half")
    monkeypatch.undo()
    outcome = run(stripped, out, wanted())
    assert (outcome.before, sorted(outcome.records)) == (("case-1",), ["case-1", "case-2"])
    assert first.stat().st_mtime_ns == made
    (out / "masks/case-1.nii.gz").unlink()
    assert run(stripped, out, wanted()).before == ("case-2",), "a case whose file is gone is made again"


def test_a_folder_of_other_settings_or_in_use_is_refused(stripped, tmp_path, wanted):
    run(stripped, tmp_path / "out", wanted())
    with pytest.raises(BadSetting, match=r"was made with spacing 0.0: give the same options"):
        run(stripped, tmp_path / "out", wanted(spacing=2.0))
    with pytest.raises(BadSetting, match="is not empty"):
        run(stripped, stripped, wanted())
    handle = take_lock(tmp_path / "out/.lock")
    assert handle is not None
    try:
        with pytest.raises(BadSetting, match="another `slem prepare` writes to"):
            run(stripped, tmp_path / "out", wanted())
    finally:
        os.close(handle)


def test_the_command_says_what_became_of_each_case(stripped, tmp_path, capsys):
    spoil(stripped)
    assert main(["prepare", str(stripped), "--all", "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "case-1: done" in said
    assert "case-<3>: left out: " in said
    assert "2 prepared (0 of them before), 1 left out: " in said
    assert main(["prepare", str(stripped), "case-1", "-o", str(tmp_path / "one"), "--sequences", "t9"]) == 2
