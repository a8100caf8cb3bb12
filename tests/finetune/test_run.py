"""One whole fine-tuning: the model it leaves, the parent it starts from, the device it runs on."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting, BadWeights
from slem_app.finetune.cases import cache_cases
from slem_app.finetune.recipe import FinetuneRecipe, load_recipe
from slem_app.finetune.run import device_of_this_process, finetune
from slem_app.network import SegmenterConfig
from slem_app.phantom import write_nifti
from slem_app.predict import Predictor
from slem_app.studies import open_source
from slem_app.training.state import Curve
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.prepare import Prepared
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, load_model, save_model
from tests.finetune.conftest import COARSE, TINY, assert_same


@pytest.fixture
def recipe(settings) -> FinetuneRecipe:
    card = replace(load_recipe("brain").card, name="tiny", network=TINY, preparation=COARSE)
    return FinetuneRecipe(card, settings(steps=2))


def test_it_leaves_a_model_that_loads(cache, recipe, tmp_path):
    card = finetune(recipe, cache, cache.ids(), tmp_path, progress=False)
    model = load_model(tmp_path / "model")
    assert model.card == card
    assert card.training.startswith("2 cases, 2 steps of 2 patches, seed 0")
    assert card.parent == ""
    assert card.file.endswith(".safetensors")


def test_each_of_the_15_sets_of_sequences_is_trained_on(phantoms, recipe, tmp_path):
    """Missing ones stay flags on the way from the files to the network, and the model takes each set."""
    for lacking in (lacking for count in range(4) for lacking in combinations(BRAIN_SEQUENCES, count)):
        kept = replace(
            phantoms[0],
            images={name: image for name, image in phantoms[0].images.items() if name not in lacking},
        )
        write_nifti(kept, tmp_path / "studies", "without-" + "-".join(lacking))
    cache = CaseCache(tmp_path / "cache")
    report = cache_cases(open_source(tmp_path / "studies"), cache, BRAIN_SEQUENCES, COARSE, BRAIN_LABELS)
    assert (len(report.ready), report.skipped) == (15, {})
    for case in report.ready:
        assert cache.load(case).present.tolist() == [name not in case for name in BRAIN_SEQUENCES]
    run = replace(recipe, settings=replace(recipe.settings, steps=8))
    finetune(run, cache, report.ready, tmp_path / "run", progress=False)
    assert np.isfinite([float(row["loss"]) for row in Curve.read(tmp_path / "run" / "losses.csv")]).all()
    predictor = Predictor(load_model(tmp_path / "run" / "model"))
    for case in report.ready:
        cached = cache.load(case)
        found = predictor.predict(
            Prepared(
                np.array(cached.images, dtype=np.float32),
                cached.present,
                BRAIN_SEQUENCES,
                cached.grid,
                cached.grid,
            )
        )
        assert found.missing == tuple(name for name in BRAIN_SEQUENCES if name in case)


def test_the_seed_decides_the_weights(cache, recipe, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        finetune(
            replace(recipe, settings=replace(recipe.settings, seed=seed)),
            cache,
            cache.ids(),
            tmp_path / name,
            progress=False,
        )
    a, b, c = (load_model(tmp_path / name / "model").network.state_dict() for name in "abc")
    assert_same(a, b)
    assert not torch.equal(a["head.weight"], c["head.weight"])


def test_a_parent_is_where_it_starts(cache, recipe, tmp_path):
    finetune(recipe, cache, cache.ids(), tmp_path / "first", progress=False)
    parent = load_model(tmp_path / "first" / "model")
    still = replace(recipe, settings=replace(recipe.settings, steps=1, rate=1e-12))
    card = finetune(still, cache, cache.ids(), tmp_path / "second", parent, progress=False)
    assert card.parent == "tiny 1"
    child = load_model(tmp_path / "second" / "model")
    for name, value in parent.network.state_dict().items():
        torch.testing.assert_close(child.network.state_dict()[name], value, atol=1e-5, rtol=1e-3)


def test_a_parent_of_another_network_is_refused(cache, recipe, tmp_path):
    from slem_app.network import build

    other = replace(recipe.card, network=replace(TINY, channels=(8, 24)))
    save_model(tmp_path / "parent", other, build(other.network))
    with pytest.raises(BadWeights, match="tiny has another network than the recipe"):
        finetune(
            recipe, cache, cache.ids(), tmp_path / "run", load_model(tmp_path / "parent"), progress=False
        )


def test_a_network_too_large_to_be_saved_is_refused_before_it_is_trained(cache, recipe, tmp_path):
    wide = SegmenterConfig(
        channels=(64, 512), stem_channels=8, blocks=(1, 1), context_levels=(1,), deep_supervision=0
    )
    with pytest.raises(BadWeights, match="makes a file above 16 MiB: use fewer channels"):
        finetune(
            replace(recipe, card=replace(recipe.card, network=wide)),
            cache,
            cache.ids(),
            tmp_path / "run",
            progress=False,
        )
    assert not (tmp_path / "run").exists()


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of_this_process("auto") == "cuda:3"
    assert device_of_this_process("cuda") == "cuda:3"
    assert device_of_this_process("cuda:1") == "cuda:1"
    assert device_of_this_process("cpu") == "cpu"
    with pytest.raises(BadSetting, match="there is no device cuda:4: torch sees 4 GPUs"):
        device_of_this_process("cuda:4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of_this_process("auto") == "cpu"
    with pytest.raises(BadSetting, match="no device cuda:3: torch sees 0 GPUs here; use auto or cpu"):
        device_of_this_process("cuda")
    with pytest.raises(BadSetting, match="unknown device 'tpux'"):
        device_of_this_process("tpux")
