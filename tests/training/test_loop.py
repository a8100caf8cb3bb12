"""The shared loop on a problem of one weight: rates, hooks, failure."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.training import Outcome, State, TrainingFailed, fit
from slem_app.training.affine import draw_affine, warp
from slem_app.training.window import cut


@dataclass(frozen=True)
class Plan:
    steps: int = 20
    batch: int = 2
    rate: float = 0.1
    weight_decay: float = 0.0
    warmup: float = 0.1
    average: float = 0.5
    clip: float = 10.0
    seed: int = 0
    save_every: int = 5


class Numbers(torch.utils.data.Dataset):
    def __init__(self, count: int, bad: int = -1) -> None:
        self.count, self.bad = count, bad

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.tensor([float("nan") if number == self.bad else 3.0])

    def case(self, number: int) -> str:
        return f"case{number}"


class Distance(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = torch.nn.Linear(1, 1, bias=True)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.network(torch.ones_like(batch)) - batch).square().mean(dim=1)


def run(folder: Path, plan: Plan = Plan(), **how: object) -> Outcome:
    torch.manual_seed(0)
    losses = Distance()
    bad = how.pop("bad", -1)
    return fit(
        losses.network,
        losses,
        Numbers(plan.steps * plan.batch, bad),
        plan,
        State(folder, {"plan": plan.steps}),
        progress=False,
        **how,
    )


def test_learns_and_measures_itself(tmp_path: Path) -> None:
    steps = []
    outcome = run(tmp_path, Plan(steps=60), on_checkpoint=lambda step, network: steps.append(step))
    assert outcome.network(torch.ones(1)).item() == pytest.approx(3, abs=0.3)
    assert steps == list(range(5, 61, 5))
    assert outcome.samples == 120
    assert 0 <= outcome.waited <= outcome.seconds
    assert "volumes/s" in outcome.throughput()
    assert run(tmp_path, Plan(steps=60)).throughput() == "nothing left to do"


def test_a_factor_of_zero_leaves_weights_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = Distance().network.weight.item()
    outcome = run(tmp_path, factor=lambda name: 0.0 if name == "weight" else 1.0)
    assert outcome.network.weight.item() == pytest.approx(before, abs=1e-6)
    assert outcome.network(torch.ones(1)).item() != pytest.approx(before, abs=0.1)


def test_gradients_may_be_taken_away_for_a_while(tmp_path: Path) -> None:
    seen = []
    run(tmp_path, Plan(steps=3), on_gradients=seen.append)
    assert seen == [0, 1, 2]


def test_stops_at_a_loss_that_is_no_number_and_names_its_case(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingFailed,
        match=(
            r"the loss is nan at step 8: the checkpoint before it is kept; lower the rate \(now .*\) or "
            r"look at case case15"
        ),
    ):
        run(tmp_path, bad=15)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5


def test_refuses_a_batch_that_does_not_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slem_app.training.loop.ranks", lambda: (0, 4))
    with pytest.raises(BadSetting, match="batch 2 does not split evenly among 4 processes"):
        run(tmp_path)


def test_a_window_that_leaves_its_array_is_zero_there() -> None:
    box = cut(np.arange(1, 9).reshape(1, 2, 2, 2), np.array([-1, 0, 1]), (2, 2, 2))
    assert box[0].tolist() == [[[0, 0], [0, 0]], [[2, 0], [4, 0]]]


def test_a_turn_by_nothing_changes_nothing() -> None:
    image = torch.rand(2, 6, 5, 4)
    torch.testing.assert_close(warp(image, draw_affine(np.random.default_rng(0), 0.0, (1.0, 1.0))), image)


def test_a_turn_keeps_shapes_in_a_box_of_unlike_sides() -> None:
    """A quarter turn about the first axis takes a line along J to one along K, as long as it was."""
    image = torch.zeros(1, 5, 9, 17)
    image[0, 2, 2:7, 8] = 1
    quarter = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0]])
    turned = warp(image, quarter)
    expected = torch.zeros_like(image)
    expected[0, 2, 4, 6:11] = 1
    torch.testing.assert_close(turned, expected)


def test_stops_when_no_gradient_is_finite_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slem_app.training.loop._descend", lambda *_: float("inf"))
    with pytest.raises(
        TrainingFailed,
        match="no gradient of the last 50 steps was finite at step 50: the checkpoint before it is kept",
    ):
        run(tmp_path, Plan(steps=60))
