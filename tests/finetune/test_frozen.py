"""Which parts of a network learn, and how fast: a frozen trunk, lower levels, a pre-trained decoder."""

from pathlib import Path

import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.finetune import loop as finetune_loop
from slem_app.finetune.loop import train
from tests.finetune.conftest import assert_same, checkpoint, fresh


def moved(folder: Path, network: torch.nn.Module) -> set[str]:
    """Parts of the network whose weights a run has changed."""
    fresh_state, now = network, checkpoint(folder)["network"]
    changed = {name for name, value in fresh_state.items() if not torch.equal(value, now[name])}
    return {".".join(name.split(".")[: 2 if name.startswith("encoder") else 1]) for name in changed}


ALL = {
    "encoder.stem",
    "encoder.fusion",
    "encoder.down",
    "encoder.levels",
    "encoder.context",
    "decoder",
    "head",
}


TRUNK = {"encoder.stem", "encoder.down", "encoder.levels", "encoder.context"}


def test_a_frozen_trunk_learns_later_or_never(cache, settings, tmp_path):
    start = {name: value.clone() for name, value in fresh().state_dict().items()}
    for name, frozen in (("plain", 0.0), ("half", 0.5), ("probe", 1.0)):
        seen = []
        quick = settings(frozen=frozen, save_every=1, weight_decay=0.1)
        train(
            fresh(),
            cache,
            cache.ids(),
            quick,
            tmp_path / name,
            progress=False,
            on_checkpoint=lambda *_, seen=seen, name=name: seen.append(moved(tmp_path / name, start)),
        )
        assert len(seen) == 4
        assert seen[1] == (ALL if frozen == 0 else ALL - TRUNK)
        assert seen[3] == (ALL - TRUNK if frozen == 1 else ALL)


def test_a_fresh_part_is_not_frozen(cache, settings, tmp_path):
    start = {name: value.clone() for name, value in fresh().state_dict().items()}
    train(fresh(), cache, cache.ids(), settings(frozen=1.0, fresh=("context",)), tmp_path, progress=False)
    assert moved(tmp_path, start) == ALL - TRUNK | {"encoder.context"}


def test_a_frozen_run_continues_bit_for_bit(cache, settings, tmp_path):
    quick = settings(frozen=0.5, layer_decay=0.5, save_every=1)
    train(fresh(), cache, cache.ids(), quick, tmp_path / "whole", progress=False)

    class Stop(Exception):
        pass

    def stop(step: int, _: torch.nn.Module) -> None:
        if step == 1:
            raise Stop

    with pytest.raises(Stop):
        train(fresh(), cache, cache.ids(), quick, tmp_path / "cut", progress=False, on_checkpoint=stop)
    train(fresh(), cache, cache.ids(), quick, tmp_path / "cut", progress=False)
    assert_same(checkpoint(tmp_path / "cut"), checkpoint(tmp_path / "whole"))


def test_lower_levels_learn_slower(settings):
    network = fresh()  # two levels
    quick = settings(layer_decay=0.5, encoder_rate=0.4)
    factor = finetune_loop._factors(network, quick, finetune_loop._trunk(network, quick))
    names = [
        "head.weight",
        "decoder.up.0.weight",
        "encoder.fusion.project",
        "encoder.context.1.expand.weight",
        "encoder.levels.1.0.first.0.weight",
        "encoder.down.1.weight",
        "encoder.levels.0.0.first.0.weight",
        "encoder.stem.conv.0.weight",
    ]
    assert set(names) <= set(network.state_dict())
    assert [factor(name) for name in names] == pytest.approx([1, 1, 1, 0.2, 0.2, 0.2, 0.1, 0.05])
    assert finetune_loop._factors(network, settings(), {}) is None


def test_a_pretrained_decoder_is_frozen_and_slowed_with_the_trunk(cache, settings, tmp_path):
    start = {name: value.clone() for name, value in fresh().state_dict().items()}
    quick = settings(frozen=1.0, encoder_rate=0.4, layer_decay=0.5)
    train(fresh(), cache, cache.ids(), quick, tmp_path, progress=False, decoder=True)
    assert moved(tmp_path, start) == ALL - TRUNK - {"decoder"}
    trunk = finetune_loop._trunk(fresh(), quick, decoder=True)
    factor = finetune_loop._factors(fresh(), quick, trunk)
    assert factor("decoder.up.0.weight") == pytest.approx(0.4)
    kept = finetune_loop._trunk(fresh(), settings(fresh=("decoder",)), decoder=True)
    assert not any(name.startswith("decoder") for name in kept)


@pytest.mark.parametrize("changes", [{"frozen": 1.5}, {"encoder_rate": -1.0}, {"layer_decay": 0.0}])
def test_impossible_rates_are_refused(settings, changes):
    with pytest.raises(
        BadSetting,
        match="frozen must lie between 0 and 1, encoder_rate must not be negative, layer_decay above 0",
    ):
        settings(**changes)
