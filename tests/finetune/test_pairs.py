"""Pairs of complete set and subset: every subset comes as often as it should, the loss is the one of the
formula, the complete set learns nothing from the divergence.
"""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from slem_app.errors import BadSetting
from slem_app.finetune import pairs as pairs_module
from slem_app.finetune.loop import train
from slem_app.finetune.losses import deep_loss
from slem_app.finetune.pairs import PairedLosses, divergence, draw_subset, proper_subsets
from slem_app.finetune.patches import Patches
from slem_app.finetune.settings import AugmentSettings, PairSettings
from slem_app.network import build
from slem_app.weights import BRAIN_SEQUENCES
from tests.finetune.conftest import PLAIN, TINY, assert_same, checkpoint, varied

ALL = (True,) * 4


def losses(settings, **pairs) -> PairedLosses:
    torch.manual_seed(0)
    quick = settings(augment=PLAIN, pairs=PairSettings(on=True, **pairs))
    return PairedLosses(build(TINY), BRAIN_SEQUENCES, quick)


def test_every_subset_but_the_complete_one_and_none():
    assert len(proper_subsets(ALL)) == 14
    assert set(proper_subsets((True, False, True))) == {(True, False, False), (False, False, True)}
    assert proper_subsets((False, True)) == []


def test_subsets_come_evenly_and_the_hard_ones_twice():
    rng, hard = np.random.default_rng(0), [(True, False, False, False), (True, True, False, False)]
    count = Counter(draw_subset(rng, ALL, hard) for _ in range(16_000))
    assert len(count) == 14
    for subset, times in count.items():
        assert times / 16_000 == pytest.approx((2 if subset in hard else 1) / 16, abs=0.01)


def test_one_sequence_alone_stays():
    assert draw_subset(np.random.default_rng(0), (False, True, False, False)) == (False, True, False, False)


def test_a_subset_that_a_case_cannot_have_is_not_drawn():
    rng = np.random.default_rng(0)
    drawn = {draw_subset(rng, (False, True, True, True), [(True, False, False, False)]) for _ in range(200)}
    assert not any(flags[0] for flags in drawn)
    assert len(drawn) == 6


def test_the_divergence_is_zero_for_equal_logits_and_else_that_of_bernoulli():
    logits = torch.randn(1, 3, 4, 4, 4)
    assert divergence(logits, logits).item() == pytest.approx(0, abs=1e-7)
    p, q = 0.8, 0.3
    one, other = (torch.full((1, 1, 2, 2, 2), float(np.log(x / (1 - x)))) for x in (p, q))
    expected = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert divergence(one, other).item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(divergence(200 * one, -200 * other))


def test_the_complete_set_learns_nothing_from_the_divergence():
    subset, complete = (torch.randn(1, 1, 2, 2, 2, requires_grad=True) for _ in range(2))
    divergence(subset, complete).backward()
    assert subset.grad.abs().sum() > 0
    assert complete.grad is None


def test_the_loss_is_that_of_both_passes_by_themselves(cache, settings, monkeypatch):
    monkeypatch.setattr(pairs_module, "best_precision", lambda device: "float32")  # on every processor
    both = losses(settings, consistency=0.5, ramp=0.0)
    batch = varied(Patches(cache, cache.ids(), both.settings), 0, 1)
    images, present, regions, numbers = batch
    subset = torch.stack([both._subset(*pair) for pair in zip(present, numbers.tolist())])
    assert (subset.sum(dim=1) < 4).all()
    whole, part = both.network.deep(images, present), both.network.deep(images, subset)
    weights = both.settings.deep_weights
    expected = (deep_loss(whole, regions, weights) + deep_loss(part, regions, weights)) / 2
    expected = expected + 0.5 * divergence(part[0], whole[0])
    assert both(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_weight_of_the_divergence_rises(settings):
    both = losses(settings, consistency=0.5, ramp=0.5)  # 4 steps of 2
    assert [both._weight(number) for number in (0, 2, 4, 6)] == pytest.approx([0, 0.25, 0.5, 0.5])


def test_sequences_that_are_not_there_are_named(settings):
    with pytest.raises(BadSetting, match=r"pairs\.twice names dwi: the sequences here are t1n, t1c"):
        losses(settings, twice=(("t1n", "dwi"),))


def test_dropping_and_pairs_exclude_each_other(settings):
    with pytest.raises(BadSetting, match=r"set augment\.keep_sequence to 1"):
        settings(pairs=PairSettings(on=True))
    with pytest.raises(BadSetting, match=r"ramp lies in 0\.\.1"):
        PairSettings(ramp=2)


def test_a_killed_paired_run_continues_bit_for_bit(cache, settings, tmp_path):
    quick = settings(
        augment=AugmentSettings(keep_sequence=1),
        pairs=PairSettings(on=True, twice=(("t1n",),)),
        soup=0.5,
        save_every=1,
    )

    class Stop(Exception):
        pass

    def stop(step: int, _: torch.nn.Module) -> None:
        if step == 3:
            raise Stop

    def run(name: str, **more) -> torch.nn.Module:
        torch.manual_seed(0)
        folder = tmp_path / name
        return train(
            build(TINY), cache, cache.ids(), quick, folder, progress=False, sequences=BRAIN_SEQUENCES, **more
        )

    whole = run("whole")
    with pytest.raises(Stop):
        run("cut", on_checkpoint=stop)
    rest = run("cut")
    assert_same(checkpoint(tmp_path / "cut"), checkpoint(tmp_path / "whole"))
    assert_same(dict(rest.state_dict()), dict(whole.state_dict()))


def test_a_step_of_pairs_reaches_every_weight(cache, settings):
    both = losses(settings)
    batch = next(iter(DataLoader([varied(Patches(cache, cache.ids(), both.settings), 0)], batch_size=None)))
    both(batch).backward()
    unmoved = [name for name, p in both.network.named_parameters() if p.grad is None]
    assert unmoved == []
