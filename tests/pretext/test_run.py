"""Whole pre-trainings in small: resume, processes, bad cases, what is saved."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting, BadStudy
from slem_app.phantom import Phantom
from slem_app.pretext.gates import histogram_probe
from slem_app.pretext.recipe import PretextRecipe
from slem_app.pretext.run import load_network, measure, pretrain
from slem_app.pretext.samples import Samples, annotate, usable
from slem_app.pretext.tasks import TASKS
from slem_app.pretext.tasks.slem import Slem
from slem_app.training import TrainingFailed
from slem_app.training.state import Curve
from slem_app.volumes.cache import CaseCache
from slem_app.weights import BRAIN_SEQUENCES, load_pretrained
from tests.pretext.conftest import prepared
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2]

RUN = """
import sys
from pathlib import Path
import torch
from slem_app.pretext.recipe import load_recipe
from slem_app.pretext.run import pretrain
from slem_app.training import join_processes
from slem_app.volumes.cache import CaseCache

torch.set_num_threads(1)
join_processes("cpu")
recipe = load_recipe(sys.argv[1])
cache = CaseCache(Path(sys.argv[2]))
pretrain(recipe, cache, cache.ids(), Path(sys.argv[3]), progress=False)
"""


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in Curve.read(folder / "losses.csv")]


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_trains_saves_and_is_measured(
    name: str, cache: CaseCache, recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    options = {"supervoxel": {"count": 20}, "masked": {"cube": 32.0}}.get(name, {})
    made = recipe(name, steps=2, options=options)
    ids = cache.ids()
    report = pretrain(made, cache, ids[:4], tmp_path / "run", ids[4:], progress=False)
    assert report.used == ids[:4]
    assert set(report.measured.figures) >= {"loss", "score", "chance"}
    assert all(np.isfinite(value) for value in report.measured.figures.values())
    saved = load_pretrained(tmp_path / "run" / "model")
    assert saved.card == report.card
    assert saved.card.task == name
    assert saved.card.training.startswith("4 cases, 2 steps of 2 samples, seed 0, torch ")
    assert saved.card.figures["held-out score"] == pytest.approx(report.measured.figures["score"], abs=1e-4)
    assert saved.card.decoder == any(key.startswith("decoder.") for key in saved.state) == made.task.decodes
    assert not any(key.startswith("head.") for key in saved.state)
    assert [row["step"] for row in Curve.read(tmp_path / "run" / "measured.csv")] == ["2"]
    assert "volumes/s" in report.outcome.throughput()
    again = measure(load_network(made, tmp_path / "run"), made, cache, ids[4:])
    assert again.figures == pytest.approx(report.measured.figures, rel=1e-5)  # float32 in another order


def test_the_task_is_learned(cache: CaseCache, recipe: Callable[..., PretextRecipe], tmp_path: Path) -> None:
    """Two sequences that differ in anatomy's look, plain blocks: the loss falls well below that of blind
    guessing.
    """
    made = recipe(
        "slem", steps=30, rate=1e-2, average=0.9, options={"appearance": {"intensity": "none"}, "jitter": 0.0}
    )
    pretrain(made, cache, cache.ids(), tmp_path / "run", progress=False)
    curve = losses(tmp_path / "run")
    assert np.mean(curve[:5]) > 2.5  # log 24 = 3.2
    assert np.mean(curve[-8:]) < 0.75 * np.mean(curve[:5])


def test_a_killed_run_continues_as_if_nothing_had_happened(
    cache: CaseCache, recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    recipe_file = write_recipe(tmp_path, recipe("slem", steps=12, save_every=4))
    command = [sys.executable, "-c", RUN, str(recipe_file), str(cache.folder), str(tmp_path / "killed")]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment())
    deadline = time.monotonic() + 120
    while (
        not (tmp_path / "killed" / "checkpoint.pt").exists()
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["step"]
    assert step in (4, 8, 12)
    assert not (tmp_path / "killed" / "model").exists() or step == 12
    made = recipe("slem", steps=12, save_every=4)
    first = pretrain(made, cache, cache.ids(), tmp_path / "killed", progress=False)
    second = pretrain(made, cache, cache.ids(), tmp_path / "whole", progress=False)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 12
    for (name, a), b in zip(
        first.outcome.network.state_dict().items(), second.outcome.network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


def test_two_processes_draw_the_curve_of_one(
    cache: CaseCache, recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    made = recipe("slem", steps=5, batch=4)
    recipe_file = write_recipe(tmp_path, made)
    (tmp_path / "train.py").write_text(RUN)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(tmp_path / "train.py"),
    ]
    subprocess.run(
        [*torchrun, str(recipe_file), str(cache.folder), str(tmp_path / "two")],
        cwd=PROJECT,
        env=environment(),
        check=True,
        timeout=240,
    )
    pretrain(made, cache, cache.ids(), tmp_path / "one", progress=False)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert len(losses(tmp_path / "two")) == 5
    a, b = (load_pretrained(tmp_path / run / "model").state for run in ("one", "two"))
    assert all(torch.allclose(a[name], b[name], atol=2e-3) for name in a)


def test_a_worker_that_is_killed_costs_a_checkpoint_interval_and_changes_nothing(
    cache: CaseCache, recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    """The launcher starts the processes again, and they go on from the last checkpoint."""
    recipe_file = write_recipe(tmp_path, recipe("slem", steps=20, batch=2, save_every=4))
    (tmp_path / "train.py").write_text(RUN)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    torchrun += ["--max-restarts", "2", str(tmp_path / "train.py"), str(recipe_file), str(cache.folder)]
    subprocess.run([*torchrun, str(tmp_path / "whole")], cwd=PROJECT, env=environment(), check=True)
    launcher = subprocess.Popen([*torchrun, str(tmp_path / "killed")], cwd=PROJECT, env=environment())
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    wait_until(checkpoint.exists, 200, pause=0.005)
    workers = [int(child) for child in children.read_text().split()]
    os.kill(next(one for one in workers if b"\0RANK=1\0" in Path(f"/proc/{one}/environ").read_bytes()), 9)
    assert launcher.wait(200) == 0
    rows = {run: Curve.read(tmp_path / run / "losses.csv") for run in ("whole", "killed")}
    assert [row["step"] for row in rows["killed"]] == [row["step"] for row in rows["whole"]]
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    a, b = (load_pretrained(tmp_path / run / "model").state for run in ("whole", "killed"))
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)


def test_other_settings_are_refused_and_listed(
    cache: CaseCache, recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    pretrain(recipe("slem", steps=2), cache, cache.ids(), tmp_path / "run", progress=False)
    changed = recipe("slem", steps=2, rate=5e-4, options={"labels": "all"})
    with pytest.raises(BadSetting, match="holds a run with other settings") as error:
        pretrain(changed, cache, cache.ids(), tmp_path / "run", progress=False)
    for part in ("'options.labels': ('permutations', 'all')", "'settings.rate': (0.001, 0.0005)"):
        assert part in str(error.value)
    with pytest.raises(BadSetting, match="'cases': "):
        pretrain(recipe("slem", steps=2), cache, cache.ids()[:3], tmp_path / "run", progress=False)


def test_a_run_from_before_a_younger_key_of_the_network_continues(
    cache: CaseCache, recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    pretrain(recipe("slem", steps=2), cache, cache.ids(), tmp_path, progress=False)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del saved["settings"]["network"]["differences"]
    torch.save(saved, tmp_path / "checkpoint.pt")
    again = pretrain(recipe("slem", steps=2), cache, cache.ids(), tmp_path, progress=False)
    assert again.outcome.samples == 0  # it was done, and is not refused


def test_the_table_of_classes_is_kept_with_the_checkpoint(
    cache: CaseCache, recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    pretrain(recipe("slem", steps=1), cache, cache.ids(), tmp_path / "run", progress=False)
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["settings"]
    assert len(kept["classes"]) == 24
    assert json.loads((tmp_path / "run" / "settings.json").read_text()) == kept


def test_a_loss_that_is_no_number_stops_the_run_names_the_case_and_keeps_the_checkpoint(
    cache: CaseCache, recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    made = recipe("masked", steps=8, save_every=1, batch=1)
    samples = Samples(cache, cache.ids(), made.task, made.settings.view, 4, 8, made.settings.seed)
    victim = samples.case(3)
    images = np.load(cache.folder / victim / "images.npy")
    images[:, ::3] = np.where(images[:, ::3] != 0, np.nan, 0)
    np.save(cache.folder / victim / "images.npy", images)
    with pytest.raises(
        TrainingFailed,
        match=rf"the loss is nan at step 4: the checkpoint before it is kept; .* look at case {victim}",
    ):
        pretrain(made, cache, cache.ids(), tmp_path / "run", progress=False)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 3


def test_cases_that_cannot_be_used_are_left_out_with_the_reason(
    cache: CaseCache, phantoms: list[Phantom]
) -> None:
    cache.add("single", prepared(phantoms[0], without=("t1n", "t1c", "t2w")), None, "k")
    cache.add("three", prepared(phantoms[0], without=("t1n",)), None, "k")
    used, skipped = usable(cache, cache.ids(), Slem(), ("t1n", "t1c", "t2w", "t2f"))
    assert "three" in used
    assert skipped == {"single": "has 1 of the recipe's sequences, slem needs at least 2"}
    with pytest.raises(
        BadStudy, match="none of 7 cases can be used for slem .*too small for blocks of 8 voxels"
    ):
        usable(cache, [*cache.ids()[:6], "single"], Slem(grid=(8, 1, 1)), ("t1n", "t1c", "t2w", "t2f"))


@pytest.mark.parametrize("name", list(TASKS))
def test_every_set_of_sequences_that_a_task_can_use_is_trained_on(
    name: str, phantoms: list[Phantom], recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    """All 15 sets of the four, but single ones where the task is to tell sequences apart."""
    cache = CaseCache(tmp_path / "cache")
    for lacking in (lacking for count in range(4) for lacking in combinations(BRAIN_SEQUENCES, count)):
        cache.add("-".join(lacking) or "none", prepared(phantoms[len(lacking)], without=lacking), None, "k")
    options = {"supervoxel": {"count": 20}, "masked": {"cube": 32.0}}.get(name, {})
    made = recipe(name, steps=8, options=options)
    report = pretrain(made, cache, cache.ids(), tmp_path / "run", cache.ids(), progress=False)
    assert len(report.used) == (15 if made.task.least == 1 else 11)
    assert all(
        f"has 1 of the recipe's sequences, {name} needs at least 2" == reason
        for reason in report.skipped.values()
    )
    assert np.isfinite(losses(tmp_path / "run")).all()
    assert all(np.isfinite(value) for value in report.measured.figures.values())


def test_a_sequence_that_no_case_has_is_an_error(
    cache: CaseCache, phantoms: list[Phantom], recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    other = CaseCache(tmp_path / "other")
    for n in range(2):
        other.add(f"case{n}", prepared(phantoms[n], without=("t1c",)), None, "k")
    with pytest.raises(BadStudy, match="no usable case has t1c: classes that hold it would have no example"):
        pretrain(recipe("slem"), other, other.ids(), tmp_path / "run", progress=False)
    with pytest.raises(BadStudy, match="case0 was prepared for 4 sequences, the recipe has 3"):
        usable(cache, cache.ids(), Slem(), ("t1n", "t1c", "t2w"))


def test_memory_does_not_grow_with_the_number_of_cases(
    cache: CaseCache, recipe: Callable[..., PretextRecipe]
) -> None:
    made = recipe("slem")

    def peak(ids: tuple[str, ...]) -> int:
        samples = Samples(cache, ids, made.task, made.settings.view, 4, 12)
        samples[0]
        tracemalloc.start()
        for n in range(12):
            samples[n]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(cache.ids()) < 1.3 * peak(cache.ids()[:1])


def test_samples_are_the_same_in_any_order(cache: CaseCache, recipe: Callable[..., PretextRecipe]) -> None:
    made = recipe("slem")
    samples = [Samples(cache, cache.ids(), made.task, made.settings.view, 4, 12) for _ in range(2)]
    later = samples[0][7]
    for n in range(7):
        samples[1][n]
    torch.testing.assert_close(later.inputs["images"], samples[1][7].inputs["images"])
    assert {samples[0].case(n) for n in range(6)} == set(cache.ids())


@pytest.mark.slow
def test_histograms_of_real_heads_do_not_name_collages(real_data: Path, tmp_path: Path) -> None:
    from slem_app.pretext.cases import gather
    from slem_app.pretext.recipe import load_recipe
    from slem_app.studies import open_source

    made, cache = load_recipe("slem"), CaseCache(tmp_path / "cache")
    ids = gather(
        list(open_source(real_data / "brats"))[:12], cache, made.sequences, made.preparation, made.task.least
    ).ready
    probe = histogram_probe(cache, ids[:8], ids[8:], made.task, made.settings.view, samples=120, measured=80)
    assert probe.accuracy < 0.15


def write_recipe(folder: Path, made: PretextRecipe) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"name": made.name, "description": made.description, **made.table()}))
    return path


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}


@pytest.mark.parametrize("name", ["slem_slots_restore", "supervoxel"])
def test_kept_samples_are_shown_again_whatever_the_seed(
    name: str, phantoms: list[Phantom], recipe: Callable[..., PretextRecipe], tmp_path: Path
) -> None:
    cache = CaseCache(tmp_path / "cache")
    for n in range(2):
        cache.add(f"case{n}", prepared(phantoms[n]), None, "k")
    made = recipe(name, options={"count": 20} if name == "supervoxel" else {})
    annotate(cache, cache.ids(), made.task)

    def samples(seed: int, pool: int) -> Samples:
        return Samples(cache, cache.ids(), made.task, made.settings.view, 4, 12, seed, pool=pool)

    def images(data: Samples, case: str) -> list[torch.Tensor]:
        return [data[n].inputs["images"] for n in range(12) if data.case(n) == case]

    first, again, other = images(samples(0, 3), "case1"), images(samples(7, 3), "case1"), samples(0, 0)
    assert len(list((tmp_path / "cache" / "case1").glob(f"sample-{name}-*.npz"))) == 3
    for n in range(6):
        assert torch.equal(first[n], again[n])
        assert torch.equal(first[n], first[n % 3])
    assert not torch.equal(first[0], first[1])
    assert first[0].dtype == torch.float32
    assert samples(0, 3)[0].targets.keys() == other[0].targets.keys()
    run = recipe(name, steps=2, pool=2, options={"count": 20} if name == "supervoxel" else {})
    report = pretrain(run, cache, cache.ids(), tmp_path / "run", progress=False)
    assert report.used == ("case0", "case1")
