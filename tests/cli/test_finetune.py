"""`slem finetune` from the command line, on phantoms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from slem_app.cli import main
from slem_app.finetune.recipe import load_recipe
from slem_app.network import SegmenterConfig
from slem_app.phantom import make, make_abdomen, write_chaos, write_nifti
from slem_app.predict import Predictor
from slem_app.studies import open_source
from slem_app.volumes.prepare import Preparation
from slem_app.weights import load_model
from slem_app.weights.fields import to_table


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    for seed in (1, 2):
        write_nifti(make(seed, (44, 52, 38), (4.0, 4.0, 4.0)), folder, f"case{seed}", layout="brats2018")
    return folder


@pytest.fixture
def recipe(tmp_path) -> Path:
    network = SegmenterConfig(
        channels=(8, 16), stem_channels=8, blocks=(1, 1), context_levels=(1,), deep_supervision=0
    )
    card = replace(
        load_recipe("brain").card,
        name="tiny",
        network=network,
        preparation=Preparation(spacing=(4.0, 4.0, 4.0), multiple=8),
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(
        yaml.safe_dump(
            {"card": to_table(card), "settings": {"steps": 9, "batch": 1, "patch": [16, 16, 16], "seed": 5}}
        )
    )
    return path


def test_three_steps_give_a_model_that_segments(studies, recipe, tmp_path, capsys):
    from slem_app.grouping import group

    out = tmp_path / "run"
    assert (
        main(
            [
                "finetune",
                "--data",
                str(studies),
                "-o",
                str(out),
                "--recipe",
                str(recipe),
                "--steps",
                "3",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    assert f"tiny: 2 cases, 3 steps; model in {out / 'model'}" in capsys.readouterr().out
    model = load_model(out / "model")
    assert model.card.training.startswith("2 cases, 3 steps of 1 patches, seed 5")
    result = Predictor(model).predict_case(group(open_source(studies).study("case1")))
    assert result.array.shape == (44, 52, 38)
    assert set(np.unique(result.array)) <= {0, 1, 2, 3}
    assert (
        main(["finetune", "--data", str(studies), "-o", str(out), "--recipe", str(recipe), "--steps", "4"])
        == 2
    )
    assert "holds a run with other settings (there, here): {'steps': (3, 4)}" in capsys.readouterr().err


def test_seed_zero_can_be_chosen(studies, recipe, tmp_path):
    assert (
        main(
            [
                "finetune",
                "--data",
                str(studies),
                "-o",
                str(tmp_path / "run"),
                "--recipe",
                str(recipe),
                "--steps",
                "1",
                "--seed",
                "0",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    assert "seed 0" in load_model(tmp_path / "run" / "model").card.training


def test_what_is_left_out_is_told(studies, recipe, tmp_path, capsys):
    folder = tmp_path / "studies"
    write_nifti(make(1, (44, 52, 38), (4.0, 4.0, 4.0)), folder, "good", layout="brats2018")
    write_nifti(make(2, (44, 52, 38), (4.0, 4.0, 4.0)), folder, "bare", layout="brats2018", labels=False)
    assert (
        main(
            [
                "finetune",
                "--data",
                str(folder),
                "-o",
                str(tmp_path / "run"),
                "--recipe",
                str(recipe),
                "--steps",
                "1",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "left out bare: bare: there is no segmentation in this study" in printed
    assert "tiny: 1 cases" in printed


def test_nothing_to_train_on_is_an_error(recipe, tmp_path, capsys):
    write_nifti(
        make(2, (44, 52, 38), (4.0, 4.0, 4.0)), tmp_path / "studies", "bare", layout="brats2018", labels=False
    )
    assert (
        main(
            [
                "finetune",
                "--data",
                str(tmp_path / "studies"),
                "-o",
                str(tmp_path / "run"),
                "--recipe",
                str(recipe),
                "--device",
                "cpu",
            ]
        )
        == 2
    )
    assert "no usable labelled study in" in capsys.readouterr().err


def test_one_name_for_two_cases_is_an_error(studies, recipe, tmp_path, capsys):
    write_nifti(make(3, (44, 52, 38), (4.0, 4.0, 4.0)), tmp_path / "more", "case1", layout="brats2018")
    arguments = [
        "--data",
        str(studies),
        str(tmp_path / "more"),
        "-o",
        str(tmp_path / "run"),
        "--recipe",
        str(recipe),
        "--device",
        "cpu",
    ]
    assert main(["finetune", *arguments]) == 2
    error = capsys.readouterr().err
    assert "case 'case1' is in" in error
    assert "rename one of them" in error


def test_unknown_device_and_recipe_are_errors(studies, tmp_path, capsys):
    assert main(["finetune", "--data", str(studies), "-o", str(tmp_path / "run"), "--device", "abacus"]) == 2
    assert "unknown device 'abacus'" in capsys.readouterr().err
    assert (
        main(
            [
                "finetune",
                "--data",
                str(studies),
                "-o",
                str(tmp_path / "run"),
                "--recipe",
                "liver",
                "--device",
                "cpu",
            ]
        )
        == 2
    )
    assert "no recipe 'liver'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def chaos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chaos")
    for seed in (1, 2):
        write_chaos(make_abdomen(seed, (16.0, 16.0, 16.0)), folder, str(seed))
    return folder


def test_one_command_trains_on_a_chaos_set_and_evaluates_on_patients_kept_back(chaos, tmp_path, capsys):
    network = SegmenterConfig(
        sequences=3,
        regions=4,
        channels=(8, 16),
        stem_channels=8,
        blocks=(1, 1),
        context_levels=(1,),
        deep_supervision=0,
    )
    preparation = Preparation(spacing=(12.0, 12.0, 12.0), multiple=8, stripped=False)
    card = replace(load_recipe("chaos").card, name="tiny", network=network, preparation=preparation)
    path = tmp_path / "tiny.yaml"
    path.write_text(
        yaml.safe_dump({"card": to_table(card), "settings": {"steps": 2, "batch": 1, "patch": [16, 16, 16]}})
    )
    out = tmp_path / "run"
    assert (
        main(
            [
                "finetune",
                "--data",
                str(chaos),
                "-o",
                str(out),
                "--recipe",
                str(path),
                "--held-out",
                "0.5",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    told = capsys.readouterr().out
    assert "tiny: 2 cases, 2 steps" in told  # both truths of the one patient that is trained on
    assert "on 1 patients not trained on (2):" in told
    rows = (out / "held_out.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [
        [case, label] for case in ("2", "2_T2SPIR") for label in card.labels.names
    ]
    assert (
        main(
            [
                "evaluate",
                "--data",
                str(chaos),
                "--model",
                str(out / "model"),
                "--cases",
                "2",
                "-o",
                str(tmp_path / "again.csv"),
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    assert (tmp_path / "again.csv").read_text() == (out / "held_out.csv").read_text()
    assert "Dice    RAVD %   ASSD mm   MSSD mm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("share", "reason"), [("1", "is a share from 0 to below 1"), ("-0.1", "is a share from 0 to below 1")]
)
def test_a_share_that_leaves_nobody_to_train_on_is_refused(chaos, recipe, tmp_path, capsys, share, reason):
    assert (
        main(
            [
                "finetune",
                "--data",
                str(chaos),
                "-o",
                str(tmp_path / "run"),
                "--recipe",
                "chaos",
                "--held-out",
                share,
                "--device",
                "cpu",
            ]
        )
        == 2
    )
    assert reason in capsys.readouterr().err
