"""The comparison of recipes in its smallest setting: packed, trained side by side, brought back, scored; its
tables on made-up rows.
"""

import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app import phantom
from slem_app.volumes.cache import CaseCache
from slem_app.weights.card import load_card

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    import recipes

    return recipes


@pytest.fixture
def shared(tmp_path: Path) -> list[str]:
    return ["--setting", "smoke", "--results", str(tmp_path), "--device", "cpu", "--threads", "1"]


def test_to_a_machine_without_scans_and_back(recipes, shared, tmp_path: Path, capsys) -> None:
    for n in range(3):
        case = phantom.make(seed=n, shape=(32, 40, 28), spacing=(6.0, 6.0, 6.0))
        phantom.write_nifti(case, tmp_path / "studies", f"case{n}")
    here, there = (["--runs", str(tmp_path / name)] for name in ("here", "there"))
    data, pack = ["--data", str(tmp_path / "studies")], ["--pack", str(tmp_path / "smoke.tar.xz")]
    out = ["--out", str(tmp_path / "out")]
    recipes.main(["prepare", *shared, *here, *data])
    recipes.main(["pack", *shared, *here, *pack])
    recipes.main(["unpack", *shared, *there, *pack])
    recipes.main(["train", *shared, *there, "--beside", "--arms", "new", "--folds", "0"])
    recipes.main(["train", *shared, *there, "--arms", "old", "--minutes", "0"])
    assert "call again to continue" in capsys.readouterr().out
    recipes.main(["train", *shared, *there, "--arms", "old", "new"])
    recipes.main(["train", *shared, *there, "--arms", "new", "--folds", "all"])
    every = ["--arms", "old", "new", "--folds", "0", "1", "all"]
    recipes.main(["out", *shared, *there, *out, *every, "--models", "new"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model-new-seed0-fold0.tar",
        "model-new-seed0-fold1.tar",
        "model-new-seed0-foldall.tar",
        "predicted-new.tar",
        "predicted-old.tar",
    ]
    recipes.main(["into", *shared, *here, *out])
    recipes.main(["score", *shared, *here, *data])
    rows = list(csv.DictReader((tmp_path / "recipes.csv").read_text().splitlines()))
    assert len(rows) == 2 * 3 * 15
    assert {row["arm"] for row in rows} == {"old", "new"}
    model = tmp_path / "here/smoke/runs/new-seed0-foldall/model"
    assert load_card(model).network.differences == ((1, 0),)


def test_a_pack_keeps_the_images_within_its_steps(recipes, tmp_path: Path) -> None:
    from recipes_bench import Bench

    bench = Bench("smoke", tmp_path)
    from tests.finetune.conftest import add

    add(bench.cache, "one", phantom.make(1, (44, 52, 38), (4.0, 4.0, 4.0)))
    before = np.array(bench.cache.load("one").images, dtype=np.float32)
    bench.pack(tmp_path / "pack.tar.xz")
    with tarfile.open(tmp_path / "pack.tar.xz") as tar:
        tar.extractall(tmp_path / "back", filter="data")
    after = np.array(CaseCache(tmp_path / "back" / "cache").load("one").images, dtype=np.float32)
    assert np.abs(after - before).max() <= 1 / 20  # half a step, and a value near 0 a whole one
    np.testing.assert_array_equal(after != 0, before != 0)


def test_every_arm_takes_as_many_passes(recipes, tmp_path: Path) -> None:
    from recipes_arms import ARMS, SETTINGS
    from recipes_bench import Bench

    for setting, shared in SETTINGS.items():
        for arm in ARMS:
            settings = Bench(setting, tmp_path).recipe(arm, 0).settings
            assert settings.batch * (2 if settings.pairs.on else 1) == shared.passes
            assert settings.steps == shared.steps


def made_up() -> list[dict[str, str]]:
    rows = []
    for arm, gain in (("old", 0.0), ("new", 0.1)):
        for n, true_ml in enumerate((0.0, 2.0, 10.0)):
            for subset in ("t1n+t1c", "t1n", "t1c"):
                row = {"setting": "smoke", "arm": arm, "seed": "0", "fold": "0", "case": f"c{n}"}
                row |= {
                    "subset": subset,
                    "steps": "2",
                    "WT": str(0.7 + gain),
                    "TC": "0.6",
                    "ET": str(float(true_ml > 0)),
                }
                row |= {f"{r}_ml": "4.0" for r in ("WT", "TC", "ET")}
                rows.append(row | {f"{r}_true_ml": str(true_ml) for r in ("WT", "TC", "ET")})
    return rows


def test_the_table_tells_enhancing_tumour_apart(recipes) -> None:
    from recipes_table import text

    page = text(made_up(), "smoke")
    assert "Without enhancing tumour: c0." in page
    assert "+10.0 (+10.0 to +10.0)" in page
    assert "| old | 66.7 (0.0 to 100.0) | 100.0 (100.0 to 100.0) | 1.20 | 4.00 (4.00) |" in page
    assert "2 steps of 2 passes" in page
    assert page.count("| c1 | 0 | 2.0 |") == 1


def test_folds_that_one_arm_lacks_are_left_out(recipes) -> None:
    from recipes_table import text

    extra = [dict(row, fold="1", case="c9") for row in made_up() if row["arm"] == "old"]
    assert "| c9 |" in text([dict(row, fold="1", case="c9") for row in made_up()], "smoke")
    assert "| c9 |" not in text(made_up() + extra, "smoke")


def test_cases_are_told_apart_by_their_enhancing_tumour(recipes, tmp_path: Path) -> None:
    from cases import amounts

    from slem_app.types import Grid
    from slem_app.volumes.prepare import Prepared

    cache, grid = CaseCache(tmp_path), Grid((20, 20, 20), np.diag([1.0, 1.0, 1.0, 1.0]))
    for name, voxels in (("none", 0), ("little", 4), ("much", 18)):
        regions = np.zeros((3, 20, 20, 20))
        regions[2, :voxels, :, :] = 1
        names = ("t1n", "t1c", "t2w", "t2f")
        prepared = Prepared(np.ones((4, 20, 20, 20), np.float32), np.ones(4, bool), names, grid, grid)
        cache.add(name, prepared, regions, "test")
    assert amounts(cache) == {"none": 0, "little": 1, "much": 2}
    torch.set_num_threads(1)
