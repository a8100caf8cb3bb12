"""The pre-training benchmark in its smallest setting: every stage on phantoms, in pieces; its arithmetic on
made-up rows.
"""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from slem_app import phantom
from slem_app.errors import BadStudy

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "benchmarks" / "pretraining.py"

ON_A_TRAINING_SERVER = """
import runpy, sys

ABSENT = "nibabel pydicom monai monailabel SimpleITK skimage tyro fastapi highdicom".split()

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ImportError(f"a training server has no {name}")

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    import pretraining
    import pretraining_table

    return pretraining, pretraining_table


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    for seed in range(4):
        phantom.write_nifti(
            phantom.make(seed=seed, shape=(36, 44, 36), spacing=(4.0, 4.0, 4.0)),
            tmp_path / "studies",
            f"case{seed}",
        )
    return tmp_path / "studies"


def test_all_stages_run_in_pieces(
    studies: Path, tmp_path: Path, bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pretraining, pretraining_table = bench
    monkeypatch.setattr(pretraining_table, "DOCS", tmp_path / "docs")
    results = tmp_path / "pretraining.csv"
    same = [
        "--setting",
        "smoke",
        "--runs",
        str(tmp_path / "runs"),
        "--results",
        str(results),
        "--threads",
        "1",
    ]
    pretraining.main(["prepare", *same, "--data", str(studies)])
    arms = ["--arms", "scratch", "slem", "slem_probe", "supervoxel", "--cfb", "1", "--labels", "2"]
    command = [sys.executable, "-c", ON_A_TRAINING_SERVER, str(SCRIPT), "train", *same, *arms, "--folds", "0"]
    subprocess.run(
        command,
        check=True,
        cwd=PROJECT,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)},
    )
    capsys.readouterr()
    pretraining.main(["train", *same, *arms, "--folds", "1", "--minutes", "0"])
    assert "call again to continue" in capsys.readouterr().out
    pretraining.main(["train", *same, *arms])
    assert not list((tmp_path / "runs" / "smoke" / "finetune").rglob("checkpoint.pt"))
    assert len(list((tmp_path / "runs" / "smoke" / "pretext").iterdir())) == 4  # the probe shares slem's
    for _ in range(2):
        pretraining.main(["score", *same, *arms, "--data", str(studies)])
    rows = list(csv.DictReader(results.read_text().splitlines()))
    assert tuple(rows[0]) == (
        "setting",
        "arm",
        "cfb",
        "labels",
        "seed",
        "fold",
        "case",
        "wt",
        "tc",
        "et",
        "hd95_wt",
        "hd95_tc",
        "hd95_et",
    )
    assert len(rows) == 4 * 4
    assert {row["case"] for row in rows if row["arm"] == "slem"} == {f"case{n}" for n in range(4)}
    assert all(0 <= float(row[region]) <= 1 for row in rows for region in ("wt", "tc", "et"))
    pretraining.main(["weights", *same, "--arms", "slem"])
    assert (
        tmp_path / "runs" / "smoke" / "weights" / "slem" / "finetune" / "model" / "card.yaml"
    ).read_text().count("slem_brain_ssl 1") == 1
    pretraining.main(["cost", *same, "--arms", "slem"])
    assert (
        results.with_name("pretraining_cost_smoke.csv")
        .read_text()
        .startswith("task,seconds a step,of which waiting for data,weights (M)")
    )
    pretraining.main(["table", *same])
    text = results.with_suffix(".md").read_text()
    assert "## Setting smoke, 2 labelled cases" in text
    assert "| slem | supervoxel | CFB | " in text
    assert "| slem | scratch | CFB | " in text
    assert "best" not in text
    assert (tmp_path / "docs" / "pretraining_smoke.png").exists()
    assert "## Setting smoke, the pretexts on held-out cases" in text
    assert (tmp_path / "docs" / "pretraining_curves_smoke.png").exists()
    curves = list(csv.DictReader(results.with_name("pretraining_curves.csv").read_text().splitlines()))
    assert {(row["arm"], row["fold"]) for row in curves} == {
        (arm, fold) for arm in ("slem", "supervoxel") for fold in "01"
    }
    assert {int(row["step"]) for row in curves} == {2}
    sizes = list(csv.DictReader(results.with_name("pretraining_sizes.csv").read_text().splitlines()))
    assert [row["case"] for row in sizes] == [f"case{n}" for n in range(4)]
    assert all(float(row["wt_ml"]) > 1 for row in sizes)


def test_another_organ_has_a_table_of_its_own(tmp_path: Path, bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pretraining, pretraining_table = bench
    monkeypatch.setattr(pretraining_table, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(pretraining, "RESULTS", tmp_path)
    tiny = pretraining.SETTINGS["abdomen_tiny"]
    few = {
        "steps": 2,
        "batch": 2,
        "measured": 2,
        "save_every": 2,
        "view": {"shape": [24, 24, 16], "flip": 0.0},
    }
    quick = {**tiny.finetune, "steps": 2, "patch": [24, 24, 16]}
    monkeypatch.setitem(pretraining.SETTINGS, "quick", replace(tiny, pretext=few, finetune=quick, folds=2))
    for seed in (1, 2, 3, 4):
        phantom.write_chaos(
            phantom.make_abdomen(seed, (6.0, 6.0, 9.0), scale=0.5), tmp_path / "studies", str(seed)
        )
    same = ["--setting", "quick", "--runs", str(tmp_path / "runs"), "--threads", "1"]
    data = ["--data", str(tmp_path / "studies")]
    pretraining.main(["prepare", *same, *data])
    # patients, not their T2 with a truth of its own
    assert pretraining.Bench("quick", tmp_path / "runs").cache.ids() == ("1", "2", "3", "4")
    some = [
        "--arms",
        *(arm for arm in pretraining.ARMS if arm != "scratch_longer"),
        "--cfb",
        "1",
        "--labels",
        "2",
        "--seeds",
        "0",
        "--folds",
        "0",
    ]
    pretraining.main(["train", *same, *some])
    pretraining.main(["score", *same, *some, *data])
    rows = list(csv.DictReader((tmp_path / "pretraining_abdomen.csv").read_text().splitlines()))
    organs = ("liver", "right_kidney", "left_kidney", "spleen")
    assert tuple(rows[0])[7:] == (*organs, *(f"hd95_{organ}" for organ in organs))
    assert sorted({row["arm"] for row in rows}) == sorted(set(pretraining.ARMS) - {"scratch_longer"})
    assert {row["case"] for row in rows} == {"1", "3"}
    curves = list(csv.DictReader((tmp_path / "pretraining_abdomen_curves.csv").read_text().splitlines()))
    chances = {row["arm"]: float(row["chance"]) for row in curves if row["chance"]}
    # three sequences over four blocks, each at least once
    assert chances["slem"] == pytest.approx(1 / 36, abs=1e-4)
    assert (tmp_path / "pretraining_abdomen_sizes.csv").read_text().startswith("case,liver_ml\n1,")
    pretraining.main(["table", *same])
    text = (tmp_path / "pretraining_abdomen.md").read_text()
    assert "| arm | cfb | liver | right kidney | left kidney | spleen | HD95 liver |" in text
    assert "aim of the paper" not in text  # it claims none for this organ
    assert not (tmp_path / "pretraining.csv").exists()


def test_rows_of_unlike_organs_never_share_a_table(tmp_path: Path, bench) -> None:
    pretraining, _ = bench
    brain, abdomen = (pretraining.Bench(setting, tmp_path).columns for setting in ("tiny", "abdomen_tiny"))
    assert brain[7:] == ("wt", "tc", "et", "hd95_wt", "hd95_tc", "hd95_et")
    pretraining.write([dict.fromkeys(brain, 0)], tmp_path / "table.csv", brain)
    with pytest.raises(ValueError, match="give them a table of their own"):
        pretraining.write([dict.fromkeys(abdomen, 0)], tmp_path / "table.csv", abdomen)


def test_what_the_table_has_is_not_trained_again(
    tmp_path: Path, bench, capsys: pytest.CaptureFixture
) -> None:
    pretraining, _ = bench
    results = tmp_path / "pretraining.csv"
    unit = {"setting": "smoke", "arm": "scratch", "cfb": 1, "labels": 1, "seed": 0, "fold": 0}
    columns = pretraining.Bench("smoke", tmp_path).columns
    pretraining.write([{**unit, "case": "case0", **dict.fromkeys(columns[7:], 0.5)}], results, columns)
    one = [
        "--setting",
        "smoke",
        "--runs",
        str(tmp_path / "runs"),
        "--results",
        str(results),
        "--arms",
        "scratch",
        "--cfb",
        "1",
        "--labels",
        "1",
    ]
    pretraining.main(["train", *one, "--folds", "0"])  # nothing was prepared: training would fail
    assert capsys.readouterr().out == ""
    with pytest.raises(BadStudy, match="no labelled case"):
        pretraining.main(["train", *one, "--folds", "1"])


def test_the_block_is_compared_by_the_size_of_the_tumour(bench) -> None:
    _, pretraining_table = bench
    sizes = {f"case{n}": 10.0 * n for n in range(1, 7)}

    def gain(case: str) -> float:
        return 0.1 if sizes[case] < 25 else 0.0

    same = {"arm": "slem", "seed": "0", "tc": "0.5", "et": "0.5"}
    rows = [
        {**same, "cfb": str(cfb), "case": case, "wt": str(0.5 + cfb * gain(case))}
        for case in sizes
        for cfb in (0, 1)
    ]
    lines = pretraining_table.by_size(
        pretraining_table.Figures(rows), sizes, {"wt": "WT", "tc": "TC", "et": "ET"}
    )
    assert lines[0] == "| CFB minus plain block | WT volume | ml | cases | WT | TC | ET |"
    thirds = [
        ["small", "10 to 20", "2", "+10.0 (+10.0 to +10.0)"],
        ["middle", "30 to 40", "2", "+0.0 (+0.0 to +0.0)"],
        ["large", "50 to 60", "2", "+0.0 (+0.0 to +0.0)"],
    ]
    assert lines[2].startswith("| slem | all | 10 to 60 | 6 | +3.3 (")
    assert [line.split(" | ")[1:5] for line in lines[3:6]] == thirds
    other = [{**row, "arm": "scratch", "wt": "0.5"} for row in rows]  # to it the block brings nothing
    pooled = pretraining_table.by_size(
        pretraining_table.Figures([*rows, *other]), sizes, {"wt": "WT", "tc": "TC", "et": "ET"}
    )[-3:]
    assert pooled[0] == (
        "| every arm | small | 10 to 20 | 2 | +5.0 (+5.0 to +5.0) | +0.0 (+0.0 to +0.0) | +0.0 (+0.0 "
        "to +0.0) |"
    )


def test_folds_keep_patients_apart_and_labels_are_nested(studies: Path, tmp_path: Path, bench) -> None:
    pretraining, _ = bench
    pretraining.main(
        ["prepare", "--setting", "smoke", "--runs", str(tmp_path / "runs"), "--data", str(studies)]
    )
    made = pretraining.Bench("smoke", tmp_path / "runs")
    tested = []
    for fold in range(2):
        train, test = made.fold(fold)
        assert not set(train) & set(test)
        tested += test
        for seed in range(3):
            one, two = (made.labelled(pretraining.Unit("slem", 1, n, seed, fold)) for n in (1, 2))
            assert set(one) < set(two) <= set(train)
    assert sorted(tested) == [f"case{n}" for n in range(4)]


def test_arms_differ_from_scratch_by_their_beginning_alone(bench, tmp_path: Path) -> None:
    pretraining, _ = bench
    for setting in pretraining.SETTINGS:
        made = pretraining.Bench(setting, tmp_path)
        for arm in pretraining.ARMS:
            for cfb in (0, 1):
                ours, scratch = made.finetune_recipe(arm, cfb, 3), made.finetune_recipe("scratch", cfb, 3)
                assert ours.card == scratch.card
                assert (ours.settings == scratch.settings) == (arm != "scratch_longer")
                if pretraining.EVERY[arm].recipe:
                    recipe = made.pretext_recipe(arm, cfb, 3)
                    assert recipe.task.name == arm
                    assert recipe.network == ours.card.network
                    assert recipe.preparation == ours.card.preparation
                    assert recipe.settings == made.pretext_recipe("slem", cfb, 3).settings
    longer = pretraining.Bench("small", tmp_path).finetune_recipe("scratch_longer", 1, 0)
    assert longer.settings.steps == 650


def test_every_variant_is_a_recipe(bench, tmp_path: Path) -> None:
    pretraining, _ = bench
    made = pretraining.Bench("small", tmp_path)
    for arm, this in pretraining.EVERY.items():
        assert made.finetune_recipe(arm, 1, 0)
        if this.recipe:
            assert made.pretext_recipe(arm, 1, 0)
    assert made.pretext_recipe("slem_long", 1, 0).settings.steps == 1200
    assert made.finetune_recipe("slem_probe", 1, 0).settings.frozen == 1.0


def test_differences_are_paired_by_case_and_seed(bench) -> None:
    _, pretraining_table = bench
    rows = []
    for case, base in (("a", 0.2), ("b", 0.8), ("c", 0.5)):
        for seed in (0, 1):
            rows.append(
                {
                    "arm": "scratch",
                    "cfb": "1",
                    "seed": str(seed),
                    "case": case,
                    "wt": str(base),
                    "tc": "0.5",
                    "et": "0.5",
                }
            )
            rows.append(
                {
                    "arm": "slem",
                    "cfb": "1",
                    "seed": str(seed),
                    "case": case,
                    "wt": str(base + 0.1 + 0.02 * seed),
                    "tc": "0.5",
                    "et": "0.5",
                }
            )
    # a seed that scratch has not run
    rows.append({"arm": "slem", "cfb": "1", "seed": "7", "case": "a", "wt": "0", "tc": "0", "et": "0"})
    mean, low, high, count = pretraining_table.Figures(rows).difference(("slem", 1), ("scratch", 1), "wt")
    assert (mean, low, high) == pytest.approx((0.11, 0.11, 0.11))
    assert count == 3
    assert pretraining_table.Figures(rows).mean("scratch", 1, "wt")[0] == pytest.approx(0.5)


def test_slem_is_compared_with_each_rival_their_mean_and_the_placebo(bench) -> None:
    """Worked by hand: two cases, slem 0.6 and 0.8; the rivals' mean 0.5 in both, so +10 and +30 points."""
    _, pretraining_table = bench
    key = {"setting": "s", "cfb": "1", "labels": "4", "seed": "0", "fold": "0"}
    values = {"slem": (0.6, 0.8), "jigen": (0.4, 0.6), "supervoxel": (0.6, 0.4), "placebo": (0.6, 0.8)}
    rows = [
        {**key, "arm": arm, "case": f"case{n}", "wt": str(value)}
        for arm, both in values.items()
        for n, value in enumerate(both)
    ]
    lines = pretraining_table.verdict(pretraining_table.Figures(rows), {"wt": "WT"})
    assert [line for line in lines if line.startswith("| slem |")] == [
        "| slem | jigen | CFB | +20.0 (+20.0 to +20.0) |",
        "| slem | supervoxel | CFB | +20.0 (+0.0 to +40.0) |",
        "| slem | mean of the rivals | CFB | +20.0 (+10.0 to +30.0) |",
        "| slem | placebo | CFB | +0.0 (+0.0 to +0.0) |",
    ]
    assert lines[-1] == "| aim of the paper | not said which |  | +2.03 |"
