"""Models side by side: the sets of sequences that a case has, each once, and what is read off them."""

from pathlib import Path
from types import ModuleType

import pytest

from slem_app.phantom import make, write_nifti
from slem_app.weights import save_model
from tests.untrained import noisy, small_card

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    import compare_models

    monkeypatch.setattr(compare_models, "RESULTS", tmp_path)
    return compare_models


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str]:
    for seed in (0, 1):
        save_model(tmp_path / f"model{seed}", small_card(), noisy(seed=seed))
    return f"one={tmp_path / 'model0'}", f"two={tmp_path / 'model1'}"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    write_nifti(make(seed=1, shape=(40, 48, 36), spacing=(4.0, 4.0, 4.0)), tmp_path / "studies", "whole")
    two = write_nifti(make(seed=2, shape=(40, 48, 36), spacing=(4.0, 4.0, 4.0)), tmp_path / "studies", "two")
    for path in Path(two).rglob("*.nii.gz"):
        if "t1n" in path.name or "t2w" in path.name:
            path.unlink()
    return tmp_path / "studies"


def test_each_set_of_what_a_case_has_is_scored_once(
    bench: ModuleType, models: tuple[str, str], studies: Path, tmp_path: Path
) -> None:
    bench.Comparison(studies, models, name="page").run()
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.count("\n| whole |") == 2  # a row a model
    assert "| one | 2 |" in page
    assert page.count("\n| two | 2 |") == 2  # all sequences, and the mean of all sets
    sets = [line for line in page.splitlines() if line.startswith(("| all sequences", "| t1", "| t2"))]
    assert len(sets) == 15


def test_a_case_with_two_sequences_has_three_sets(
    bench: ModuleType, models: tuple[str, str], studies: Path, tmp_path: Path
) -> None:
    bench.Comparison(studies, models[:1], cases=("two",), name="page").run()
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    sets = [
        line.split(" |")[0]
        for line in page.splitlines()
        if line.startswith(("| all sequences", "| t1", "| t2"))
    ]
    assert sets == ["| all sequences", "| t1c", "| t2f"]
