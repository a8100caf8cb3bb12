"""The benchmark of missing sequences in its smallest setting: every stage on phantoms, in pieces; its
arithmetic on made-up rows.
"""

import csv
import itertools
from pathlib import Path

import pytest
import torch

from slem_app import phantom

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    import missing
    import missing_table

    return missing, missing_table


def test_every_stage_in_pieces(bench, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    missing, _ = bench
    for n in range(3):
        phantom.write_nifti(
            phantom.make(seed=n, shape=(32, 40, 28), spacing=(6.0, 6.0, 6.0)),
            tmp_path / "studies",
            f"case{n}",
        )
    shared = [
        "--setting",
        "smoke",
        "--runs",
        str(tmp_path / "runs"),
        "--results",
        str(tmp_path),
        "--device",
        "cpu",
    ]
    torch.set_num_threads(1)
    missing.main(["prepare", *shared, "--data", str(tmp_path / "studies")])
    missing.main(["train", *shared, "--minutes", "0"])
    assert "call again to continue" in capsys.readouterr().out
    assert not list((tmp_path / "runs/smoke").glob("dropping*"))
    missing.main(["train", *shared])
    missing.main(["score", *shared, "--data", str(tmp_path / "studies"), "--folds", "0"])
    missing.main(["score", *shared, "--data", str(tmp_path / "studies")])
    rows = list(csv.DictReader((tmp_path / "missing.csv").read_text().splitlines()))
    assert len(rows) == 3 * 3 * 15
    assert {row["case"]: row["fold"] for row in rows} == {"case0": "0", "case1": "1", "case2": "0"}
    full = {
        (row["arm"], row["case"]): (row["WT"], row["TC"], row["ET"])
        for row in rows
        if row["subset"] == missing.FULL
    }
    for case in ("case0", "case1", "case2"):
        assert full["zeros", case] == full["complete", case]  # one model, nothing missing
    missing.main(["table", *shared])
    page = tmp_path / "missing_smoke.md"
    assert "RFNet" in page.read_text()
    page.write_text(page.read_text() + "\n## To know\n\n- By hand.\n")
    missing.main(["table", *shared])
    assert page.read_text().endswith("other training.\n\n## To know\n\n- By hand.\n")


def test_subsets_are_all_but_the_empty_one_the_full_one_first(bench) -> None:
    names = dict(bench[0].subsets(("t1n", "t1c", "t2w", "t2f")))
    assert len(names) == 15
    assert next(iter(names)) == bench[0].FULL
    assert names["t1c+t2f"] == (False, True, False, True)


def rows(bench, values: dict[str, tuple[float, float]]) -> list[dict[str, str]]:
    """Arm -> Dice with all sequences and with fewer, alike in three cases."""
    return [
        {"setting": "made", "arm": arm, "seed": "0", "fold": "0", "case": case, "subset": subset}
        | dict.fromkeys(("WT", "TC", "ET"), str(full if subset == bench[0].FULL else fewer))
        for (arm, (full, fewer)), case, (subset, _) in itertools.product(
            values.items(), "abc", bench[0].subsets(("t1n", "t1c", "t2w", "t2f"))
        )
    ]


def test_targets_are_said_plainly(bench) -> None:
    good = bench[1].text(
        rows(bench, {"dropping": (0.9, 0.85), "complete": (0.9, 0.5), "zeros": (0.9, 0.2)}),
        "made",
        "a",
        "b",
        2,
    )
    assert "Folds scored: 0 (1 of 2); the cases of the others were not measured" in good
    assert "`zeros` differs from `complete` by at most 30.0 points" in good
    assert "under the full set for WT: reached, 4.7 points under it" in good
    assert "lower than without dropping: reached for the mean of the regions, WT reached" in good
    assert (
        "| dropping | WT | 90.0 (0.0, 90.0 to 90.0) | 85.3 (0.0, 85.3 to 85.3) | -4.7 (-4.7 to -4.7) |"
        in good
    )
    assert "WT +32.7 (+32.7 to +32.7) over `complete` and +60.7 (+60.7 to +60.7) over `zeros`" in good
    bad = bench[1].text(
        rows(bench, {"dropping": (0.88, 0.7), "complete": (0.9, 0.5), "zeros": (0.9, 0.2)}),
        "made",
        "a",
        "b",
        2,
    )
    assert "for WT: NOT reached, 16.8 points under it" in bad
    assert "NOT reached for the mean of the regions" in bad


def test_a_part_of_the_rows_gives_no_table(bench) -> None:
    some = rows(bench, {"dropping": (0.9, 0.85), "complete": (0.9, 0.5), "zeros": (0.9, 0.2)})[:-1]
    with pytest.raises(ValueError, match="1 of the rows of setting made are missing"):
        bench[1].text(some, "made", "a", "b", 2)
