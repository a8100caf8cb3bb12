"""Masked restoration: what is hidden, what counts."""

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.pretext.task import HeadView
from slem_app.pretext.tasks.masked import Masked, draw_mask


def test_cubes_are_hidden_in_each_sequence_by_itself(rng: np.random.Generator) -> None:
    mask = draw_mask((8, 8, 6), 3, (4, 4, 4), 0.5, rng)
    assert mask.shape == (3, 8, 8, 6)
    for one in mask:
        cubes = one[:, :, :4].reshape(2, 4, 2, 4, 4)
        assert all(len(set(cubes[i, :, j].ravel())) == 1 for i in range(2) for j in range(2))
        assert sum(one[i, j, k] for i in (0, 4) for j in (0, 4) for k in (0, 5)) == 4
    assert (mask[0] != mask[1]).any()


def test_dropped_sequences_are_flags_and_are_restored_too(rng: np.random.Generator) -> None:
    images = rng.uniform(1, 2, (4, 8, 8, 8)).astype(np.float32)
    images[3] = 0
    view, task, dropped = (
        HeadView(images, np.array([True, True, True, False])),
        Masked(cube=6.0, share=0.5, drop=0.5),
        0,
    )
    for _ in range(20):
        sample = task.sample(view, rng, 4)
        present, where = sample.inputs["present"], sample.targets["where"]
        assert present.any()
        assert not present[3]
        assert not where[3].any()  # never there, so never asked for
        for s in range(3):
            assert where[s].all() if not present[s] else where[s].float().mean() == 0.5
        hidden = sample.inputs["images"][:3] == 0
        assert (where[:3] | ~hidden).all()
        dropped += int((~present[:3]).sum())
    assert 10 < dropped < 50


def test_loss_of_a_hand_worked_example() -> None:
    truth, restored = torch.zeros(1, 2, 2, 1, 1), torch.tensor([2.0, 5.0, 1.0, 5.0]).reshape(1, 2, 2, 1, 1)
    where = torch.tensor([True, False, True, False]).reshape(1, 2, 2, 1, 1)
    assert Masked().losses({"restored": restored}, {"truth": truth, "where": where}).tolist() == [2.5]
    assert Masked(power=1).losses({"restored": restored}, {"truth": truth, "where": where}).tolist() == [1.5]


def test_refuses_impossible_options() -> None:
    with pytest.raises(BadSetting, match="share and drop between 0 and 1"):
        Masked(share=1.0)


def test_cubes_are_measured_in_mm(rng: np.random.Generator) -> None:
    images = np.ones((2, 16, 16, 8), np.float32)
    coarse = HeadView(images, np.ones(2, bool), (4.0, 4.0, 8.0))
    hidden = Masked(cube=16.0, drop=0.0).sample(coarse, rng, 4).inputs["images"][0] == 0
    cubes = hidden.reshape(4, 4, 4, 4, 4, 2).permute(0, 2, 4, 1, 3, 5).reshape(64, -1)  # 4 x 4 x 2 voxels
    assert (cubes.all(dim=1) | ~cubes.any(dim=1)).all()
    assert cubes.all(dim=1).sum() == 48
