"""`slem demo`: studies to try the commands on."""

from pathlib import Path

import numpy as np
import pytest

from slem_app.cli import main
from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.studies import open_source
from slem_app.volumes.read import read
from slem_app.weights import BRAIN_LABELS

SMALL = ["--shape", "40", "48", "36"]


def test_writes_labelled_studies_and_keeps_those_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["demo", str(tmp_path / "demo"), "--cases", "2", *SMALL]) == 0
    assert "2 studies with segmentations" in capsys.readouterr().out
    source = open_source(tmp_path / "demo")
    assert source.ids() == ("demo-1", "demo-2")
    labels, _ = truth(source.study("demo-1"), BRAIN_LABELS)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    kept = (tmp_path / "demo" / "demo-1" / "demo-1-t1c.nii.gz").stat().st_mtime_ns
    assert main(["demo", str(tmp_path / "demo"), "--cases", "3", *SMALL]) == 0
    assert len(open_source(tmp_path / "demo").ids()) == 3
    assert (tmp_path / "demo" / "demo-1" / "demo-1-t1c.nii.gz").stat().st_mtime_ns == kept


def test_an_interrupted_study_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "demo" / ".demo-1" / "demo-1").mkdir(parents=True)
    assert main(["demo", str(tmp_path / "demo"), "--cases", "1", *SMALL]) == 0
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["demo-1"]
    assert len(list((tmp_path / "demo" / "demo-1").iterdir())) == 5


def test_refuses_no_case_and_a_head_too_small(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["demo", str(tmp_path), "--cases", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert main(["demo", str(tmp_path), "--shape", "8", "40", "40"]) == 2


def test_heads_as_dicom_are_series_of_a_scanner_which_are_recognised_and_segmented(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["demo", str(tmp_path / "demo"), "--dicom", "--cases", "2", *SMALL]) == 0
    assert "2 studies in DICOM" in capsys.readouterr().out
    source = open_source(tmp_path / "demo")
    assert (source.layout, len(source.ids())) == ("dicom", 2)
    grouping = group(source.study(source.ids()[0]))
    assert set(grouping.sequences) == {"t1n", "t1c", "t2w", "t2f"}
    assert {one.series.header["Modality"] for one in grouping.choices} == {"MR"}
    assert len({one.series.grid.shape for one in grouping.choices}) > 1
    # enhancing tumour: the brightest voxels stand out more after contrast than before
    before, after = (read(grouping.sequences[name]).array for name in ("t1n", "t1c"))
    assert after.max() / np.median(after[after > 0]) > 1.1 * before.max() / np.median(before[before > 0])
    assert main(["demo", str(tmp_path / "p"), "--dicom", "--body", "prostate"]) == 2
    assert "--dicom works only for heads" in capsys.readouterr().err


def test_abdomens_lie_in_the_folders_of_chaos_and_prostates_as_nifti(tmp_path: Path) -> None:
    assert main(["demo", str(tmp_path / "a"), "--body", "abdomen", "--cases", "1", "--coarse", "8"]) == 0
    source = open_source(tmp_path / "a")
    assert (source.layout, source.ids(), len(source.study("1").parts)) == ("chaos", ("1",), 1)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["MR"]
    assert main(["demo", str(tmp_path / "p"), "--body", "prostate", "--cases", "1", "--coarse", "8"]) == 0
    assert sorted(path.name for path in (tmp_path / "p/demo-1").iterdir()) == [
        "adc.nii.gz",
        "dwi.nii.gz",
        "seg.nii.gz",
        "t2_spir.nii.gz",
    ]
