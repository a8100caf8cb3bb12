"""The active-learning benchmark in its smallest setting, in pieces, on phantoms; its arithmetic on made-up
rows.
"""

import json
import sys
from pathlib import Path

import pytest

from slem_app import phantom

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def module():
    sys.path.insert(0, str(PROJECT / "benchmarks"))
    try:
        import active_learning

        yield active_learning
    finally:
        sys.path.remove(str(PROJECT / "benchmarks"))


@pytest.fixture(scope="module")
def arithmetic(module):
    import active_learning_table

    return active_learning_table


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    for number in range(6):
        phantom.write_nifti(
            phantom.make(seed=number, shape=(32, 40, 32), spacing=(5.0, 5.0, 5.0)), folder, f"case{number}"
        )
    return folder


def rows_of(module, areas: dict[str, list[float]]) -> list[dict[str, str]]:
    """Runs whose Dice never changes, so that their area is that Dice."""
    shared = {"setting": "smoke", "fold": "0", "case": "a", "train_s": "2", "measure_s": "1", "chosen": "b"}
    return [
        {
            **shared,
            "strategy": name,
            "seed": str(seed),
            "round": str(n),
            "labelled": str(n + 1),
            "wt": str(v),
            "tc": str(v),
            "et": str(v),
        }
        for name, values in areas.items()
        for seed, v in enumerate(values)
        for n in range(3)
    ]


def test_it_runs_in_pieces_and_repeats_nothing(
    module, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    call = [
        "--setting",
        "smoke",
        "--runs",
        str(tmp_path),
        "--strategies",
        "random",
        "balanced",
        "--folds",
        "0",
    ]
    module.main([*call, "--data", str(studies), "--minutes", "0"])
    assert "call again to continue" in capsys.readouterr().out
    module.main([*call, "--strategies", "random"])
    module.main(call)
    rows = module.read_rows(tmp_path / "smoke" / "active_learning.csv")
    assert len(rows) == 2 * 3 * 3  # strategies, rounds, test cases
    table = json.loads((tmp_path / "smoke/balanced-seed0-fold0/round2/balanced.json").read_text())
    assert len(set(table["labelled"])) == 3
    assert not set(table["labelled"]) & set(table["scores"])  # no test case is ever trained on
    measures = json.loads((tmp_path / "smoke/balanced-seed0-fold0/round1/measures.json").read_text())
    assert len(measures) == 3
    assert all(one["change"] is not None for one in measures.values())  # against the round before
    first = [
        json.loads((tmp_path / f"smoke/start-seed0-fold0/round0/{name}.json").read_text())
        for name in ("random", "balanced")
    ]
    assert first[0]["scores"] == first[1]["scores"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    module.main(call)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == before
    assert "Too few complete runs" in (tmp_path / "smoke" / "active_learning.md").read_text()
    assert "2 of 12 runs, INCOMPLETE" in (tmp_path / "smoke" / "active_learning.md").read_text()
    page = tmp_path / "smoke" / "active_learning.md"
    page.write_text(page.read_text() + "\n## To know\n\n- On a laptop.\n")
    module.main([*call, "--table"])
    assert page.read_text().endswith("\n## To know\n\n- On a laptop.\n")


def test_the_area_is_that_under_the_curve(module, arithmetic) -> None:
    rows = rows_of(module, {"random": [0.0]})
    for row, value in zip(rows, (0.2, 0.4, 0.8), strict=True):
        row.update(dict.fromkeys(("wt", "tc", "et"), str(value)))
    assert arithmetic.areas(rows, 3) == {"random": {("0", "0"): pytest.approx((0.3 + 0.6) / 2)}}
    assert arithmetic.areas(rows, 4) == {}  # an incomplete run does not count


def test_differences_are_paired_by_run_and_the_verdict_is_plain(module, arithmetic) -> None:
    base = [0.1, 0.5, 0.9, 0.3]
    rows = rows_of(
        module,
        {
            "foreground_random": base,
            "random": base,
            "balanced": [v + 0.05 for v in base],
            "diverse": [0.2, 0.4, 0.8, 0.4],
        },
    )
    found = arithmetic.areas(rows, 3)
    difference = arithmetic.against(found, "balanced", "foreground_random")
    assert (difference["mean"], difference["low"], difference["high"]) == pytest.approx((0.05, 0.05, 0.05))
    text = arithmetic.report(rows)
    assert "| balanced | 50.0 | +5.0 (+5.0 to +5.0) |" in text
    assert "Better than foreground_random: balanced." in text
    assert "1 to 3 labelled cases, 1 seeds x 2 folds: 16 of 12 runs." in text
    nothing = arithmetic.report(rows_of(module, {"foreground_random": base, "diverse": [0.2, 0.4, 0.8, 0.4]}))
    assert "No strategy beats foreground_random" in nothing
