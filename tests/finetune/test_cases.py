"""Studies with truth become cached cases; what cannot be used is left out with its name and the reason."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app.errors import BadLabel, StorageFailed
from slem_app.finetune.cases import CachingReport, cache_cases, truth
from slem_app.phantom import Phantom, make, write_nifti
from slem_app.studies import open_source
from slem_app.volumes.cache import CaseCache
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES
from tests.finetune.conftest import COARSE


def caching(folder: Path, cache: CaseCache, coding: str | None = None, seen=None) -> CachingReport:
    return cache_cases(open_source(folder, coding), cache, BRAIN_SEQUENCES, COARSE, BRAIN_LABELS, seen)


def relabel(case: Path, change) -> None:
    """Rewrite the case's segmentation."""
    path = next(case.glob("*seg.nii.gz"))
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asanyarray(image.dataobj).copy()), image.affine), path)


@pytest.fixture
def two(tmp_path, phantoms: list[Phantom]) -> Path:
    for name, phantom in zip(("good", "other"), phantoms):
        write_nifti(phantom, tmp_path / "studies", name, layout="brats2018")
    return tmp_path / "studies"


def test_regions_lie_where_the_labels_are(two, tmp_path, phantoms):
    cache, told = CaseCache(tmp_path / "cache"), []
    report = caching(two, cache, seen=told.append)
    assert report == CachingReport(("good", "other"), {}, {"good": "good", "other": "other"})
    assert told == ["good", "other"]
    case = cache.load("good")
    assert case.present.all()
    for region, mask in zip(case.regions, BRAIN_LABELS.region_masks(phantoms[0].labels)):
        # voxels of one size on both grids
        assert region.sum(dtype=float) / 255 == pytest.approx(mask.sum(), rel=0.02)
        middle = case.grid.to_world(np.argwhere(region > 0)).T @ region[region > 0] / region.sum(dtype=float)
        np.testing.assert_allclose(
            middle, phantoms[0].grid.to_world(np.argwhere(mask)).mean(axis=0), atol=0.2
        )


def test_truth_is_in_the_models_values(two, phantoms):
    array, grid = truth(open_source(two).study("good"), BRAIN_LABELS)
    np.testing.assert_array_equal(array, phantoms[0].labels)  # 4 in the file, 3 here
    assert grid.same_as(phantoms[0].grid)


def test_a_second_time_nothing_is_prepared_until_a_file_changes(two, tmp_path, monkeypatch):
    cache = CaseCache(tmp_path / "cache")
    caching(two, cache)
    added = []
    add = CaseCache.add
    monkeypatch.setattr(
        CaseCache, "add", lambda self, case, *rest: added.append(case) or add(self, case, *rest)
    )
    assert caching(two, cache).ready == ("good", "other")
    assert added == []
    relabel(two / "other", lambda a: np.where(a == 4, 1, a))
    caching(two, cache)
    assert added == ["other"]
    assert not len(cache.load("other").anchors[2])


def test_sequences_that_are_missing_are_flags(two, tmp_path):
    next((two / "good").glob("*_t2.nii.gz")).unlink()
    cache = CaseCache(tmp_path / "cache")
    assert "good" in caching(two, cache).ready
    assert cache.load("good").present.tolist() == [True, True, False, True]


def damaged(case: Path) -> None:
    path = next(case.glob("*_t1ce.nii.gz"))
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda case: relabel(case, lambda a: np.where(a == 4, 3, a)),
            r"coding cannot be determined: values \[1, 2, 3\].*--coding NAME",
        ),
        (
            lambda case: relabel(case, lambda a: np.where(a == 4, 9, a)),
            r"coding cannot be determined: values \[1, 2, 9\]",
        ),
        (lambda case: relabel(case, lambda a: a.astype(np.float32) / 2), "label map holds whole numbers"),
        (lambda case: next(case.glob("*seg.nii.gz")).unlink(), "no segmentation"),
        (damaged, "t1ce.*(truncated|not a readable)"),
        (
            lambda case: (
                [p.unlink() for p in case.glob("*") if "seg" not in p.name and "_t1" not in p.name]
                and damaged(case)
            ),
            "t1ce",
        ),
    ],
    ids=[
        "coding of another year",
        "unknown value",
        "fractions",
        "no truth",
        "damaged image",
        "damaged image among two",
    ],
)
def test_a_case_that_cannot_be_used_is_left_out_with_its_reason(two, tmp_path, spoil, reason):
    spoil(two / "other")
    report = caching(two, CaseCache(tmp_path / "cache"))
    assert report.ready == ("good",)
    assert list(report.skipped) == ["other"]
    with pytest.raises(BadLabel, match=reason):
        raise BadLabel(report.skipped["other"])


def test_a_declared_coding_decides(two, tmp_path):
    for case in ("good", "other"):
        relabel(two / case, lambda a: np.where(a == 4, 3, a))
    assert caching(two, CaseCache(tmp_path / "a")).ready == ()
    assert caching(two, CaseCache(tmp_path / "b"), coding="brats2023").ready == ("good", "other")


def test_a_segmentation_of_elsewhere_is_left_out(two, tmp_path):
    path = next((two / "other").glob("*seg.nii.gz"))
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += 500
    moved = nibabel.Nifti1Image(np.asanyarray(image.dataobj).copy(), affine)
    nibabel.save(moved, path)
    report = caching(two, CaseCache(tmp_path / "cache"))
    assert "other: its segmentation lies outside the images" in report.skipped["other"]


def test_a_segmentation_on_its_own_finer_grid_is_brought_over(tmp_path):
    phantom = make(1, (44, 52, 38), (4.0, 4.0, 4.0))
    case = write_nifti(phantom, tmp_path / "studies", "a", layout="brats2023")
    cache = CaseCache(tmp_path / "cache")
    caching(tmp_path / "studies", cache)
    coarse = cache.load("a").regions[:].astype(float).sum()
    path = next(case.glob("*seg.nii.gz"))
    fine = np.repeat(np.repeat(np.repeat(np.asanyarray(nibabel.load(path).dataobj), 2, 0), 2, 1), 2, 2)
    affine = phantom.grid.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] = phantom.grid.to_world(np.full(3, -0.25))
    nibabel.save(nibabel.Nifti1Image(fine, affine), path)
    caching(tmp_path / "studies", cache)
    assert cache.load("a").regions[:].astype(float).sum() == pytest.approx(coarse, rel=0.1)


def test_a_full_disk_is_no_fault_of_a_case(two, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StorageFailed, match="case 'good' could not be written"):
        caching(two, CaseCache(tmp_path / "cache"))
