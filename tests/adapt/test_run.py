"""What an adaptation learns, what it leaves alone, and how it is measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app.adapt import AdaptSettings, adapt
from slem_app.adapt.losses import Adapted, AdaptLosses, Batch, divergence
from slem_app.adapt.run import agreement
from slem_app.adapt.samples import Views
from slem_app.errors import BadSetting, BadStudy
from slem_app.network import Segmenter
from slem_app.pretext.views import HeadViewSettings
from slem_app.volumes.cache import CaseCache
from slem_app.weights import Model, load_model

QUICK = AdaptSettings(steps=4, batch=2, save_every=2, rate=5e-3, view=HeadViewSettings(shape=(32, 32, 32)))


@pytest.fixture
def model(served: Path) -> Model:
    return load_model(served)


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in network.parameters()])


def learns_from(model: Model, cache: CaseCache, folder: Path, **changes: object) -> Segmenter:
    settings = replace(QUICK, **changes)
    return adapt(model, cache, cache.ids(), settings, folder, progress=False).network


def test_the_model_learns_and_its_parent_stays(model: Model, cache: CaseCache, tmp_path: Path) -> None:
    before = weights(model.network)
    report = adapt(model, cache, cache.ids(), QUICK, tmp_path, ["case1"], progress=False)
    assert not torch.equal(weights(report.network), before)
    assert torch.equal(weights(model.network), before)
    assert report.used == ("case0", "case1")
    assert "adapted without labels to 2 studies, 4 steps of 2 views" in report.card.training
    assert (report.card.parent, report.card.sha256) == ("slem_brain 1", "")


def test_a_run_that_was_cut_off_ends_the_same(model: Model, cache: CaseCache, tmp_path: Path) -> None:
    whole = learns_from(model, cache, tmp_path / "whole")

    def cut(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(model, cache, cache.ids(), QUICK, tmp_path / "cut", progress=False, on_checkpoint=cut)
    torch.testing.assert_close(weights(learns_from(model, cache, tmp_path / "cut")), weights(whole))


def test_while_the_head_learns_alone_the_model_stays(model: Model, cache: CaseCache, tmp_path: Path) -> None:
    network = learns_from(model, cache, tmp_path, head_first=0.99)
    assert torch.equal(weights(network), weights(model.network))


def test_at_first_only_missing_sequences_differ(model: Model, cache: CaseCache) -> None:
    """A student that is its teacher differs from it only where sequences are missing."""
    views = Views(cache, cache.ids(), QUICK, model.card.network.multiple)
    one = views[0]
    batch = Batch(
        *({n: t[None] for n, t in part.items()} if isinstance(part, dict) else part[None] for part in one)
    )
    loss = AdaptLosses(Adapted(model.network), model.network, replace(QUICK, naming=0.0))
    complete = batch._replace(subset=batch.present)
    assert loss(complete).item() == pytest.approx(0, abs=1e-5)
    assert 0 < int(batch.subset.sum()) < int(batch.present.sum())


def test_a_divergence_asks_nothing_of_what_was_said() -> None:
    answer = torch.zeros(1, 1, 4, 4, 4, requires_grad=True)
    said = torch.full((1, 1, 4, 4, 4), 3.0, requires_grad=True)
    divergence(answer, said).sum().backward()
    assert said.grad is None
    assert (answer.grad < 0).all()  # it is to rise


def test_the_agreement_of_a_model_with_itself_is_whole(model: Model, cache: CaseCache) -> None:
    network = _finding_everything(model.network)
    found = agreement(network, network, model.card, cache, cache.ids(), "cpu")
    assert found["all"] == 1
    assert set(found) == {"all", "one missing", "one alone"}
    none = agreement(model.network, model.network, model.card, cache, [], "cpu")
    assert none == {}


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadSetting, match="head_first"):
        AdaptSettings(head_first=1.0)
    with pytest.raises(BadSetting, match="positive"):
        AdaptSettings(steps=0)


def test_an_empty_archive_is_refused(cache: CaseCache) -> None:
    with pytest.raises(BadStudy, match="two or more sequences"):
        Views(cache, [], QUICK, 8)


def _finding_everything(network: Segmenter) -> Segmenter:
    with torch.no_grad():
        network.head.bias.fill_(3.0)
    return network


def test_views_are_the_same_for_the_same_number(model: Model, cache: CaseCache) -> None:
    one, other = (Views(cache, cache.ids(), QUICK, model.card.network.multiple) for _ in range(2))
    assert torch.equal(one[3].images, other[3].images)
    assert not np.array_equal(one[3].images, one[2].images)
