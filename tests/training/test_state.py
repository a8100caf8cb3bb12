"""Checkpoints and curves: what is compared on resume, what a kill leaves."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from slem_app.errors import BadSetting, BadWeights, StorageFailed
from slem_app.files import writer
from slem_app.training.schedule import averaging, parameter_groups, rate_at
from slem_app.training.state import Curve, State


def parts() -> tuple[torch.nn.Module, torch.nn.Module, torch.optim.Optimizer]:
    network = torch.nn.Linear(2, 2)
    return network, torch.optim.swa_utils.AveragedModel(network), torch.optim.AdamW(network.parameters())


def test_a_setting_younger_than_the_checkpoint_counts_as_its_default(tmp_path: Path) -> None:
    State(tmp_path, {"rate": 1, "augment": {"flip": 0.5}}).save(3, *parts())
    defaults = {"rate": 9, "freeze": 0.0, "augment": {"flip": 9, "turn": 0.2}}
    younger = State(tmp_path, {"rate": 1, "freeze": 0.0, "augment": {"flip": 0.5, "turn": 0.2}}, defaults)
    assert younger.resume(*parts(), "cpu") == 3
    changed = State(tmp_path, {"rate": 1, "freeze": 0.1, "augment": {"flip": 0.5, "turn": 0.3}}, defaults)
    with pytest.raises(
        BadSetting,
        match=(
            r"\(there, here\): \{'augment.turn': \(0.2, 0.3\), 'freeze': \(0.0, 0.1\)\}: choose another "
            r"folder"
        ),
    ):
        changed.resume(*parts(), "cpu")
    with pytest.raises(BadSetting, match=r"'rate': \(1, None\)"):
        State(tmp_path, {"augment": {"flip": 0.5}}).resume(*parts(), "cpu")


def test_refused_settings_do_not_replace_those_of_the_run(tmp_path: Path) -> None:
    state = State(tmp_path, {"rate": 1})
    state.begin()
    state.save(3, *parts())
    with pytest.raises(BadSetting):
        State(tmp_path, {"rate": 2}).resume(*parts(), "cpu")
    assert '"rate": 1' in (tmp_path / "settings.json").read_text()


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(tmp_path, {})
    state.save(1, *parts())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(
        StorageFailed,
        match="the checkpoint at step 2 could not be written .*No space left.*the one before it is kept",
    ):
        state.save(2, *parts())
    monkeypatch.undo()
    assert state.resume(*parts(), "cpu") == 1
    assert [p.name for p in tmp_path.glob("checkpoint*")] == ["checkpoint.pt"]


def test_a_damaged_checkpoint_is_told_from_another_network(tmp_path: Path) -> None:
    state = State(tmp_path, {})
    state.save(1, *parts())
    other = torch.nn.Linear(3, 3)
    with pytest.raises(BadSetting, match="a run of another network than this recipe's"):
        state.resume(
            other, torch.optim.swa_utils.AveragedModel(other), torch.optim.AdamW(other.parameters()), "cpu"
        )
    state.path.write_bytes(state.path.read_bytes()[:200])
    with pytest.raises(BadWeights, match="checkpoint.pt is damaged .*delete it to start the run again"):
        state.resume(*parts(), "cpu")


def test_rests_of_a_checkpoint_that_was_cut_off_are_taken_away(tmp_path: Path) -> None:
    machine = writer().partition("-")[0]
    (tmp_path / f".checkpoint.pt.{machine}-99999999-0123abcd.part").write_bytes(b"rest")
    State(tmp_path, {"a": 1}).begin()
    assert [p.name for p in tmp_path.iterdir()] == ["settings.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot be written"):
        State(tmp_path / "file" / "run", {}).begin()


def test_a_resumed_curve_forgets_what_its_checkpoint_does_not_know(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "c.csv", ("step", "loss"))
    for step in range(1, 6):
        curve.add(step=step, loss=step / 2)
    with (tmp_path / "c.csv").open("a") as file:
        file.write("6")  # killed while writing
    again = Curve(tmp_path / "c.csv", ("step", "loss"), step=3)
    again.add(step=4, loss=9.0)
    assert [(row["step"], row["loss"]) for row in Curve.read(tmp_path / "c.csv")] == [
        ("1", "0.5"),
        ("2", "1"),
        ("3", "1.5"),
        ("4", "9"),
    ]


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(step, 100, 2.0, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.0)
    assert rates[-1] < 0.01
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_the_average_follows_closely_at_first() -> None:
    average = averaging(0.99)
    for count, moved in ((0, 0.9), (10_000, 0.01)):
        means, now = [torch.zeros(1), torch.zeros(2)], [torch.ones(1), torch.full((2,), 3.0)]
        average(means, now, count)
        assert means[0].item() == pytest.approx(moved)
        assert means[1].tolist() == pytest.approx([3 * moved] * 2)


def test_groups_by_factor_hold_every_weight_once() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    plain = parameter_groups(network, 0.1)
    assert [(group["weight_decay"], len(group["params"])) for group in plain] == [(0.1, 2), (0.0, 2)]
    scaled = parameter_groups(network, 0.1, lambda name: 0.3 if name.startswith("0.") else 1.0)
    assert "factor" not in plain[0]
    assert all(p.ndim >= 2 for p in plain[0]["params"])
    assert sorted((g.get("factor", 1.0), g["weight_decay"], len(g["params"])) for g in scaled) == [
        (0.3, 0.0, 1),
        (0.3, 0.1, 1),
        (1.0, 0.0, 1),
        (1.0, 0.1, 1),
    ]
