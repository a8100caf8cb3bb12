"""How often the cases of a round are seen: labels that readers only confirmed, beside those that they
drew.
"""

from dataclasses import asdict
from pathlib import Path

import pytest

from slem_app import phantom
from slem_app.grouping import group
from slem_app.rounds.job import Job, Labelled
from slem_app.rounds.labelled import LabelledStudies, mix, open_studies


def test_confirmed_labels_are_seen_less_often() -> None:
    turns = mix(["a", "b", "c"], [], 0.5, 64, confirmed=["c"], confirmed_weight=0.5).turns
    assert turns == ("a", "a", "b", "b", "c")


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0])
def test_where_all_are_confirmed_each_has_its_turn(weight: float) -> None:
    assert mix(["a", "b"], [], 0.5, 64, confirmed=["a", "b"], confirmed_weight=weight).turns == ("a", "b")


def test_full_weight_changes_nothing() -> None:
    plain = mix(["a", "b", "c"], ["b"], 0.5, 64)
    assert mix(["a", "b", "c"], ["b"], 0.5, 64, confirmed=["c"], confirmed_weight=1.0) == plain


def test_old_confirmed_labels_stay_rarer_than_old_drawn_ones() -> None:
    turns = mix(list("abcd"), list("bcd"), 0.5, 64, confirmed=["d"], confirmed_weight=0.5).turns
    assert [turns.count(case) for case in "abcd"] == [6, 2, 2, 1]


def test_a_round_goes_by_the_series_that_were_chosen_by_hand(tmp_path: Path) -> None:
    head = phantom.make(seed=1, shape=(24, 28, 20), spacing=(8.0, 8.0, 8.0), own_grids=True)
    phantom.write_nifti(head, tmp_path / "studies", "A")
    label = next((tmp_path / "studies/A").glob("*seg.nii.gz"))  # on the grid of the file t1c
    swap = {"t1c": "t2f", "t2f": "t1c"}
    known = {name: str(tmp_path) for name in ("served", "bundled", "models", "root")}
    one = Labelled("A", str(label), "t1c", Labelled.name(1, swap), series="t1c")
    job = Job("slem_brain", **known, studies=str(tmp_path / "studies"), cases=(one,), by_hand={"A": swap})
    again = Job(**asdict(job))  # as another process reads it
    for source in (LabelledStudies(again), open_studies(again)):
        study = source.study("A")
        assert group(study).sequences["t1c"].id == "t2f"
    assert LabelledStudies(again).study("A").label is not None  # though it lies on what is t2f now
    assert one.version == "final 1 (t1c is t2f, t2f is t1c)"
    assert Labelled.name(1, {}) == "final 1"
