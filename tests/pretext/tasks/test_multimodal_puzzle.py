"""Taleb's puzzle: the Sinkhorn operator, the loss and the order that is found."""

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.pretext.task import HeadView
from slem_app.pretext.tasks.multimodal_puzzle import MultimodalPuzzle, sinkhorn
from slem_app.pretext.tiles import split


def test_sinkhorn_of_a_hand_worked_matrix() -> None:
    """Scaling rows and columns keeps ad / bc = 2/3, so [[p, 1-p], [1-p, p]] has (p / (1-p))^2 = 2/3, p =
    0.4495.
    """
    matrix = sinkhorn(torch.log(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])), rounds=50)[0]
    assert matrix.tolist() == [
        pytest.approx([0.44949, 0.55051], abs=1e-4),
        pytest.approx([0.55051, 0.44949], abs=1e-4),
    ]


def test_sinkhorn_sums_to_one_either_way() -> None:
    torch.manual_seed(0)
    matrix = sinkhorn(torch.randn(3, 9, 9), rounds=40)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(3, 9), atol=1e-4, rtol=0)
    torch.testing.assert_close(matrix.sum(dim=2), torch.ones(3, 9), atol=1e-3, rtol=0)


def test_tiles_come_from_any_sequence_and_the_order_puts_them_right(rng: np.random.Generator) -> None:
    images = rng.normal(size=(3, 12, 12, 4)).astype(np.float32)
    task = MultimodalPuzzle()
    sample = task.sample(HeadView(images, np.array([True, True, False])), rng, 4)
    truth, order = sample.targets["truth"].numpy(), sample.targets["order"].numpy()
    sources = {
        next(s for s in range(3) if np.array_equal(split(images[s], (3, 3, 1))[t], truth[t]))
        for t in range(9)
    }
    assert sources == {0, 1}
    np.testing.assert_array_equal(split(sample.inputs["images"][0].numpy(), (3, 3, 1)), truth[order])


def test_loss_and_metric_of_a_hand_worked_example() -> None:
    """Two tiles of values 1 and 3, swapped; S = [[q, 1-q], [1-q, q]] puts (1-q) x 1 + q x 3 where
    1 belongs.
    """
    task = MultimodalPuzzle(grid=(2, 1, 1), rounds=30)
    targets = {"truth": torch.tensor([[[[[1.0]]], [[[3.0]]]]]), "order": torch.tensor([[1, 0]])}

    def outputs(q: float) -> dict[str, torch.Tensor]:
        return {"tiles": torch.log(torch.tensor([[q, 1 - q, 1 - q, q]]))}

    assert task.losses(outputs(1e-6), targets).item() == pytest.approx(0, abs=1e-4)
    assert task.losses(outputs(0.25), targets).item() == pytest.approx((2 * 0.25) ** 2, abs=1e-4)
    assert task.losses(outputs(1 - 1e-6), targets).item() == pytest.approx(4, abs=1e-3)
    assert task.metrics(outputs(0.25), targets) == {"score": torch.ones(1), "chance": torch.tensor([0.5])}
    assert task.metrics(outputs(0.75), targets)["score"].item() == 0


def test_refuses_impossible_options() -> None:
    with pytest.raises(BadSetting, match="temperature and rounds must be positive"):
        MultimodalPuzzle(temperature=0.0)
