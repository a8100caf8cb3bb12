"""Which series people have chosen: kept with who and when; the last choice counts, none is half written."""

from pathlib import Path

import pytest

from slem_app.errors import BadSetting, StorageFailed
from slem_app.store.series_choices import SeriesChoice, SeriesChoices


def test_the_last_choice_counts_and_those_before_are_kept(tmp_path: Path) -> None:
    choices = SeriesChoices(tmp_path)
    assert choices.of("A/b") == {}
    choices.choose("A/b", SeriesChoice({"t1c": "1.2", "t2w": ""}, "ann", 5.0))
    before = choices.state("A/b")
    choices.choose("A/b", SeriesChoice({"t1c": "1.3"}, "bob", 6.0))
    again = SeriesChoices(tmp_path)  # another server
    assert again.of("A/b") == {"t1c": "1.3"}
    assert [(one.by, one.ts, dict(one.sequences)) for one in again.history("A/b")] == [
        ("ann", 5.0, {"t1c": "1.2", "t2w": ""}),
        ("bob", 6.0, {"t1c": "1.3"}),
    ]
    assert again.state("A/b") != before
    assert again.all() == {"A/b": {"t1c": "1.3"}}


def test_an_empty_choice_gives_the_case_back_to_the_rules(tmp_path: Path) -> None:
    choices = SeriesChoices(tmp_path)
    choices.choose("A", SeriesChoice({"t1c": "1.2"}, "ann", 5.0))
    choices.choose("A", SeriesChoice({}, "ann", 6.0))
    assert choices.of("A") == {}
    assert choices.all() == {}
    assert len(choices.history("A")) == 2


def test_one_series_is_never_two_sequences() -> None:
    with pytest.raises(BadSetting, match=r"series 'x' is chosen for t1c and t2w: an image is one sequence"):
        SeriesChoice({"t1c": "x", "t2w": "x", "t2f": ""})
    SeriesChoice({"t1c": "", "t2w": ""})  # none of them, twice


@pytest.mark.parametrize("sequences", [{"t1c": "x" * 501}, {"t" * 501: "x"}, {"t1c": 3}])
def test_what_is_no_short_text_is_refused(sequences: dict) -> None:
    with pytest.raises(BadSetting, match="texts of at most 500 characters"):
        SeriesChoice(sequences)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"choices": 3}',
        '{"choices": [{"by": "x", "ts": 1}]}',
        '{"choices": [{"sequences": 3, "by": "", "ts": 1}]}',
    ],
)
def test_a_damaged_file_stops_the_case_instead_of_using_another_series(tmp_path: Path, text: str) -> None:
    choices = SeriesChoices(tmp_path)
    choices.choose("A", SeriesChoice({"t1c": "1.2"}, "ann", 5.0))
    (tmp_path / "series/A.json").write_text(text)
    with pytest.raises(BadSetting, match=r"A\.json"):
        choices.of("A")
    with pytest.raises(BadSetting, match=r"A\.json"):  # and is not written over
        choices.choose("A", SeriesChoice({}, "ann", 6.0))
    assert (tmp_path / "series/A.json").read_text() == text


def test_a_disk_that_refuses_leaves_the_choice_of_before(tmp_path: Path) -> None:
    (tmp_path / "series").write_text("no folder")
    with pytest.raises(StorageFailed, match="choice of series cannot be saved"):
        SeriesChoices(tmp_path).choose("A", SeriesChoice({"t1c": "x"}, "ann", 5.0))
