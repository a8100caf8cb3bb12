"""How often the cases of a round are seen: labels that readers only confirmed, beside those that they
drew.
"""

import pytest

from slem_app.rounds.labelled import mix


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
