"""What a person has chosen of a study's series wins over the rules, for everybody who groups that study."""

from dataclasses import replace
from pathlib import Path

import pytest

from slem_app.errors import BadSetting, NotFound
from slem_app.grouping import group
from slem_app.studies import Series, Study


def named(*names: str, **by_hand: str) -> Study:
    return Study("case", "dicom", Path(), tuple(Series.described(n, n, {}) for n in names), by_hand=by_hand)


def ids(study: Study) -> dict[str, str]:
    return {name: series.id for name, series in group(study).sequences.items()}


def test_a_kept_choice_wins_over_the_rules_and_the_rest_stays_with_them() -> None:
    study = named("t1", "t1ce", "t2", "flair", t1c="flair")
    assert ids(study) == {"t1n": "t1", "t1c": "flair", "t2w": "t2"}
    grouping = group(study)
    assert [(one.sequence, one.by_hand) for one in grouping.choices] == [
        ("t1n", False),
        ("t1c", True),
        ("t2w", False),
    ]
    [rest] = grouping.leftovers
    assert (rest.series.id, rest.kind) == ("t1ce", "duplicate")
    assert grouping.by_hand == {"t1c": "flair"}


def test_none_of_the_series_can_be_chosen() -> None:
    grouping = group(named("t1", "t1ce", t1c=""))
    assert list(grouping.sequences) == ["t1n"]
    [rest] = grouping.leftovers
    assert (rest.series.id, rest.kind) == ("t1ce", "by hand")
    assert rest.reason.endswith("but it was chosen by hand that no series is")


def test_two_series_can_change_places_and_names_of_sequences_still_mean_sequences() -> None:
    grouping = group(named("t1n", "t1c", t1n="t1c", t1c="t1n"))
    assert grouping.sequences["t1c"].id == "t1n"
    assert grouping.resolve("t1c") == "t1c"  # the sequence, not the series that is called so
    assert grouping.used_as("t1c") == "t1n"
    assert grouping.image("t1c") == ("t1c", None)


def test_a_chosen_series_that_is_gone_is_told_and_the_rules_decide() -> None:
    grouping = group(named("t1", "t1ce", t1c="lost", t9="t1"))
    assert grouping.sequences["t1c"].id == "t1ce"
    texts = [one.text for one in grouping.warnings]
    assert [one.code for one in grouping.warnings] == ["chosen-series-gone"] * 2
    assert "series 'lost' is no longer there" in texts[0]
    assert "the sequence t9 is no longer there" in texts[1]


def test_one_series_is_not_two_sequences_but_channels_of_a_file_are_series_of_their_own() -> None:
    with pytest.raises(BadSetting, match="'t1' of case 'case' is chosen for both t1c and t2w"):
        group(named("t1", "t2"), chosen={"t1c": "t1", "t2w": "t1"})
    channels = tuple(Series(f"000{n}", (Path("4d.nii.gz"),), "nifti", f"c{n}", n) for n in range(2))
    study = replace(named(), series=channels, by_hand={"t1c": "0001", "t2w": "0000"})
    assert ids(study) == {"t1c": "0001", "t2w": "0000"}


def test_what_is_said_now_wins_over_what_was_kept() -> None:
    grouping = group(named("t1", "t1ce", t1c="t1"), chosen={"t1c": "t1ce"})
    assert grouping.sequences["t1c"].id == "t1ce"
    with pytest.raises(NotFound, match="no series 'x'"):
        group(named("t1", t1c="t1"), chosen={"t1c": "x"})
