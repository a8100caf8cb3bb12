"""`slem pretrain` on a folder of phantoms: preview, training, what is printed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from slem_app import phantom
from slem_app.cli import main
from slem_app.cli.pretrain import split

RECIPE = """
base: slem
name: tiny
network: {channels: [8, 16], blocks: [1, 1], stem_channels: 8, context_levels: [1], deep_supervision: 0}
preparation: {spacing: [4.0, 4.0, 4.0], multiple: 8, margin: 0.0}
settings: {steps: 2, batch: 2, measured: 2, view: {shape: [32, 32, 32]}}
"""


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    for seed in range(2):
        phantom.write_nifti(
            phantom.make(seed=seed, shape=(36, 40, 36), spacing=(4.0, 4.0, 4.0)),
            tmp_path / "studies",
            f"case{seed}",
            labels=False,
        )
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path / "studies"


def test_trains_and_reports_throughput(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert (
        main(
            [
                "pretrain",
                "--data",
                str(studies),
                "-o",
                str(tmp_path / "run"),
                "--recipe",
                str(tmp_path / "tiny.yaml"),
                "--about",
                "data",
                "phantoms",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "tiny (slem): 2 cases, 2 steps" in printed
    assert "volumes/s" in printed
    assert "of the time waiting for data" in printed
    assert (tmp_path / "run" / "model" / "encoder.yaml").read_text().count("phantoms") == 1


def test_preview_writes_a_picture_and_stops(studies: Path, tmp_path: Path) -> None:
    assert (
        main(
            [
                "pretrain",
                "--data",
                str(studies),
                "-o",
                str(tmp_path / "run"),
                "--recipe",
                str(tmp_path / "tiny.yaml"),
                "--preview",
            ]
        )
        == 0
    )
    picture = np.asarray(Image.open(tmp_path / "run" / "preview.png"))
    assert picture.shape[0] >= 8 * 64
    assert picture.std() > 20
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_says_how_many_studies_were_left_out(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for sequence in ("t1n", "t1c", "t2w"):
        (studies / "case1" / f"case1-{sequence}.nii.gz").unlink()
    main(
        [
            "pretrain",
            "--data",
            str(studies),
            "-o",
            str(tmp_path / "run"),
            "--recipe",
            str(tmp_path / "tiny.yaml"),
            "--steps",
            "1",
        ]
    )
    assert "left out 1 of 2 studies" in capsys.readouterr().out


def test_bad_options_are_refused(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    start = ["pretrain", "--data", str(studies), "-o", str(tmp_path / "run")]
    assert main([*start, "--recipe", "none"]) == 2
    assert "no recipe 'none'" in capsys.readouterr().err
    assert main([*start, "--held-out", "1.5"]) == 2
    assert "--held-out is a share" in capsys.readouterr().err


def test_held_out_cases_are_spread_and_none_of_a_few() -> None:
    ids = tuple(f"c{n:02d}" for n in range(20))
    train, held_out = split(ids, 0.1)
    assert held_out == ("c05", "c15") or len(held_out) == 2
    assert set(train) | set(held_out) == set(ids)
    assert not set(train) & set(held_out)
    assert split(ids[:4], 0.1) == (ids[:4], ())
    assert len(split(ids[:5], 0.1)[1]) == 1
