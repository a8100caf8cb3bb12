"""Training with a simulated reader: off unless asked for, exact on resume, harmless to automatic use, and the
network learns to listen.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app.errors import BadCard, BadSetting, BadWeights
from slem_app.finetune.interact import InteractiveLosses
from slem_app.finetune.loop import train
from slem_app.finetune.patches import Patches
from slem_app.finetune.recipe import load_recipe
from slem_app.finetune.run import finetune
from slem_app.finetune.settings import FinetuneSettings, InteractSettings
from slem_app.network import Segmenter, build
from slem_app.prompts import Click, Prompts, channel_count, encode
from slem_app.training import TrainingFailed
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache
from slem_app.weights import BRAIN_LABELS, Card, Model, load_model
from tests.finetune.conftest import COARSE, PLAIN, TINY, assert_same, checkpoint, varied

LISTENING = replace(TINY, prompts=8)
ALWAYS = InteractSettings(share=1.0, views=(12, 16), clicks=3)


def fresh(seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    return build(LISTENING)


def batch(cache: CaseCache, settings: FinetuneSettings, step: int = 0) -> tuple[torch.Tensor, ...]:
    return varied(
        Patches(cache, cache.ids(), settings), *range(step * settings.batch, (step + 1) * settings.batch)
    )


def losses(network: Segmenter, settings: FinetuneSettings) -> InteractiveLosses:
    return InteractiveLosses(network, BRAIN_LABELS, COARSE.spacing, settings)


def test_it_is_off_unless_asked_for(cache: CaseCache, settings, tmp_path: Path) -> None:
    assert InteractSettings().share == 0
    # needs neither labels nor prompt channels
    network = train(build(TINY), cache, cache.ids(), settings(steps=1), tmp_path, progress=False)
    assert "encoder.prompt.1.weight" not in network.state_dict()


def test_a_run_from_before_there_was_a_reader_goes_on(cache: CaseCache, settings, tmp_path: Path) -> None:
    for folder in ("old", "whole"):
        train(fresh(), cache, cache.ids(), settings(steps=2), tmp_path / folder, progress=False)
    saved = checkpoint(tmp_path / "old")
    del saved["settings"]["interact"]
    torch.save(saved, tmp_path / "old" / "checkpoint.pt")
    train(fresh(), cache, cache.ids(), settings(steps=2), tmp_path / "old", progress=False)
    with pytest.raises(BadSetting, match=r"interact.share': \(0.0, 1.0\)"):
        train(
            fresh(),
            cache,
            cache.ids(),
            settings(steps=2, interact=ALWAYS),
            tmp_path / "old",
            progress=False,
            labels=BRAIN_LABELS,
        )


def test_an_interactive_step_teaches_the_prompt_layer_and_spares_the_stem(cache: CaseCache, settings) -> None:
    network = fresh()
    losses(network, settings(interact=ALWAYS))(batch(cache, settings())).mean().backward()
    assert network.encoder.prompt[1].weight.grad.abs().sum() > 0
    assert network.encoder.levels[0][0].first[0].weight.grad.abs().sum() > 0
    assert all(
        p.grad is None for p in (*network.encoder.stem.parameters(), *network.encoder.fusion.parameters())
    )


def test_an_automatic_step_is_the_step_without_a_reader(cache: CaseCache, settings) -> None:
    plain = settings()
    first, second = fresh(), fresh()
    never = replace(ALWAYS, share=1e-9)
    one = losses(first, replace(plain, interact=never))(batch(cache, plain))
    from slem_app.finetune.loop import _Losses

    other = _Losses(second, plain.deep_weights)(batch(cache, plain))
    assert torch.equal(one, other)


def test_about_half_of_the_steps_are_interactive(cache: CaseCache, settings) -> None:
    run = settings(steps=40, interact=replace(ALWAYS, share=0.5))
    network = fresh()
    kinds = []
    for step in range(40):
        network.zero_grad(set_to_none=True)
        losses(network, run)(batch(cache, run, step)).mean().backward()
        kinds.append(network.encoder.prompt[1].weight.grad is not None)
    assert 12 <= sum(kinds) <= 28


def test_a_killed_run_goes_on_as_if_nothing_had_happened(cache: CaseCache, settings, tmp_path: Path) -> None:
    run = settings(steps=4, interact=replace(ALWAYS, share=0.6))

    def stop(step: int, _: torch.nn.Module) -> None:
        if step == 2:
            raise KeyboardInterrupt

    train(fresh(), cache, cache.ids(), run, tmp_path / "whole", progress=False, labels=BRAIN_LABELS)
    with pytest.raises(KeyboardInterrupt):
        train(
            fresh(),
            cache,
            cache.ids(),
            run,
            tmp_path / "cut",
            progress=False,
            labels=BRAIN_LABELS,
            on_checkpoint=stop,
        )
    train(fresh(5), cache, cache.ids(), run, tmp_path / "cut", progress=False, labels=BRAIN_LABELS)
    assert_same(checkpoint(tmp_path / "cut"), checkpoint(tmp_path / "whole"))


def test_the_same_sample_is_always_seen_with_the_same_clicks(cache: CaseCache, settings) -> None:
    run, network = settings(interact=ALWAYS), fresh()
    with torch.no_grad():
        values = [float(losses(network, run)(batch(cache, run, step))) for step in (0, 0, 1)]
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_without_prompts_a_trained_network_is_as_with_prompts_of_zero(
    cache: CaseCache, settings, tmp_path: Path
) -> None:
    network = train(
        fresh(), cache, cache.ids(), settings(interact=ALWAYS), tmp_path, progress=False, labels=BRAIN_LABELS
    )
    assert network.encoder.prompt[1].weight.abs().sum() > 0
    images, present = torch.randn(1, 4, 16, 16, 16), torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(network(images, present), network(images, present, torch.zeros(1, 8, 16, 16, 16)))


def test_the_network_learns_to_listen(cache: CaseCache, settings, tmp_path: Path) -> None:
    run = settings(
        steps=60,
        rate=1e-2,
        foreground=1.0,
        augment=PLAIN,
        save_every=100,
        interact=replace(ALWAYS, views=(16,), wrong=0.0, box=0.0, scribbles=0.0),
    )
    network = train(fresh(), cache, cache.ids(), run, tmp_path, progress=False, labels=BRAIN_LABELS).eval()
    rises = []
    for step in range(10):
        images, present, *_ = batch(cache, run, step)
        fused = network.fuse(images[:1], present[:1])
        grid = Grid((16, 16, 16), np.diag([*COARSE.spacing, 1.0]))
        told = encode(
            Prompts().with_click(Click.on(grid, (8, 8, 8), "enhancing tumor")),
            grid,
            BRAIN_LABELS,
            np.zeros(grid.shape, np.uint8),
        )
        with torch.no_grad():
            heard, before = (
                network.deep_fused(fused, torch.from_numpy(told)[None])[0],
                network.deep_fused(fused, torch.zeros(1, 8, 16, 16, 16))[0],
            )
        rises.append(float((heard - before)[0, :, 8, 8, 8].mean()))
    assert sum(r > 0 for r in rises) >= 9
    assert np.mean(rises) > 0.1


def test_refuses_what_it_cannot_train(cache: CaseCache, settings, tmp_path: Path) -> None:
    with pytest.raises(
        BadSetting, match="interact.share is set: training with a simulated reader needs the model's labels"
    ):
        train(fresh(), cache, cache.ids(), settings(interact=ALWAYS), tmp_path, progress=False)
    with pytest.raises(BadSetting, match="the card's network.prompts must be 8 for these labels, it is 0"):
        train(
            build(TINY),
            cache,
            cache.ids(),
            settings(interact=ALWAYS),
            tmp_path,
            progress=False,
            labels=BRAIN_LABELS,
        )
    for views in ((10,), (32,)):
        with pytest.raises(BadSetting, match="each must be a multiple of 4 voxels and fit the patch"):
            losses(fresh(), settings(interact=replace(ALWAYS, views=views)))
    for bad in ({"share": 1.5}, {"clicks": 0}, {"views": ()}, {"reach": 0.0}, {"wrong": -1.0}):
        with pytest.raises(BadSetting, match="interact: shares lie in 0..1"):
            InteractSettings(**bad)


def test_a_loss_that_is_no_number_still_names_its_case(cache: CaseCache, settings, tmp_path: Path) -> None:
    network = fresh()
    with torch.no_grad():
        network.head.bias.fill_(float("nan"))
    with pytest.raises((TrainingFailed, BadWeights), match="case0|not finite"):
        train(
            network,
            cache,
            cache.ids(),
            settings(interact=ALWAYS),
            tmp_path,
            progress=False,
            labels=BRAIN_LABELS,
        )


def test_clicks_go_on_from_a_model_without_them(cache: CaseCache, settings, tmp_path: Path) -> None:
    recipe = load_recipe("brain_clicks")
    small = replace(recipe.card, network=LISTENING, preparation=COARSE)
    recipe = replace(
        recipe,
        card=small,
        settings=settings(steps=1, rate=1e-9, average=1e-9, weight_decay=0.0, interact=ALWAYS),
    )
    automatic = replace(small, network=TINY)
    torch.manual_seed(3)
    parent = Model(automatic, build(TINY), tmp_path)
    card = finetune(recipe, cache, cache.ids(), tmp_path / "run", parent, progress=False)
    assert card.network.prompts == 8
    assert card.parent == "slem_brain 2"
    state = checkpoint(tmp_path / "run")["network"]
    for name, tensor in parent.network.state_dict().items():
        torch.testing.assert_close(state[name], tensor, atol=1e-6, rtol=0)
    assert state["encoder.prompt.1.weight"].abs().max() < 1e-6


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_the_parents_own_weights_change_as_much_as_is_kept(
    kept: float, cache: CaseCache, settings, tmp_path: Path
) -> None:
    recipe = load_recipe("brain_clicks")
    small = replace(recipe.card, network=LISTENING, preparation=COARSE)
    recipe = replace(
        recipe,
        card=small,
        settings=settings(steps=2, rate=1e-2, average=0.0, interact=replace(ALWAYS, kept=kept)),
    )
    torch.manual_seed(3)
    parent = Model(replace(small, network=TINY), build(TINY).half().float(), tmp_path)
    finetune(recipe, cache, cache.ids(), tmp_path / "run", parent, progress=False)
    before, after = parent.network.state_dict(), load_model(tmp_path / "run" / "model").network.state_dict()
    same = all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert same == (kept == 0)
    trained = checkpoint(tmp_path / "run")["network"]["head.weight"]
    torch.testing.assert_close(
        after["head.weight"],
        before["head.weight"] + kept * (trained - before["head.weight"]),
        atol=2e-3,
        rtol=2e-2,
    )
    assert after["encoder.prompt.1.weight"].abs().max() > 0


def test_refuses_a_parent_that_differs_in_more_than_prompts(
    cache: CaseCache, settings, tmp_path: Path
) -> None:
    recipe = load_recipe("brain_clicks")
    recipe = replace(
        recipe,
        card=replace(recipe.card, network=LISTENING, preparation=COARSE),
        settings=settings(interact=ALWAYS),
    )
    other = replace(TINY, stem_channels=4)
    parent = Model(replace(recipe.card, network=other), build(other), tmp_path)
    with pytest.raises(BadWeights, match="slem_brain has another network than the recipe"):
        finetune(recipe, cache, cache.ids(), tmp_path / "run", parent, progress=False)


def test_the_bundled_recipe_continues_the_automatic_one() -> None:
    clicks, brain = load_recipe("brain_clicks"), load_recipe("brain")
    assert clicks.card.network.prompts == channel_count(clicks.card.labels)
    assert replace(clicks.card.network, prompts=0) == brain.card.network
    assert (clicks.card.labels, clicks.card.preparation) == (brain.card.labels, brain.card.preparation)
    assert clicks.settings.interact.share == 0.5
    assert clicks.settings.interact.kept == 0  # automatic results stay those of the parent
    assert load_recipe("brain_clicks", interact={"share": 0.25}).settings.interact == replace(
        clicks.settings.interact, share=0.25
    )
    with pytest.raises((BadCard, BadSetting), match="unknown key 'sahre'"):
        load_recipe("brain_clicks", interact={"sahre": 0.25})
    assert isinstance(clicks.card, Card)
