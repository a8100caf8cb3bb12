"""JiGen's jigsaw: tiles, orders far from each other, the class."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.pretext.recipe import PretextRecipe
from slem_app.pretext.task import HeadView
from slem_app.pretext.tasks.jigen import Jigen
from slem_app.pretext.tiles import assemble, far_orders, split, tile_cells


def test_tiles_of_a_hand_worked_image() -> None:
    image = np.arange(16).reshape(4, 4, 1)
    tiles = split(image, (2, 2, 1))
    assert tiles[:, :, :, 0].tolist() == [
        [[0, 1], [4, 5]],
        [[2, 3], [6, 7]],
        [[8, 9], [12, 13]],
        [[10, 11], [14, 15]],
    ]
    swapped = assemble(tiles[[3, 1, 2, 0]], (2, 2, 1), (4, 4, 1))
    assert swapped[:, :, 0].tolist() == [[10, 11, 2, 3], [14, 15, 6, 7], [8, 9, 0, 1], [12, 13, 4, 5]]
    assert tile_cells((4, 4, 1), (2, 2, 1))[:, :, 0].tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [3, 3, 4, 4],
    ]


def test_voxels_left_over_stay_empty() -> None:
    image = np.ones((7, 6, 5))
    again = assemble(split(image, (3, 3, 1)), (3, 3, 1), (7, 6, 5))
    assert again[:6].all()
    assert not again[6].any()


def test_orders_are_as_far_from_each_other_as_can_be() -> None:
    """Of three tiles: beside the identity the two orders that move every tile; they also differ from each
    other everywhere.
    """
    assert sorted(map(tuple, far_orders(3, 2)[1:].tolist())) == [(1, 2, 0), (2, 0, 1)]
    table = far_orders(9, 30)
    assert table.shape == (31, 9)
    assert table[0].tolist() == list(range(9))
    unlike = (table[:, None] != table[None]).sum(axis=2)
    assert unlike[~np.eye(31, dtype=bool)].min() >= 6
    assert len(far_orders(2, 30)) == 2  # all there are


def test_a_sample_is_one_sequence_in_the_order_of_its_class(rng: np.random.Generator) -> None:
    images = rng.normal(size=(3, 12, 12, 4)).astype(np.float32)
    images[1] = 0
    view = HeadView(images, np.array([True, False, True]))
    task = Jigen(varied=0.0)
    seen = set()
    for _ in range(60):
        sample = task.sample(view, rng, 4)
        label = int(sample.targets["order"])
        seen.add(label == 0)
        back = np.empty((9, 4, 4, 4), np.float32)
        back[far_orders(9, 30)[label]] = split(sample.inputs["images"][0].numpy(), (3, 3, 1))
        assert any(np.array_equal(assemble(back, (3, 3, 1), (12, 12, 4)), images[s]) for s in (0, 2))
    assert seen == {True, False}


def test_loss_and_metric_of_a_hand_worked_example(recipe: Callable[..., PretextRecipe]) -> None:
    task = Jigen(grid=(2, 1, 1), orders=1, ordered=0.5)
    outputs = {"tiles": torch.log(torch.tensor([[0.9, 0.1], [0.7, 0.3]]))}
    targets = {"order": torch.tensor([0, 1])}
    assert task.losses(outputs, targets).tolist() == pytest.approx([-np.log(0.9), -np.log(0.3)])
    assert task.metrics(outputs, targets)["score"].tolist() == [1, 0]
    assert task.metrics(outputs, targets)["chance"].tolist() == [0.5, 0.5]


def test_refuses_what_cannot_be_cut() -> None:
    with pytest.raises(BadSetting, match="at least two tiles"):
        Jigen(grid=(1, 1, 1))
    assert (
        Jigen().refuse((32, 20, 32), np.ones(4, bool))
        == "too small for tiles of 8 voxels: 20 voxels for 3 tiles"
    )
