"""The script that makes the abdomen's demonstration weights, on a few coarse phantoms and steps."""

import sys
from pathlib import Path

import pytest

from slem_app.weights import load_model

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import demo_abdomen


def test_it_makes_a_model_that_says_in_its_first_line_what_it_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "--runs",
        "runs",
        "--steps",
        "2",
        "--clicks",
        "1",
        "--cases",
        "1",
        "--test",
        "1",
        "--coarse",
        "4",
        "--patch",
        "32",
        "32",
        "32",
        "--out",
        "model",
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["demo_abdomen.py", *words])
    demo_abdomen.main()
    card = load_model(tmp_path / "model").card
    assert card.description.startswith(demo_abdomen.FIRST_LINE)
    assert (card.name, card.version, card.network.prompts) == ("slem_abdomen", "2", 10)
    # one patient, whose two breath-holds have a truth each
    assert card.figures["phantoms not trained on"] == 2
    assert (tmp_path / "model" / card.file).stat().st_size <= 6 * 2**20
