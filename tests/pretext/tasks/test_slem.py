"""The collage, its class, loss and metric; and what its guards hide."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.pretext.appearance import VariationSettings, vary
from slem_app.pretext.blocks import cell_map, coverage, cuts, slices
from slem_app.pretext.gates import histogram_probe
from slem_app.pretext.heads import BlockHead, pool_blocks
from slem_app.pretext.recipe import PretextRecipe
from slem_app.pretext.task import HeadView, NetworkMaps
from slem_app.pretext.tasks.slem import Slem, collage, word_scores
from slem_app.pretext.views import HeadViewSettings
from slem_app.volumes.cache import CaseCache

PLAIN = VariationSettings(intensity="none", noise=0.0, bias=0.0, blur=0.0, coarse=0.0)


def view(
    shape: tuple[int, int, int] = (32, 32, 16), present: tuple[bool, ...] = (True,) * 4, seed: int = 0
) -> HeadView:
    """A solid box of tissue; sequence s has values around 100 s, so that a voxel tells where it is from."""
    images = np.zeros((len(present), *shape), np.float32)
    inner = (slice(None), slice(2, -2), slice(2, -2), slice(2, -2))
    images[inner] = (
        np.random.default_rng(seed).uniform(1, 2, images[inner].shape)
        + 100 * np.arange(len(present))[:, None, None, None]
    )
    images[~np.array(present)] = 0
    return HeadView(images, np.array(present))


def test_a_collage_shows_in_each_block_the_sequence_of_its_word(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "slem_app.pretext.tasks.slem.vary", lambda image, tissue, spacing, rng, settings: image
    )
    seen = view()
    for grid in ((2, 2, 1), (2, 2, 2)):
        task = Slem(grid=grid)
        made = collage(seen, rng, task)
        assert set(np.unique(made.cells)) == set(range(task.blocks + 1))
        for block, sequence in enumerate(made.word, 1):
            inside = made.cells == block
            np.testing.assert_array_equal(made.image[inside], seen.images[sequence][inside])
        assert not made.image[made.cells == 0].any()


def test_cuts_are_gapped_and_moved(rng: np.random.Generator) -> None:
    seen, task = view((64, 64, 16)), Slem(jitter=0.1, gap=(0.05, 0.05))
    firsts = set()
    for _ in range(12):
        made = collage(seen, rng, task)
        column = (made.cells[2:-2, 5, 8] == 0).sum()
        assert column == 3  # 5 % of 60
        firsts.add(int(np.argmax(made.cells[2:-2, 5, 8] == 0)))
    assert len(firsts) > 4
    assert max(firsts) - min(firsts) <= 12


def test_blocks_without_tissue_are_drawn_again(rng: np.random.Generator) -> None:
    """A sequence cut off on one side is never asked for there."""
    seen = view()
    seen.images[2, 16:] = 0
    for _ in range(20):
        made = collage(seen, rng, Slem(jitter=0.0))
        assert 2 in made.word[:2]  # blocks 0 and 1 are the low half


def test_each_block_is_standardised_so_its_range_says_nothing(rng: np.random.Generator) -> None:
    made = collage(view(), rng, Slem())
    for block in range(1, 5):
        values = made.image[made.cells == block]
        assert abs(values.mean()) < 0.3
        assert 0.7 < values.std() < 1.3


def test_the_remap_never_swaps_two_intensities(rng: np.random.Generator) -> None:
    image = rng.normal(size=(12, 12, 12)).astype(np.float32)
    for intensity in ("remap", "rank"):
        varied = vary(
            image,
            np.ones_like(image, bool),
            (1.5, 1.5, 1.5),
            rng,
            VariationSettings(intensity=intensity, noise=0.0, bias=0.0, blur=0.0, coarse=0.0),
        )
        assert (np.diff(varied.ravel()[np.argsort(image.ravel())]) >= 0).all()
        assert not np.allclose(varied, image, atol=0.1)


def test_cells_and_coverage_of_a_hand_worked_cut(rng: np.random.Generator) -> None:
    edges = cuts((slice(0, 8), slice(0, 4), slice(0, 4)), (2, 1, 1), 0.0, rng)
    assert [e.tolist() for e in edges] == [[0, 4, 8], [0, 4], [0, 4]]
    assert slices(edges)[1] == (slice(4, 8), slice(0, 4), slice(0, 4))
    cells = cell_map((8, 4, 4), edges, (2, 0, 0))
    assert cells[:, 0, 0].tolist() == [1, 1, 1, 0, 0, 2, 2, 2]
    shares = coverage(cells, 2, 4)
    assert shares.shape == (2, 2, 1, 1)
    assert shares[:, :, 0, 0].tolist() == [[0.75, 0.0], [0.0, 0.75]]


def test_the_factorised_class_probability_of_a_hand_worked_example() -> None:
    """Two sequences, two blocks: p(block 0 is a) = 0.8, p(block 1 is a) = 0.4. Permutations: ab 0.8 x 0.6, ba
    0.2 x 0.4.
    """
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.4, 0.6]]))
    task = Slem(grid=(2, 1, 1))
    table = np.array([[0, 1], [1, 0]])
    assert word_scores(logits[None], table).exp()[0].tolist() == pytest.approx([0.48, 0.08])
    targets = {"word": torch.tensor([[0, 1]]), "present": torch.ones(1, 2, dtype=torch.bool)}
    assert task.losses({"blocks": logits[None]}, targets).item() == pytest.approx(-np.log(0.48 / 0.56))
    assert task.metrics({"blocks": logits[None]}, targets) == {
        "score": torch.ones(1),
        "blocks": torch.ones(1),
        "chance": torch.tensor([0.5]),
    }


def test_with_all_combinations_the_class_loss_is_the_sum_of_the_blocks() -> None:
    torch.manual_seed(0)
    logits, word = torch.randn(1, 4, 4), torch.tensor([[3, 3, 0, 1]])
    targets = {"word": word, "present": torch.ones(1, 4, dtype=torch.bool)}
    log = logits.log_softmax(dim=2)
    listed = (
        word_scores(log, np.array(list(np.ndindex(4, 4, 4, 4)))).logsumexp(dim=1)
        - word_scores(log, word.numpy())[:, 0]
    )
    loss = Slem(labels="all").losses({"blocks": logits}, targets)[0]
    assert loss.item() == pytest.approx(listed.item(), rel=1e-5)
    assert loss.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits[0], word[0], reduction="sum").item(), rel=1e-5
    )


def test_a_block_of_which_nothing_is_known_is_decoded_from_the_others() -> None:
    logits = torch.zeros(1, 4, 4)
    for block, sequence in ((0, 2), (1, 0), (3, 1)):
        logits[0, block, sequence] = 5
    targets = {"word": torch.tensor([[2, 0, 3, 1]]), "present": torch.ones(1, 4, dtype=torch.bool)}
    assert Slem().metrics({"blocks": logits}, targets)["score"].item() == 1


def test_an_absent_sequence_is_never_named() -> None:
    logits = torch.full((1, 4, 4), 0.0)
    logits[..., 2] = 50
    present = torch.tensor([[True, True, False, True]])
    for labels in ("permutations", "mds", "all"):
        task = Slem(labels=labels)
        named = task.named(
            {"blocks": logits}, {"word": torch.zeros(1, 4, dtype=torch.long), "present": present}
        )
        assert 2 not in named.tolist()[0]
        assert torch.isfinite(
            task.losses({"blocks": logits}, {"word": torch.tensor([[0, 1, 3, 0]]), "present": present})
        ).all()


def test_samples_of_a_case_that_lacks_a_sequence(rng: np.random.Generator) -> None:
    seen = view(present=(True, False, True, True))
    for _ in range(8):
        sample = Slem().sample(seen, rng, 4)
        assert set(sample.targets["word"].tolist()) == {0, 2, 3}


def test_pooled_features_are_means_over_the_block() -> None:
    feature_map = torch.arange(4.0).reshape(1, 1, 4, 1, 1)
    shares = torch.tensor([[1.0, 0.5, 0, 0], [0, 0, 1.0, 1.0], [0, 0, 0, 0]]).reshape(1, 3, 4, 1, 1)
    assert pool_blocks(feature_map, shares).flatten().tolist() == pytest.approx([1 / 3, 2.5, 0.0])


def test_only_a_head_that_keeps_the_place_of_blocks_can_learn() -> None:
    """Features that show in each block which sequence fills it: the block head names every class, a mean over
    the map none.
    """
    torch.manual_seed(0)
    task = Slem()
    table = torch.from_numpy(np.array(list(permutations(range(4)))))
    feature_map = torch.nn.functional.one_hot(table, 4).float().permute(0, 2, 1).reshape(24, 4, 2, 2, 1)
    targets = {"word": table, "present": torch.ones(24, 4, dtype=torch.bool)}

    def learn(shares: torch.Tensor) -> float:
        head = BlockHead(4, 4)
        optimizer = torch.optim.Adam(head.parameters(), 0.3)
        for _ in range(25):
            outputs = head(NetworkMaps([feature_map], None), {"coverage": shares})
            optimizer.zero_grad()
            task.losses(outputs, targets).mean().backward()
            optimizer.step()
        return task.metrics(outputs, targets)["score"].mean().item()

    in_place = torch.eye(4).reshape(1, 4, 2, 2, 1).expand(24, -1, -1, -1, -1)
    assert learn(in_place) == 1.0
    assert learn(torch.ones_like(in_place)) <= 2 / 24


def test_histograms_tell_plain_blocks_but_not_guarded_ones(cache: CaseCache) -> None:
    """Without the guards a linear classifier of histograms is far above the chance of 1/24; with them it is
    near it.
    """
    ids, look = cache.ids(), HeadViewSettings(shape=(32, 32, 32), spatial=0.0)
    plain = histogram_probe(cache, ids[:4], ids[4:], Slem(appearance=PLAIN), look, samples=48, measured=48)
    guarded = histogram_probe(cache, ids[:4], ids[4:], Slem(), look, samples=48, measured=48)
    assert plain.accuracy > 0.5
    assert guarded.accuracy < 0.15
    assert guarded.blocks < 0.45


def test_the_mlp_head_names_classes(recipe: Callable[..., PretextRecipe], rng: np.random.Generator) -> None:
    made = recipe(options={"head_kind": "mlp"})
    head = made.task.head(made.network)
    outputs = head(NetworkMaps([torch.randn(2, 16, 4, 4, 4)], None), {"coverage": torch.rand(2, 4, 4, 4, 4)})
    assert outputs["words"].shape == (2, 24)
    targets = {
        "word": torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]]),
        "present": torch.ones(2, 4, dtype=torch.bool),
    }
    certain = {"words": torch.nn.functional.one_hot(torch.tensor([0, 23]), 24) * 50.0}
    assert made.task.losses(certain, targets).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert made.task.metrics(certain, targets)["score"].tolist() == [1, 1]
    assert "lacks a sequence" in made.task.refuse((32, 32, 32), np.array([True, False, True, True]))


def test_the_confusion_counts_blocks_by_the_class_that_is_named() -> None:
    """Sequences 0 and 1 are taken for each other; a constant on one sequence's logits, which no class
    notices, changes nothing.
    """
    logits = torch.eye(4)[None] * 5
    logits[0, :2] = logits[0, [1, 0]]
    targets = {"word": torch.tensor([[0, 1, 2, 3]]), "present": torch.ones(1, 4, dtype=torch.bool)}
    expected = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert Slem().confusion({"blocks": logits}, targets).tolist() == expected
    logits[..., 2] += 9
    assert Slem().confusion({"blocks": logits}, targets).tolist() == expected


def test_says_the_class_in_words(rng: np.random.Generator) -> None:
    sample = Slem().sample(view(), rng, 4)
    first, second = Slem().describe(sample, ("t1n", "t1c", "t2w", "t2f"))
    assert first.endswith("of 24")
    assert sorted(second.split()) == ["t1c", "t1n", "t2f", "t2w"]


def test_refuses_impossible_options() -> None:
    with pytest.raises(BadSetting, match="2 to 64 blocks together"):
        Slem(grid=(1, 1, 1))
    with pytest.raises(BadSetting, match="labels 'some' must be one of permutations, all, even, mds"):
        Slem(labels="some")
    with pytest.raises(BadSetting, match="intensity 'invert': choose remap, rank or none"):
        VariationSettings(intensity="invert")
    assert (
        Slem().refuse((32, 12, 32), np.ones(4, bool))
        == "too small for blocks of 8 voxels: 12 voxels for 2 blocks"
    )
