"""`slem adapt` on a folder of phantoms: what is prepared, trained, measured and said."""

from pathlib import Path

import pytest
import torch

from slem_app import phantom
from slem_app.cli import main
from slem_app.network import build
from slem_app.regions import PostProcess
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Card, load_model, save_model
from tests.finetune.conftest import COARSE, TINY


@pytest.fixture
def served(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    card = Card(
        name="slem_brain",
        version="1",
        description="untrained",
        sequences=BRAIN_SEQUENCES,
        reference_order=BRAIN_SEQUENCES,
        network=TINY,
        preparation=COARSE,
        labels=BRAIN_LABELS,
        postprocess=PostProcess(),
    )
    save_model(tmp_path / "served", card, build(TINY))
    return tmp_path / "served"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    for seed in range(2):
        head = phantom.make(seed=seed, shape=(36, 40, 36), spacing=(4.0, 4.0, 4.0))
        phantom.write_nifti(head, tmp_path / "studies", f"case{seed}", labels=seed == 0)
    return tmp_path / "studies"


def adapted(studies: Path, served: Path, *more: str) -> int:
    run = str(studies.parent / "run")
    return main(["adapt", str(studies), "-o", run, "--model", str(served), "--steps", "1", *more])


def test_says_what_it_learnt_from_and_whether_it_became_better(
    studies: Path, served: Path, capsys: pytest.CaptureFixture
) -> None:
    assert adapted(studies, served) == 0
    printed = capsys.readouterr().out
    assert "slem_brain: adapted to 2 studies" in printed
    assert "1 labelled studies, whose labels were not used for training" in printed
    assert "Dice before: WT " in printed
    assert "Dice after: WT " in printed
    model = load_model(studies.parent / "run" / "model")
    assert model.card.parent == "slem_brain 1"


def test_an_archive_without_a_usable_study_is_said(
    tmp_path: Path, served: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "studies" / "empty").mkdir(parents=True)
    assert adapted(tmp_path / "studies", served) == 2
    assert "studies" in capsys.readouterr().err
