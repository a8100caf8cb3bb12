"""The hold-out: decided once a case, the same everywhere, never moved by other cases, and the user has the
last word.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slem_app.errors import BadSetting, StorageFailed
from slem_app.rounds import holdout
from slem_app.rounds.holdout import HoldOut, split

PROJECT = Path(__file__).parents[2]
MANY = [f"case {number}" for number in range(400)]
TRAINS, VALIDATES = ("a", "c", "d", "h"), ("b", "f", "g")  # by their hashes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store" / "hold_out.yaml"


def kept(file: Path) -> dict[str, str]:
    return json.loads((file.parent / "hold_out.decided.json").read_text())


def test_about_the_share_validates_and_every_case_is_on_one_side() -> None:
    found = split(MANY, None)
    assert sorted((*found.train, *found.validate)) == sorted(MANY)
    assert 50 < len(found.validate) < 110
    assert set(found.validate) < set(split(MANY, None, 0.4).validate)
    assert (found.trusted, found.note) == (True, "")


def test_is_the_same_in_another_process_and_whatever_the_order(file: Path) -> None:
    code = f"from slem_app.rounds.holdout import split; print(*split({MANY[::-1]!r}, None).validate, sep='|')"
    env = {**os.environ, "PYTHONHASHSEED": "5"}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=env, capture_output=True, text=True, check=True
    ).stdout
    assert tuple(told.strip().split("|")) == split(MANY, file).validate


def test_never_drifts_when_cases_come_and_go(file: Path) -> None:
    sides: dict[str, bool] = {}
    for cases in (MANY[:3], MANY[:1], MANY[5:9], MANY[2:60], MANY[50:300], MANY[7:8], MANY):
        found = split(cases, file)
        for case in cases:
            assert sides.setdefault(case, case in found.validate) == (case in found.validate)


@pytest.mark.parametrize("order", list(itertools.permutations(TRAINS[:3])))
def test_one_of_two_that_come_one_by_one_is_held_out_and_none_that_was_trained_on(
    file: Path, order: tuple[str, ...]
) -> None:
    first, second, _ = order
    assert split([first], file) == HoldOut((first,), (), False, split([first], file).note)
    assert "no labelled case is held out" in split([first], file).note
    assert (split([first, second], file).train, split([first, second], file).validate) == (
        (first,),
        (second,),
    )
    assert split(order, file).validate == (second,)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_there_is_always_something_to_train_on(file: Path, count: int) -> None:
    found = split(VALIDATES[:count], file)
    assert len(found.train) == 1
    assert len(found.validate) == count - 1
    after = split([*VALIDATES[:count], *TRAINS], file)
    assert set(found.train) <= set(after.train)
    assert set(found.validate) <= set(after.validate)


def test_of_two_that_come_together_the_nearest_validates(file: Path) -> None:
    assert split(["h", "a"], file).validate == ("a",)


def test_no_case_that_was_trained_on_is_moved_to_validate(file: Path) -> None:
    split(["a", "c"], file)
    found = split(["c"] if "c" in split(["a", "c"], file).train else ["a"], file)
    assert found.validate == ()
    assert "do not trust it" in found.note


@pytest.mark.parametrize(("count", "trusted"), [(2, False), (4, False), (5, True), (7, True)])
def test_fewer_than_five_are_not_trusted(file: Path, count: int, trusted: bool) -> None:
    found = split(list("abcdefg")[:count], file)
    assert found.trusted == trusted
    assert found.note == (
        ""
        if trusted
        else f"the metric was measured on 1 of {count} labelled cases: do not trust it below 5 labelled cases"
    )


def test_the_user_has_the_last_word(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("validate: [h, not labelled]\ntrain: [b]\n")
    found = split([*TRAINS, *VALIDATES], file)
    assert (found.train, found.validate, found.note) == (("a", "b", "c", "d"), ("f", "g", "h"), "")
    file.write_text("validate: [a]\n")
    found = split([*TRAINS, *VALIDATES], file)
    # b was trained on, h is decided by its hash
    assert (found.train, found.validate) == (("b", "c", "d", "h"), ("a", "f", "g"))
    assert found.note == (
        "cases that are held out now (a) may have been trained on before: the metric may be too high"
    )


def test_his_lists_may_leave_nothing_to_train_on(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("validate: [a, c]")
    found = split(["a", "c"], file)
    assert (found.train, found.trusted) == ((), False)
    assert "none is left to train on" in found.note


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("validate: [a]\ntrain: [a]", "a is listed under both `validate` and `train`"),
        ("test: [a]", "expected lists of cases under `validate` and `train`"),
        ("validate: a", "validate must be a list of case ids"),
        ("train: [12]", "train must be a list of case ids, numbers in quotes"),
        ("- a", "expected lists"),
        ("validate: [", "cannot be read"),
    ],
)
def test_tells_what_is_wrong_with_his_file(file: Path, text: str, why: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(BadSetting, match=why):
        split(["a"], file)
    assert not (file.parent / "hold_out.decided.json").exists()


def test_damaged_decisions_are_told_not_made_anew(file: Path) -> None:
    split(["a", "b"], file)
    (file.parent / "hold_out.decided.json").write_text('{"a": "tr')
    with pytest.raises(BadSetting, match=r"hold_out\.decided\.json cannot be read"):
        split(["a", "b"], file)
    (file.parent / "hold_out.decided.json").write_text('{"a": "other"}')
    with pytest.raises(BadSetting, match="restore it from a backup"):
        split(["a", "b"], file)


def test_a_full_disk_is_told_and_keeps_the_decisions(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split(["a", "b"], file)
    before = kept(file)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert split(["a", "b"], file).validate == ("b",)  # nothing new to write
    with pytest.raises(StorageFailed, match=r"hold_out\.decided\.json could not be written: No space left"):
        split(["a", "b", "c"], file)
    assert kept(file) == before


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_refuses_an_impossible_share(share: float) -> None:
    with pytest.raises(BadSetting, match="between 0 and 1"):
        split(["a"], None, share)


def test_a_share_of_nothing_holds_out_nothing() -> None:
    assert split(MANY, None, 0).validate == ()
    assert not split(MANY, None, 0).trusted
    assert len(split(MANY, None, 1).train) == 1
    assert split([], None) == HoldOut((), (), False, split([], None).note)
    assert holdout.FEWEST == 5
