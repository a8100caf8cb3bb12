"""What readers were given, and what a saved label therefore is: the model's, corrected, or drawn by hand."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from slem_app.serving.cases.case import Case
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.models import last_result
from slem_app.serving.models.last_result import LastResults, ResultOrigin

MODEL = ResultOrigin("AUTOMATIC", "slem_brain", "2")
CLICKED = ResultOrigin("SEMIAUTOMATIC", "slem_brain", "2")


@pytest.fixture
def case(cases: Cases) -> Case:
    return cases.find("A")


@pytest.fixture
def array(case: Case) -> np.ndarray:
    return np.ones(case.series.grid.shape, np.uint8)


@pytest.mark.parametrize("making", [MODEL, CLICKED])
def test_a_label_saved_as_it_was_given_is_what_was_given(
    case: Case, array: np.ndarray, tmp_path: Path, making: ResultOrigin
) -> None:
    given = LastResults(tmp_path, 2**24)
    given.note("eva@1", case, making, array)
    assert given.making("eva@1", "A", array.copy(), case.series.grid) == making
    assert given.last("eva@1", "A").image == "t1c"
    assert given.last("kim@1", "A") is None
    assert given.last("eva@1", "B") is None


def test_an_edited_one_is_semiautomatic_after_a_restart_too(
    case: Case, array: np.ndarray, tmp_path: Path
) -> None:
    LastResults(tmp_path, 2**24).note("eva@1", case, MODEL, array)
    for given in (LastResults(tmp_path, 2**24), LastResults(tmp_path, 1)):
        assert given.making("eva@1", "A", array * 0, case.series.grid) == CLICKED
        assert given.last("eva@1", "A") is None


def test_without_a_model_it_is_drawn_by_hand(case: Case, array: np.ndarray, tmp_path: Path) -> None:
    given = LastResults(tmp_path, 2**24)
    given.note("eva@1", case, MODEL, array)
    assert given.making("kim@1", "A", array, case.series.grid) == ResultOrigin("MANUAL")
    # an earlier label may have been the start
    assert given.making("kim@1", "A", array, case.series.grid, CLICKED) == CLICKED


def test_each_case_has_its_own_file(case: Case, array: np.ndarray, tmp_path: Path) -> None:
    LastResults(tmp_path / "given", 2**24).note("eva@1", case, MODEL, array)
    assert [path.name for path in (tmp_path / "given").iterdir()] == ["A.json"]


def test_a_full_disk_or_a_damaged_file_costs_no_result(
    case: Case, array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    given = LastResults(tmp_path, 1)  # no label map is kept in memory
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        given.note("eva@1", case, MODEL, array)
        given.note("kim@1", case, MODEL, array)
        assert given.making("eva@1", "A", array * 0, case.series.grid) == CLICKED
    assert not (tmp_path / "A.json").exists()
    given.note("eva@1", case, MODEL, array)  # the disk has space again: all that was not written is
    assert LastResults(tmp_path, 1).making("kim@1", "A", array * 0, case.series.grid) == CLICKED
    for text in ("{", "[]", '{"eva@1": 1}', '{"eva@1": {"kind": "AUTOMATIC", "more": 1}}', "\udcff"):
        (tmp_path / "A.json").write_bytes(text.encode(errors="surrogateescape"))
        again = LastResults(tmp_path, 1)
        assert again.making("eva@1", "A", array * 0, case.series.grid) == ResultOrigin("MANUAL")
        again.note("eva@1", case, MODEL, array)
        assert LastResults(tmp_path, 1).making("eva@1", "A", array * 0, case.series.grid) == CLICKED


def test_readers_of_a_case_are_not_remembered_without_end(
    case: Case, array: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_result, "READERS", 3)
    given = LastResults(tmp_path, 2**24)
    for name in ("eva", "kim", "lea", "eva", "max", "tom"):
        given.note(f"{name}@1", case, MODEL, array)
        given.note(f"{name}@1", case, CLICKED, array)
    assert [given.origin(f"{name}@1", "A") for name in ("kim", "lea")] == [None, None]
    assert [given.origin(f"{name}@1", "A") for name in ("eva", "max", "tom")] == [CLICKED] * 3
