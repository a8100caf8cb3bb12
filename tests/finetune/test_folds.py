"""Folds hold every case once, and share out what is rare."""

import pytest

from slem_app.errors import BadStudy
from slem_app.finetune.folds import folds


def test_folds_hold_every_case_once_in_any_order():
    ids = [f"c{n}" for n in range(10)]
    split = folds(ids[::-1], 4)
    assert split == folds(ids, 4)
    assert sorted(case for fold in split for case in fold) == ids
    assert {len(fold) for fold in split} == {2, 3}
    with pytest.raises(BadStudy, match="3 cases cannot be split into 4 folds"):
        folds(["a", "b", "c", "c"], 4)


def test_folds_share_out_what_is_rare():
    ids = [f"c{n:02}" for n in range(24)]
    strata = {
        case: 0 if n in (3, 4, 5) else 1 if n in (0, 6, 12, 18, 21, 22) else 2 for n, case in enumerate(ids)
    }
    split = folds(ids, 6, strata)
    assert split == folds(ids[::-1], 6, strata)
    assert sorted(case for fold in split for case in fold) == ids
    for stratum, each in ((0, {0, 1}), (1, {1}), (2, {2, 3})):
        assert {sum(strata[case] == stratum for case in fold) for fold in split} == each
