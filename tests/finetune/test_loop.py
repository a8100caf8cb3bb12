"""The training loop: it learns, continues after a kill as if nothing had happened, and fails in words."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting, BadStudy, BadWeights, StorageFailed
from slem_app.evaluate.scores import dice
from slem_app.files import writer
from slem_app.finetune import loop as finetune_loop
from slem_app.finetune.loop import TrainingFailed, train
from slem_app.finetune.patches import Patches
from slem_app.network import SegmenterConfig
from slem_app.training import loop
from slem_app.training.state import Curve
from tests.finetune.conftest import PLAIN, TINY, assert_same, checkpoint, fresh

PROJECT = Path(__file__).parents[2]


def python(code: str, *arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, *(launcher or ("-c", code)), *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=240, check=False
    )


def test_a_phantom_is_learnt_by_heart(cache, settings, tmp_path):
    quick = settings(
        steps=120,
        batch=1,
        patch=(32, 32, 32),
        rate=1e-2,
        augment=PLAIN,
        foreground=1.0,
        average=0.9,
        save_every=120,
    )
    trained = train(fresh(), cache, ["case0"], quick, tmp_path / "run", progress=False)
    case = cache.load("case0")
    images = torch.from_numpy(case.images[None].astype(np.float32))
    with torch.inference_mode():
        before, after = (
            net(images, torch.from_numpy(case.present[None])).sigmoid()[0].numpy() > 0.5
            for net in (fresh().eval(), trained)
        )
    truth = case.regions[:] > 127
    assert dice(before[0], truth[0]) < 0.2
    assert dice(after[0], truth[0]) > 0.6
    assert dice(after[1], truth[1]) > 0.6


def test_what_a_run_leaves_behind(cache, settings, tmp_path):
    seen = []
    quick = settings(steps=10, save_every=4)
    trained = train(
        fresh(),
        cache,
        cache.ids(),
        quick,
        tmp_path / "run",
        progress=False,
        on_checkpoint=lambda step, net: seen.append((step, net)),
    )
    assert [step for step, _ in seen] == [4, 8, 10]
    assert not trained.training
    saved = checkpoint(tmp_path / "run")
    assert saved["step"] == 10
    assert_same(
        {f"module.{k}": v for k, v in trained.state_dict().items()},
        {k: v for k, v in saved["average"].items() if k != "n_averaged"},
    )
    written = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert written["steps"] == 10
    assert written["cases"] == ["case0", "case1"]
    assert written["augment"]["rotation"] == 20.0
    events = list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert len(events) == 1
    assert b"train/loss" in events[0].read_bytes()


def test_the_kept_weights_are_an_average(cache, settings, tmp_path):
    train(fresh(), cache, cache.ids(), settings(), tmp_path, progress=False)
    saved = checkpoint(tmp_path)
    assert any(
        not torch.equal(value, saved["average"][f"module.{name}"]) for name, value in saved["network"].items()
    )


def test_the_same_settings_give_the_same_weights(cache, settings, tmp_path):
    for name in ("a", "b"):
        train(fresh(), cache, cache.ids(), settings(), tmp_path / name, progress=False)
    assert_same(checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b"))


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from slem_app.finetune.loop import train
from slem_app.finetune.patches import Patches
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import build
from slem_app.volumes.cache import CaseCache
from tests.finetune.conftest import TINY
torch.set_num_threads(1)
read = Patches.__getitem__
Patches.__getitem__ = lambda self, n: os.kill(os.getpid(), signal.SIGKILL) if n == 11 else read(self, n)
torch.manual_seed(0)
settings = FinetuneSettings(steps=8, batch=2, patch=(16, 16, 16), save_every=3, rate=5e-3)
cache, out = CaseCache(Path(sys.argv[1])), Path(sys.argv[2])
train(build(TINY), cache, ("case0", "case1"), settings, out, progress=False)
"""


def test_a_killed_run_continues_bit_for_bit(cache, settings, tmp_path):
    quick = settings(steps=8, save_every=3)
    train(fresh(), cache, cache.ids(), quick, tmp_path / "whole", progress=False)
    died = python(KILLED, cache.folder, tmp_path / "killed")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert checkpoint(tmp_path / "killed")["step"] == 3  # killed in step 6
    rest = tmp_path / "killed" / f".checkpoint.pt.{writer().partition('-')[0]}-99999999-0123abcd.part"
    rest.write_bytes(b"cut off")  # as when it dies while writing
    other = fresh(TINY)
    torch.nn.init.normal_(other.head.weight)  # whatever it starts from is replaced
    train(other, cache, cache.ids(), quick, tmp_path / "killed", progress=False)
    assert_same(checkpoint(tmp_path / "killed"), checkpoint(tmp_path / "whole"))
    assert not rest.exists()


def test_a_finished_run_is_not_run_again(cache, settings, tmp_path, monkeypatch):
    trained = train(fresh(), cache, cache.ids(), settings(), tmp_path, progress=False)
    monkeypatch.setattr(loop, "_descend", None)
    assert_same(
        train(fresh(), cache, cache.ids(), settings(), tmp_path, progress=False).state_dict(),
        trained.state_dict(),
    )


SHARED = """
import sys, torch
from pathlib import Path
from slem_app.finetune.loop import train
from slem_app.finetune.run import first_process, join_processes, leave_processes
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import build
from slem_app.volumes.cache import CaseCache
from tests.finetune.conftest import TINY
torch.set_num_threads(1)
join_processes("cpu")
torch.manual_seed(0 if first_process() else 99)
settings = FinetuneSettings(steps=6, batch=2, patch=(16, 16, 16), save_every=6, rate=5e-3)
cache, out = CaseCache(Path(sys.argv[1])), Path(sys.argv[2])
train(build(TINY), cache, ("case0", "case1"), settings, out, progress=False)
leave_processes()
left = [name for task in Path("/proc/self/task").iterdir() if "gloo" in (name := (task / "comm").read_text())]
sys.exit(f"still running: {left}" if left else 0)
"""


def test_two_processes_learn_as_one_does(cache, tmp_path):
    """Not exactly: Dice is taken over each process's share of the batch."""
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    curves = {}
    for name, launcher in (
        ("one", (str(script),)),
        ("two", ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script))),
    ):
        done = python("", cache.folder, tmp_path / name, launcher=launcher)
        assert done.returncode == 0, done.stderr
        curves[name] = np.array([float(row["loss"]) for row in Curve.read(tmp_path / name / "losses.csv")])
    assert len(curves["two"]) == 6
    np.testing.assert_allclose(curves["two"], curves["one"], atol=0.08)
    one, two = (checkpoint(tmp_path / name) for name in curves)
    assert one["step"] == two["step"] == 6
    assert one["settings"] == two["settings"]
    assert len(list((tmp_path / "two" / "tensorboard").glob("events*"))) == 1


def test_other_settings_are_refused_by_name_and_change_nothing(cache, settings, tmp_path):
    train(fresh(), cache, cache.ids(), settings(), tmp_path / "run", progress=False)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    with pytest.raises(
        BadSetting,
        match=(
            r"run holds a run with other settings \(there, here\): \{'rate': \(0.005, 0.001\), 'steps': "
            r"\(4, 9\)\}"
        ),
    ):
        train(fresh(), cache, cache.ids(), settings(rate=1e-3, steps=9), tmp_path / "run", progress=False)
    with pytest.raises(BadSetting, match=r"'cases': \(\['case0', 'case1'\], \['case0'\]\)"):
        train(fresh(), cache, ["case0"], settings(), tmp_path / "run", progress=False)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")} == before


def test_another_network_is_refused(cache, settings, tmp_path):
    train(fresh(), cache, cache.ids(), settings(), tmp_path / "run", progress=False)
    wider = SegmenterConfig(
        channels=(8, 24), stem_channels=8, blocks=(1, 1), context_levels=(1,), deep_supervision=0
    )
    with pytest.raises(BadSetting, match="run holds a run of another network"):
        train(fresh(wider), cache, cache.ids(), settings(), tmp_path / "run", progress=False)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"something else"])
def test_a_damaged_checkpoint_is_refused(cache, settings, tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(BadWeights, match=r"checkpoint\.pt is damaged .*: delete it to start the run again"):
        train(fresh(), cache, cache.ids(), settings(), tmp_path, progress=False)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"patch": (16, 18, 16)}, r"patch \(16, 18, 16\): this network takes multiples of 4 voxels"),
        ({"patch": (4, 4, 4)}, "one of them at least 8"),
        ({"deep_weights": ()}, r"deep_weights \(\): this network has 1 heads"),
    ],
)
def test_settings_that_do_not_fit_the_network_are_refused_before_anything_is_written(
    cache, settings, tmp_path, changes, text
):
    with pytest.raises(BadSetting, match=text):
        train(fresh(), cache, cache.ids(), settings(**changes), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_split_is_refused(cache, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune_loop, "ranks", lambda: (0, 3))
    with pytest.raises(BadSetting, match="batch 2 does not split evenly among 3 processes"):
        train(fresh(), cache, cache.ids(), settings(), tmp_path, progress=False)


def test_no_case_is_refused(cache, settings, tmp_path):
    with pytest.raises(BadStudy, match="no labelled case"):
        train(fresh(), cache, [], settings(), tmp_path, progress=False)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(
    cache, settings, tmp_path, monkeypatch
):
    read = Patches.__getitem__

    def spoilt(self, n):
        images, *others = read(self, n)
        return images * (torch.nan if n == 6 else 1), *others

    monkeypatch.setattr(Patches, "__getitem__", spoilt)
    with pytest.raises(
        TrainingFailed,
        match=r"the loss is nan at step 4: the checkpoint before it is kept; lower the rate \(now",
    ):
        train(fresh(), cache, cache.ids(), settings(steps=8), tmp_path, progress=False)
    saved = checkpoint(tmp_path)
    assert saved["step"] == 2
    assert all(torch.isfinite(value).all() for value in saved["network"].values())


def test_one_gradient_that_overflows_is_passed_over_and_many_end_the_run(
    cache, settings, tmp_path, monkeypatch
):
    clip = torch.nn.utils.clip_grad_norm_
    steps = iter(range(100))
    monkeypatch.setattr(
        torch.nn.utils,
        "clip_grad_norm_",
        lambda *a: clip(*a) if next(steps) != 1 else torch.tensor(torch.inf),
    )
    train(fresh(), cache, cache.ids(), settings(), tmp_path / "one", progress=False)
    assert checkpoint(tmp_path / "one")["step"] == 4
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(torch.inf))
    monkeypatch.setattr(loop, "MOST_SKIPPED", 3)
    with pytest.raises(TrainingFailed, match="no gradient of the last 3 steps was finite at step 3"):
        train(fresh(), cache, cache.ids(), settings(), tmp_path / "many", progress=False)


def test_a_full_disk_keeps_the_older_checkpoint(cache, settings, tmp_path, monkeypatch):
    train(fresh(), cache, cache.ids(), settings(steps=4, save_every=2), tmp_path / "whole", progress=False)
    save = torch.save

    def full(state, file):
        if state["step"] > 2:
            file.write(b"half of it")
            # how torch says ENOSPC
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        StorageFailed, match="the checkpoint at step 4 could not be written .*the one before it is kept"
    ):
        train(fresh(), cache, cache.ids(), settings(), tmp_path / "run", progress=False)
    assert checkpoint(tmp_path / "run")["step"] == 2
    assert not list((tmp_path / "run").glob("checkpoint.*[0-9]"))
    monkeypatch.setattr(torch, "save", save)
    train(fresh(), cache, cache.ids(), settings(), tmp_path / "run", progress=False)
    assert_same(checkpoint(tmp_path / "run"), checkpoint(tmp_path / "whole"))


def test_a_folder_that_cannot_be_made_is_refused(cache, settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="run cannot be written"):
        train(fresh(), cache, cache.ids(), settings(), tmp_path / "file" / "run", progress=False)


def test_workers_change_nothing(cache, settings, tmp_path):
    for workers in (0, 2):
        train(
            fresh(), cache, cache.ids(), settings(), tmp_path / str(workers), workers=workers, progress=False
        )
    assert_same(checkpoint(tmp_path / "0"), checkpoint(tmp_path / "2"))


@pytest.mark.gpu
def test_a_gpu_trains_in_half_precision(cache, settings, tmp_path):
    network = train(fresh(), cache, cache.ids(), settings(), tmp_path, device="cuda", progress=False)
    assert next(network.parameters()).is_cuda
    again = train(fresh(), cache, cache.ids(), settings(), tmp_path, device="cuda", progress=False)
    assert_same(network.state_dict(), again.state_dict())


def test_checkpoints_from_before_these_settings_continue(cache, settings, tmp_path):
    quick = settings(save_every=2)
    train(fresh(), cache, cache.ids(), quick, tmp_path / "new", progress=False)
    saved = checkpoint(tmp_path / "new")
    for name in ("fresh", "frozen", "encoder_rate", "layer_decay", "pairs", "soup"):
        del saved["settings"][name]
    torch.save(saved, tmp_path / "new" / "checkpoint.pt")
    train(fresh(), cache, cache.ids(), quick, tmp_path / "new", progress=False)
    with pytest.raises(BadSetting, match=r"\{'frozen': \(0.0, 0.5\)\}"):
        train(
            fresh(), cache, cache.ids(), settings(save_every=2, frozen=0.5), tmp_path / "new", progress=False
        )
