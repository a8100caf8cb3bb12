"""From studies of any layout to the cache: labels are not needed, as many sequences as the task
asks for are.
"""

from pathlib import Path

import numpy as np

from slem_app.phantom import Phantom, write_nifti
from slem_app.pretext.cases import gather
from slem_app.studies import open_source
from slem_app.volumes.cache import CaseCache
from slem_app.weights import BRAIN_SEQUENCES
from tests.pretext.conftest import PREPARATION


def test_studies_without_labels_and_with_missing_sequences_are_taken(
    phantoms: list[Phantom], tmp_path: Path
) -> None:
    write_nifti(phantoms[0], tmp_path / "a", "whole", labels=False)
    thin = write_nifti(phantoms[1], tmp_path / "a", "thin", labels=False)
    for sequence in ("t1n", "t1c", "t2w"):
        (thin / f"thin-{sequence}.nii.gz").unlink()
    partial = write_nifti(phantoms[2], tmp_path / "a", "partial")
    (partial / "partial-t1n.nii.gz").unlink()
    cache = CaseCache(tmp_path / "cache")
    found = gather(open_source(tmp_path / "a"), cache, BRAIN_SEQUENCES, PREPARATION, 2)
    assert sorted(found.ready) == ["partial", "whole"]
    assert list(found.skipped) == ["thin"]
    assert "has 1 of the sequences t1n, t1c, t2w, t2f, this pretext needs at least 2" in found.skipped["thin"]
    assert sorted(gather(open_source(tmp_path / "a"), cache, BRAIN_SEQUENCES, PREPARATION, 1).ready) == [
        "partial",
        "thin",
        "whole",
    ]
    case = cache.load("partial")
    assert case.present.tolist() == [False, True, True, True]
    assert not np.any(case.images[0])
    assert case.regions is None


def test_two_folders_may_hold_cases_of_one_name(phantoms: list[Phantom], tmp_path: Path) -> None:
    for folder, case in (("a", phantoms[0]), ("b", phantoms[1])):
        write_nifti(case, tmp_path / folder, "case", labels=False)
        write_nifti(case, tmp_path / folder, "other", labels=False)
    cache, ready = CaseCache(tmp_path / "cache"), []
    for folder in ("a", "b"):
        ready += gather(open_source(tmp_path / folder), cache, BRAIN_SEQUENCES, PREPARATION, 2, ready).ready
    assert len(set(ready)) == 4
    assert not np.array_equal(cache.load(ready[0]).images, cache.load(ready[2]).images)


def test_a_damaged_file_costs_its_own_case_only(phantoms: list[Phantom], tmp_path: Path) -> None:
    write_nifti(phantoms[0], tmp_path / "a", "good", labels=False)
    bad = write_nifti(phantoms[1], tmp_path / "a", "bad", labels=False)
    (bad / "bad-t2f.nii.gz").write_bytes((bad / "bad-t2f.nii.gz").read_bytes()[:2000])
    found = gather(
        open_source(tmp_path / "a"), CaseCache(tmp_path / "cache"), BRAIN_SEQUENCES, PREPARATION, 2
    )
    assert found.ready == ("good",)
    assert "bad-t2f.nii.gz" in found.skipped["bad"]
