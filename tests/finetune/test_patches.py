"""Patches by number: always the same, in rounds over all cases, around tumour as often as wished."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app.errors import BadStudy
from slem_app.finetune.patches import Patches
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.prepare import Prepared
from tests.finetune.conftest import PLAIN, varied

STATUS = Path("/proc/self/status")


def test_a_patch_is_known_by_its_number(cache, settings):
    one, other = Patches(cache, cache.ids(), settings()), Patches(cache, cache.ids(), settings())
    other[3], other[0]  # in any order
    for n in (7, 2):
        for a, b in zip((*one[n][:3], *varied(one, n)), (*other[n][:3], *varied(other, n))):
            assert torch.equal(a, b)
    assert not torch.equal(one[2][0], one[4][0])
    assert not torch.equal(varied(one, 2)[0], varied(one, 4)[0])
    different = Patches(cache, cache.ids(), settings(seed=1))
    assert not torch.equal(one[2][0], different[2][0])
    assert one.variation(2, 4).seed != different.variation(2, 4).seed


def test_a_patch_is_the_same_in_any_batch(cache, settings):
    patches = Patches(cache, cache.ids(), settings())
    for together, alone in zip(varied(patches, 5, 3), varied(patches, 3)):
        assert torch.equal(together[1], alone[0])


def test_shapes_and_kinds(cache, settings):
    patches = Patches(cache, cache.ids(), settings(patch=(16, 24, 8), steps=3))
    images, present, regions, number = patches[4]
    assert len(patches) == 6
    assert number == 4
    assert (images.dtype, present.dtype, regions.dtype) == (torch.float16, torch.bool, torch.uint8)
    images, present, regions, numbers = varied(patches, 4, 0)
    assert images.shape == (2, 4, 16, 24, 8)
    assert present.shape == (2, 4)
    assert regions.shape == (2, 3, 16, 24, 8)
    assert numbers.tolist() == [4, 0]
    assert (images.dtype, present.dtype, regions.dtype) == (torch.float32, torch.bool, torch.float32)
    assert 0 <= regions.min() <= regions.max() <= 1 + 1e-6


def test_every_case_comes_once_a_round(cache, settings, monkeypatch):
    seen = []
    load = CaseCache.load
    monkeypatch.setattr(CaseCache, "load", lambda self, case: seen.append(case) or load(self, case))
    patches = Patches(cache, cache.ids(), settings(steps=8))
    for n in range(16):
        patches[n]
    rounds = [tuple(seen[n : n + 2]) for n in range(0, 16, 2)]
    assert all(set(r) == {"case0", "case1"} for r in rounds)
    assert len(set(rounds)) == 2  # the order changes


def test_foreground_decides_how_often_there_is_tumour(cache, settings):
    shares = []
    for foreground in (0.0, 1.0):
        patches = Patches(
            cache, cache.ids(), settings(steps=20, foreground=foreground, augment=PLAIN, patch=(8, 8, 8))
        )
        shares.append(np.mean([float(patches[n][2].max()) > 127 for n in range(40)]))
    assert shares[1] > 0.9
    assert shares[0] < shares[1] - 0.2


def test_a_patch_larger_than_the_head_is_padded_with_zeros(cache, settings):
    images, _, regions, _ = Patches(cache, cache.ids(), settings(patch=(64, 64, 64)))[0]
    whole = [cache.load(case) for case in cache.ids()]
    assert any(int(regions.sum()) == int(case.regions[:].sum(dtype=int)) for case in whole)
    assert (images == 0).float().mean() > 0.7


def case_with(cache: CaseCache, present: tuple[bool, ...], truth: bool = True) -> None:
    grid = Grid((16, 16, 16), np.eye(4))
    images = np.ones((4, *grid.shape), np.float32)
    prepared = Prepared(images, np.array(present), ("t1n", "t1c", "t2w", "t2f"), grid, grid)
    cache.add("a", prepared, np.zeros((3, *grid.shape), np.float32) if truth else None, "k")


def test_a_sequence_that_is_missing_stays_missing(tmp_path, settings):
    cache = CaseCache(tmp_path)
    case_with(cache, (False, True, False, False))
    patches = Patches(cache, ("a",), settings(steps=50))
    assert {tuple(row) for row in varied(patches, *range(100))[1].tolist()} == {(False, True, False, False)}


def test_sequences_are_dropped_and_one_always_stays(tmp_path, settings):
    cache = CaseCache(tmp_path)
    case_with(cache, (True, True, True, False))
    kept = varied(Patches(cache, ("a",), settings(steps=100)), *range(200))[1]
    assert kept.any(dim=1).all()
    assert not kept[:, 3].any()
    assert ((kept[:, :3].float().mean(dim=0) - 0.75).abs() < 0.12).all()


def test_a_case_without_any_tumour_is_sampled_too(tmp_path, settings):
    cache = CaseCache(tmp_path)
    case_with(cache, (True, True, True, True))
    assert not Patches(cache, ("a",), settings(foreground=1.0))[0][2].any()


def test_a_case_without_truth_is_refused(tmp_path, settings):
    cache = CaseCache(tmp_path)
    case_with(cache, (True, True, True, True), truth=False)
    with pytest.raises(BadStudy, match="case 'a' in the cache has no truth"):
        Patches(cache, ("a",), settings())[0]


def test_no_case_is_refused(cache, settings):
    with pytest.raises(BadStudy, match="no labelled case to train on"):
        Patches(cache, (), settings())


def anonymous_memory() -> int:
    """kB of this process that belong to no file."""
    return next(
        int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("RssAnon")
    )


@pytest.mark.skipif(not STATUS.exists(), reason="memory is measured as Linux tells it")
def test_memory_does_not_grow_with_the_number_of_cases(cache, settings, tmp_path):
    many = CaseCache(tmp_path)
    for n in range(160):
        shutil.copytree(cache.folder / "case0", tmp_path / f"c{n:03d}", copy_function=os.link)
    used = []
    for count in (16, 16, 160):
        patches = Patches(many, many.ids()[:count], settings(steps=80, augment=PLAIN))
        for n in range(len(patches)):
            patches[n]
        used.append(anonymous_memory())
    assert used[2] - used[1] < 4096, used
