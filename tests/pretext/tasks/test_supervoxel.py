"""Kayal's inpainting: supervoxels without labels, the hole, the error in it."""

import builtins
from collections.abc import Callable

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.pretext.recipe import PretextRecipe
from slem_app.pretext.restore import explained, masked_error
from slem_app.pretext.samples import Samples, annotate
from slem_app.pretext.task import HeadView
from slem_app.pretext.tasks.supervoxel import Supervoxel, supervoxels
from slem_app.volumes.cache import CaseCache


def test_supervoxels_follow_intensities_and_cover_the_head() -> None:
    images = np.zeros((2, 16, 16, 8), np.float32)
    head = np.zeros((16, 16, 8), bool)
    head[2:14, 2:14] = True
    images[:, head] = 1
    images[:, 2:8][:, head[2:8]] = 5
    found = supervoxels(images, head, count=8, compactness=0.01)
    assert ((found > 0) == head).all()
    halves = [set(np.unique(found[2:8])) - {0}, set(np.unique(found[8:14])) - {0}]
    assert not halves[0] & halves[1]  # none crosses the edge


def test_the_hole_is_blank_in_every_sequence_and_only_tissue_counts(rng: np.random.Generator) -> None:
    images = rng.uniform(1, 2, (3, 8, 8, 8)).astype(np.float32)
    images[0, :2] = 0
    notes = np.repeat(np.arange(1, 9, dtype=np.int32), 64).reshape(8, 8, 8)
    sample = Supervoxel().sample(HeadView(images, np.ones(3, bool), notes=notes), rng, 4)
    hole = (sample.inputs["images"] == 0) & (sample.targets["truth"] != 0)
    torch.testing.assert_close(hole, sample.targets["where"])
    assert sample.targets["where"][1:].sum() == 2 * 64
    assert not sample.targets["where"][0, :2].any()


def test_loss_and_metric_of_a_hand_worked_example() -> None:
    truth = torch.tensor([1.0, 3.0, 9.0]).reshape(1, 1, 3, 1, 1)
    restored = torch.tensor([2.0, 3.0, 0.0]).reshape(1, 1, 3, 1, 1)
    where = torch.tensor([True, True, False]).reshape(1, 1, 3, 1, 1)
    assert masked_error(restored, truth, where, 2).tolist() == [0.5]
    assert masked_error(restored, truth, where, 1).tolist() == [0.5]
    assert explained(restored, truth, where).tolist() == [0.5]  # squared error 1 of the mean's 2
    # variance of 1, 3, 9
    assert explained(restored, truth, where, among=truth != 0).tolist() == pytest.approx(
        [1 - 0.5 / (104 / 9)]
    )
    assert masked_error(restored, truth, torch.zeros_like(where), 2).tolist() == [0]
    assert Supervoxel().losses({"restored": restored}, {"truth": truth, "where": where}).tolist() == [0.5]


def test_a_uniform_supervoxel_is_scored_by_the_head_it_lies_in() -> None:
    truth = torch.tensor([-1.0, 1.0, 0.5, 0.5]).reshape(1, 1, 4, 1, 1)
    where = torch.tensor([False, False, True, True]).reshape(1, 1, 4, 1, 1)
    figures = Supervoxel().metrics(
        {"restored": torch.full_like(truth, 0.25)}, {"truth": truth, "where": where}
    )
    assert figures["score"].tolist() == pytest.approx([1 - 0.0625 / 0.5625])
    assert figures["chance"].tolist() == [0]


def test_supervoxels_are_made_once_and_kept_beside_the_case(
    cache: CaseCache, recipe: Callable[..., PretextRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe("supervoxel", options={"count": 30})
    ids = cache.ids()[:2]
    annotate(cache, ids, made.task)
    monkeypatch.setattr(Supervoxel, "annotate", lambda *_: pytest.fail("made twice"))
    annotate(cache, ids, made.task)
    sample = Samples(cache, ids, made.task, made.settings.view, 4, 4)[0]
    assert sample.inputs["images"].shape == (4, 32, 32, 32)
    assert 0 < sample.targets["where"].any(dim=0).sum() < 4000


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object):
        if name.startswith("skimage"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        BadSetting,
        match=(
            "supervoxels need scikit-image: pip install scikit-image, or fill the cache on a machine "
            "that has it"
        ),
    ):
        supervoxels(np.ones((1, 4, 4, 4)), np.ones((4, 4, 4), bool), 2, 0.1)
