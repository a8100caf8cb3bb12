"""`slem inspect`: a table that a person can act on."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app.cli import main
from slem_app.cli.inspect import Inspect
from slem_app.errors import BadSetting
from slem_app.phantom import make, write_dicom, write_nifti


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    phantom = make(seed=1, shape=(12, 14, 10), spacing=(12.0, 12.0, 14.0))
    write_nifti(phantom, folder, "BraTS-GLI-00001-000")
    write_nifti(phantom, folder, "BraTS-GLI-00002-000", labels=False)
    (folder / "unknown").mkdir()
    nibabel.save(
        nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), folder / "unknown" / "scan7.nii.gz"
    )
    return folder


def table(capsys: pytest.CaptureFixture[str], folder: Path, **options: object) -> tuple[int, list[str]]:
    code = Inspect(folder, **options).run()
    return code, capsys.readouterr().out.splitlines()


def test_shows_every_case_with_sequences_grids_and_reasons(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = table(capsys, studies)
    assert code == 0
    assert lines[0] == f"{studies.resolve()}: 3 cases, layout brats2023, label coding not declared"
    assert lines[1].split() == ["CASE", "SEQUENCE", "SERIES", "GRID", "WHY"]
    first = [line.split() for line in lines[2:7]]
    assert first[0][:5] == ["BraTS-GLI-00001-000", "t1n", "t1n", "12x14x10", "@"]
    assert [row[0] for row in first[1:]] == ["t1c", "t2w", "t2f", "label"]
    assert lines[2].endswith("name 't1n' says 't1', 'n'")
    assert lines[6].endswith("layout brats2023, coding not declared")
    assert any("(unknown)" in line and "no rule knows 'scan7'" in line for line in lines)
    assert any("this case cannot be segmented" in line for line in lines)
    assert lines[-1] == "3 shown: 2 with t1n t1c t2w t2f, 1 with no known sequence; 1 with a label"


def test_limit_and_coding(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = table(capsys, studies, limit=1, coding="brats2024")
    assert lines[0].endswith("label coding brats2024")
    assert "coding brats2024" in lines[6]
    assert lines[-1].startswith("1 shown:")


def test_own_rules_name_what_was_unknown(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.yaml").write_text("base: default\nwords: {t1: scan7}\n")
    _, lines = table(capsys, studies / "unknown", rules=tmp_path / "rules.yaml")
    assert "name 'scan7' says 'scan7'" in lines[2]
    (tmp_path / "rules.yaml").write_text("base: default\nwrds: {}\n")
    with pytest.raises(BadSetting, match="unknown keys \\['wrds'\\]"):
        Inspect(studies, rules=tmp_path / "rules.yaml").run()


def test_a_folder_without_a_usable_case_ends_with_1(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = table(capsys, studies / "unknown")
    assert code == 1


def test_a_damaged_file_is_shown_and_the_table_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "T1.nii.gz").write_bytes(b"nonsense")
        nibabel.save(
            nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), tmp_path / name / "T2.nii.gz"
        )
    code, lines = table(capsys, tmp_path)
    assert code == 0
    assert "BAD: " in lines[2]
    assert "T1.nii.gz is not a readable NIfTI image" in lines[2]
    assert "3x3x3" in lines[3]
    assert lines[-1] == "2 shown: 2 with t1n t2w, 2 with a file that cannot be used; 0 with a label"


def test_dicom_series_show_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dicom(
        make(seed=1, shape=(12, 14, 10), spacing=(12.0, 12.0, 14.0)), tmp_path, "patient1", extras=True
    )
    _, lines = table(capsys, tmp_path)
    assert any("t1c" in line and "name 'AX T1 SE POST GAD' says 't1', 'post gad'" in line for line in lines)
    assert any(
        "(derived)" in line and "a localiser: ImageType is ORIGINAL\\PRIMARY\\LOCALIZER" in line
        for line in lines
    )


def test_is_a_command(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(studies), "--limit", "1"]) == 0
    assert "BraTS-GLI-00001-000" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path)]) == 2
    assert "no studies found in" in capsys.readouterr().err


def test_an_affine_that_no_image_can_have_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, affine in (
        ("T1", np.diag([1.0, 0.0, 1.0, 1.0])),
        ("T1_b", np.eye(4)),
        ("T2", np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
    ):
        image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), None)
        image.header.set_sform(affine, 2)
        (tmp_path / "a").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(image.dataobj, None, image.header), tmp_path / "a" / f"{name}.nii")
    _, lines = table(capsys, tmp_path)
    text = "\n".join(lines)
    assert "BAD: series T2: its axes are sheared" in text
    assert "would be t1n but cannot be used: its affine has a zero axis" in text


def test_json_has_one_line_a_case(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(studies), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "BraTS-GLI-00001-000" in [one["case"] for one in found]
    assert all(one["error"] is None for one in found if one["sequences"])
    first = found[0]["sequences"]
    assert {"series", "grid", "why"} == set(next(iter(first.values())))
