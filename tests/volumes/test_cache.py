"""The training cache: whole cases or none, mapped instead of loaded, prepared again when anything changed."""

import json
import mmap
import os

import numpy as np
import pytest

from slem_app.errors import BadVolume, NotFound, StorageFailed
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache, fingerprint
from slem_app.volumes.prepare import Prepared

GRID = Grid((8, 6, 4), np.diag([1.5, 1.5, 1.5, 1.0]))


def prepared(value: float = 1.0, present: tuple[bool, ...] = (True, False)) -> Prepared:
    images = np.full((2, *GRID.shape), value, np.float32)
    images[1] = np.nan  # what a missing sequence's channel holds means nothing
    return Prepared(images, np.array(present), ("t1n", "t2w"), GRID, GRID)


def regions() -> np.ndarray:
    masks = np.zeros((3, *GRID.shape), np.float32)
    masks[0, 2:6] = 1
    masks[1, 3, 3] = 0.6
    return masks


def test_a_case_comes_back(tmp_path):
    cache = CaseCache(tmp_path)
    cache.add("a", prepared(), regions(), "k")
    case = cache.load("a")
    assert cache.ids() == ("a",)
    np.testing.assert_array_equal(case.images[0], 1)
    np.testing.assert_array_equal(case.images[1], 0)  # never NaN
    assert case.present.tolist() == [True, False]
    np.testing.assert_array_equal(case.regions[1, 3, 3], 153)
    np.testing.assert_allclose(case.grid.affine, GRID.affine)
    assert [len(a) for a in case.anchors] == [96, 4, 0]
    assert all(regions()[0][tuple(voxel)] for voxel in case.anchors[0])


def test_without_truth(tmp_path):
    cache = CaseCache(tmp_path)
    cache.add("a", prepared(), None, "k")
    assert cache.load("a").regions is None
    assert cache.load("a").anchors == ()


def test_arrays_are_mapped_not_loaded(tmp_path):
    cache = CaseCache(tmp_path)
    cache.add("a", prepared(), regions(), "k")
    case = cache.load("a")
    assert isinstance(case.images, np.memmap)
    assert isinstance(case.regions, np.memmap)
    assert isinstance(case.images.base, mmap.mmap)


def test_anchors_are_spread_over_all_of_a_region(tmp_path):
    grid = Grid((40, 30, 1), np.eye(4))
    mask = np.zeros((1, 40, 30, 1), np.float32)
    mask[0, 2:35] = 1  # 990 voxels, fewer than twice what is kept
    cache = CaseCache(tmp_path)
    cache.add(
        "a", Prepared(np.ones((1, 40, 30, 1), np.float32), np.array([True]), ("t1n",), grid, grid), mask, "k"
    )
    anchors = cache.load("a").anchors[0]
    assert len(anchors) == 512
    assert anchors[:, 0].min() == 2
    assert anchors[:, 0].max() == 34


def test_another_key_means_prepare_again(tmp_path):
    cache = CaseCache(tmp_path)
    cache.add("a", prepared(), regions(), "k")
    assert cache.has("a", "k")
    assert not cache.has("a", "other")
    assert not cache.has("b", "k")
    cache.add("a", prepared(2.0), None, "other")
    assert cache.has("a", "other")
    assert cache.load("a").images[0, 0, 0, 0] == 2
    assert cache.load("a").regions is None
    assert os.listdir(tmp_path) == ["a"]


def test_the_fingerprint_follows_settings_and_files(tmp_path):
    file = tmp_path / "t1.nii"
    file.write_bytes(b"abc")
    one = fingerprint("x", 1, files=[file])
    assert fingerprint("x", 1, files=[file]) == one
    assert fingerprint("x", 2, files=[file]) != one
    os.utime(file, ns=(1, 1))
    assert fingerprint("x", 1, files=[file]) != one
    file.write_bytes(b"abcd")
    os.utime(file, ns=(1, 1))
    assert fingerprint("x", 1, files=[file]) != one


def test_an_open_case_outlives_its_replacement(tmp_path):
    cache = CaseCache(tmp_path)
    cache.add("a", prepared(1.0), regions(), "k")
    case = cache.load("a")
    cache.add("a", prepared(2.0), regions(), "k2")
    np.testing.assert_array_equal(case.images[0], 1)


def test_a_writer_that_was_killed_leaves_no_case(tmp_path, monkeypatch):
    cache = CaseCache(tmp_path)
    cache.add("a", prepared(1.0), regions(), "k")
    monkeypatch.setattr(CaseCache, "_put", lambda *_: os._exit(9))
    child = os.fork()
    if child == 0:
        cache.add("b", prepared(), regions(), "k")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert any(name.startswith(".b") for name in os.listdir(tmp_path))
    assert cache.ids() == ("a",)
    with pytest.raises(NotFound, match="case 'b' is not in the cache"):
        cache.load("b")


def test_two_writers_of_one_case_do_not_disturb_each_other(tmp_path, monkeypatch):
    """Another process puts the same case in place between our two renames."""
    cache = CaseCache(tmp_path)
    rename = type(tmp_path).rename

    def slow(self, target):
        if self.name.startswith(".a.") and not target.name.endswith(".old") and not target.exists():
            target.mkdir()
            (target / "meta.json").write_text(json.dumps({"key": "theirs"}))
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", slow)
    cache.add("a", prepared(), regions(), "ours")
    assert cache.has("a", "theirs")
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_keeps_the_older_form(tmp_path, monkeypatch):
    cache = CaseCache(tmp_path)
    cache.add("a", prepared(1.0), regions(), "k")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(
        StorageFailed,
        match="case 'a' could not be written to the cache .*No space left on device: free space",
    ):
        cache.add("a", prepared(2.0), regions(), "k2")
    assert cache.has("a", "k")
    assert cache.load("a").images[0, 0, 0, 0] == 1
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("file", ["meta.json", "images.npy"])
def test_a_spoilt_case_is_refused_by_name_and_prepared_again(tmp_path, file):
    cache = CaseCache(tmp_path)
    cache.add("a", prepared(), regions(), "k")
    (tmp_path / "a" / file).write_bytes(b"")
    with pytest.raises(BadVolume, match="case 'a' in the cache .* is damaged .*: delete its folder"):
        cache.load("a")
    assert cache.has("a", "k") == (file != "meta.json")


def test_it_makes_room_but_keeps_what_is_needed(tmp_path):
    cache = CaseCache(tmp_path)
    for age, name in enumerate("cba"):
        cache.add(name, prepared(), regions(), "k")
        os.utime(tmp_path / name / "meta.json", (1e9 - age, 1e9 - age))
    size = sum(path.stat().st_size for path in (tmp_path / "a").iterdir())
    assert cache.evict({"a"}, 3 * size) == ()
    assert cache.evict({"a"}, 2 * size) == ("b",)
    assert cache.evict({"a"}, 0) == ("c",)
    assert cache.ids() == ("a",)
