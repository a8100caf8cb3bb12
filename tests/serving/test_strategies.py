"""Which case comes next."""

from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app.serving.datastore import CaseDatastore
from slem_app.serving.strategies import First, Random


def finish(datastore: CaseDatastore, case: str, tmp_path: Path) -> None:
    grid = datastore.cases.find(case).series.grid
    nibabel.save(nibabel.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.affine), tmp_path / "label.nii.gz")
    datastore.save_label(case, str(tmp_path / "label.nii.gz"), "final", {})


def test_first_goes_by_name_and_passes_over_what_is_done(datastore: CaseDatastore, tmp_path: Path) -> None:
    strategy = First()
    assert strategy({}, datastore) == {"id": "A"}
    finish(datastore, "A", tmp_path)
    assert strategy({}, datastore) == {"id": "B"}
    finish(datastore, "B", tmp_path)
    assert strategy({}, datastore) is None


def test_random_gives_all_and_rather_what_was_not_given_lately(datastore: CaseDatastore) -> None:
    strategy = Random(seed=0)
    assert set(Counter(strategy({"strategy": "random"}, datastore)["id"] for _ in range(40))) == {"A", "B"}
    datastore.update_image_info("A", {"strategy": {"random": {"ts": 2**31}}})
    assert {strategy({"strategy": "random"}, datastore)["id"] for _ in range(20)} == {"B"}


def test_random_with_a_seed_can_be_repeated(datastore: CaseDatastore) -> None:
    def draws() -> list[str]:
        strategy = Random(seed=3)
        return [strategy({}, datastore)["id"] for _ in range(10)]

    assert draws() == draws()


@pytest.mark.parametrize("strategy", [First(), Random(seed=0)])
def test_a_case_that_cannot_be_shown_is_passed_over(datastore: CaseDatastore, studies: Path, strategy: First | Random, tmp_path: Path) -> None:
    for path in (studies / "A").iterdir():
        path.rename(path.with_name(f"A-zz{path.name[-9]}{path.stat().st_size}.nii.gz"))  # no known sequence
    assert {strategy({}, datastore)["id"] for _ in range(5)} == {"B"}
    finish(datastore, "B", tmp_path)
    assert strategy({}, datastore) is None
