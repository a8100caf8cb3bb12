"""`slem models` and `slem publish`: what was published is listed and compared, served, taken back, and a
refused candidate chosen.
"""

import dataclasses
from pathlib import Path

import pytest
import torch

from slem_app.cli import main
from slem_app.network import build
from slem_app.weights import save_model
from slem_app.weights.published import Published
from tests.untrained import small_card

CARD = small_card()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Two versions of a model in the store of a studies folder, and a refused candidate."""
    torch.manual_seed(0)
    network = build(CARD.network)
    save_model(tmp_path / "shelf" / "small", CARD, network)
    monkeypatch.setenv("SLEM_MODELS", str(tmp_path / "shelf"))
    one = Published(tmp_path / "studies" / ".slem" / "models", "small", tmp_path / "shelf" / "small")
    for n, mean in enumerate((0.5, 0.75, 0.25)):
        labels = {f"case {k}": "final 1" for k in range(n + 3)}
        one.publish(
            CARD,
            network,
            {"mean": mean},
            {"mean": 0.4},
            labels=labels,
            held_out={"x": "final 2"},
            settings={"rate": 0.1 * (n + 1), "seed": 0},
            round=f"r{n}",
            trusted=n > 0,
        )
    return one


def test_lists_versions_and_refused_candidates(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["models", str(tmp_path / "studies")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"small in {published.path}"
    assert lines[2].split() == ["0", "bundled:", "small", "1"]
    first, second, refused = (line.split() for line in lines[3:6])
    assert (first[0], first[2:7], first[-5:]) == (
        "1",
        ["0", "3", "1", "0.5000", "0.4000"],
        ["0.4000", "(not", "trusted:", "few", "labels)"],
    )
    assert (second[:2], second[3:8]) == (["2", "yes"], ["1", "4", "1", "0.7500", "0.4000"])
    assert "refused: mean 0.2500" in lines[5]
    assert refused[0] == published.refused()[0].folder.name
    assert len(lines) == 6


def test_serves_takes_back_and_tells_what_there_is_not(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    store = str(tmp_path / "studies" / ".slem")
    assert main(["models", store, "--back"]) == 0
    assert published.served_number() == 1
    assert main(["models", store, "--serve", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "small: version 0 is served from now on"
    assert main(["models", store, "--serve", "7"]) == 2
    assert "small has no version 7; there are 0, 1, 2" in capsys.readouterr().err
    assert published.served_number() == 0


def test_compares_two_versions(published: Published, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["models", str(tmp_path / "studies"), "--compare", "1", "2"]) == 0
    rows = {line[:44].strip(): line[44:].split() for line in capsys.readouterr().out.splitlines()}
    assert rows["figure mean"] == ["0.5000", "0.7500"]
    assert rows["learnt case 3"] == ["final", "1"]
    assert rows["setting rate"] == ["0.1", "0.2"]
    assert rows["trusted"] == ["False", "True"]
    assert not {"setting seed", "learnt case 0"} & set(rows)  # the same in both
    assert main(["models", str(tmp_path / "studies"), "--compare", "1", "9"]) == 2


def test_a_damaged_version_is_told(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (weights,) = published.folder(1).glob("*.safetensors")
    weights.write_bytes(b"x")
    assert main(["models", str(tmp_path / "studies")]) == 0
    assert main(["models", str(tmp_path / "studies"), "--check"]) == 1
    assert "is damaged or of another model" in capsys.readouterr().out


def test_a_refused_candidate_can_be_chosen(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    candidate = published.refused()[0]
    published.serve(1)
    assert main(["publish", str(candidate.folder), "--store", str(tmp_path / "studies")]) == 0
    assert capsys.readouterr().out.splitlines() == ["small: version 3 is served from now on"]
    record = published.versions()[3].record
    assert (published.served_number(), record.parent, record.figures, record.labels) == (
        3,
        2,
        {"mean": 0.25},
        candidate.record.labels,
    )
    assert record.reason.startswith("chosen by a person: refused: mean 0.2500")


def test_a_model_of_ones_own_can_be_chosen_unless_clients_would_not_know_it(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save_model(tmp_path / "run", dataclasses.replace(CARD, training="at home"), build(CARD.network))
    assert main(["publish", str(tmp_path / "run"), "--store", str(tmp_path / "studies")]) == 0
    assert published.versions()[3].record.reason == "chosen by a person: at home"
    assert published.learnt(3) == {}
    other = dataclasses.replace(CARD, sequences=("a", "b", "c", "d"), reference_order=("a",))
    save_model(tmp_path / "other", other, build(CARD.network))
    assert main(["publish", str(tmp_path / "other"), "--store", str(tmp_path / "studies")]) == 2
    assert "cannot take the place of small 1: it differs in sequences" in capsys.readouterr().err


def test_says_where_nothing_was_published(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["models", str(tmp_path / "empty")]) == 2
    assert "no model was published in" in capsys.readouterr().err
    assert main(["models", str(tmp_path / "nowhere")]) == 2
    (published.path.parent / "second").mkdir()
    save_model(tmp_path / "shelf" / "second", dataclasses.replace(CARD, name="second"), build(CARD.network))
    assert main(["models", str(tmp_path / "studies"), "--back"]) == 2
    assert "choose one with --model: second, small" in capsys.readouterr().err
    assert main(["models", str(tmp_path / "studies"), "--model", "small", "--back"]) == 0
