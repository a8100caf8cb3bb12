"""`slem labels`: what is printed, what is written."""

import csv
from pathlib import Path

import numpy as np
import pytest

from slem_app import phantom
from slem_app.cli import main
from slem_app.formats import read_label_file, write_nifti
from slem_app.store.labels import LabelStore
from slem_app.store.record import LabelRecord
from slem_app.weights import BRAIN_LABELS

HEAD = phantom.make(seed=1, shape=(24, 30, 26), spacing=(6.0, 6.0, 6.0))


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Case A with a draft and labels of two readers, case B with a draft alone."""
    for case in ("A", "B"):
        phantom.write_nifti(HEAD, tmp_path / "studies", case)
    store = LabelStore(tmp_path / "studies/.slem")
    half = HEAD.labels.copy()
    half[: half.shape[0] // 2] = 0
    nothing = LabelRecord(1e9, "", "slem predict", "slem_brain", "2", automatic=True)
    for case, tag, array, record in (
        ("A", "original", 0 * HEAD.labels, nothing),
        (
            "A",
            "final",
            HEAD.labels,
            LabelRecord(1e9 + 60, "eva@x", "3D Slicer", "slem_brain", "2", seconds=312.4, clicks=5),
        ),
        ("A", "final", half, LabelRecord(1e9 + 120, "tom@x", "OHIF", "slem_brain", "2")),
        ("B", "original", 0 * HEAD.labels, nothing),
    ):
        meta = {
            "sequence": "t1c",
            "label_names": {name: value for value, name in enumerate(BRAIN_LABELS.names, 1)},
            **record.to_meta(),
        }
        store.save(
            case, tag, lambda path, array=array: write_nifti(array, HEAD.grid, BRAIN_LABELS, path), meta
        )
    return tmp_path / "studies"


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The lines, cut where there are two blanks."""
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in capsys.readouterr().out.splitlines()
    ]


def test_list_and_history(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["labels", "list", str(studies)]) == 0
    head, a, b, last = printed(capsys)
    assert head[:5] == ["CASE", "FINAL", "DRAFTS", "READERS", "COUNTS"]
    assert a[:6] == ["A", "2", "1", "eva, tom", "final 2", "tom"]
    assert b[:5] == ["B", "0", "1", "none", "slem_brain 2"]
    assert last == [f"2 cases with labels in {studies}/.slem, 1 with a final one"]
    assert main(["labels", "history", str(studies), "--case", "A", "--experts", "eva"]) == 0
    rows = printed(capsys)[1:]
    assert [row[1:4] for row in rows] == [
        ["original", "1", rows[0][3]],
        ["final", "1", "yes"],
        ["final", "2", rows[2][3]],
    ]
    assert rows[1][-4:] == ["3D Slicer", "slem_brain 2", "312", "5"]
    assert main(["labels", "history", str(studies), "--case", "C"]) == 2
    assert "case 'C' is neither in" in capsys.readouterr().err


def test_export(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "labels",
                "export",
                str(studies),
                "--layout",
                "nnunet",
                "-o",
                str(tmp_path / "Dataset007_Heads"),
                "--experts",
                "eva",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.splitlines() == [f"1 cases in {tmp_path}/Dataset007_Heads"]
    assert (tmp_path / "Dataset007_Heads/labelsTr/A.nii.gz").is_file()
    (studies / "A/A-t2w.nii.gz").unlink()
    assert main(["labels", "export", str(studies), "-o", str(tmp_path / "brats")]) == 1
    assert "left out A: A: the layout requires t2w" in capsys.readouterr().out


def test_agreement(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["labels", "agreement", str(studies), "--csv", str(tmp_path / "new/agreement.csv")]) == 0
    table = printed(capsys)
    assert [row[0] for row in table[1:-1]] == ["necrosis", "edema", "enhancing tumor", "WT", "TC"]
    rows = {
        row["part"]: row for row in csv.DictReader((tmp_path / "new/agreement.csv").read_text().splitlines())
    }
    whole = HEAD.labels > 0
    half = int(whole[whole.shape[0] // 2 :].sum())
    assert float(rows["WT"]["dice"]) == pytest.approx(2 * half / (int(whole.sum()) + half))
    assert float(rows["WT"]["one_ml"]) == pytest.approx(whole.sum() * 0.216)
    assert (rows["WT"]["one"], rows["WT"]["other"]) == ("eva", "tom")
    assert main(["labels", "agreement", str(studies), "--drafts"]) == 0
    assert sum(row[0] == "WT" for row in printed(capsys)) == 3  # with the draft: three pairs
    assert np.isfinite(float(rows["WT"]["hd95"]))


def test_import_takes_what_is_beside_the_images_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studies, store = tmp_path / "studies", LabelStore(tmp_path / "studies/.slem")
    phantom.write_nifti(HEAD, studies, "A")
    phantom.write_nifti(HEAD, studies, "B", labels=False)
    call = ["labels", "import", str(studies), "--reader", "eva"]
    assert main(call) == 0
    assert capsys.readouterr().out == "1 imported\n"
    version = store.counting("A")
    assert (version.record.who, version.record.client, version.meta["sequence"]) == (
        "eva",
        "slem labels import",
        "t1c",
    )
    np.testing.assert_array_equal(read_label_file(version.label)[0], HEAD.labels)
    assert main(call) == 0
    assert capsys.readouterr().out == "1 were there already\n"
    assert len(store.history("A")) == 1
    elsewhere = phantom.make(seed=2, shape=(20, 20, 20), spacing=(8.0, 8.0, 8.0))
    phantom.write_nifti(elsewhere, tmp_path / "others", "B")
    phantom.write_nifti(HEAD, tmp_path / "others", "C")
    assert main([*call, "--source", str(tmp_path / "others")]) == 1
    out = capsys.readouterr().out
    assert "left out B: B: its segmentation lies on 20x20x20" in out
    assert "left out C: case 'C' is neither in" in out
    assert store.tags("B") == ()


def test_nothing_to_show_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phantom.write_nifti(HEAD, tmp_path / "studies", "A")
    assert main(["labels", "list", str(tmp_path / "studies")]) == 1
    assert main(["labels", "agreement", str(tmp_path / "studies")]) == 1
    assert "no case in" in capsys.readouterr().out
    assert main(["labels", "export", str(tmp_path / "studies")]) == 2
    assert "there is no final label to export" in capsys.readouterr().err
