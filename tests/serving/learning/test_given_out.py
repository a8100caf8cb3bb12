"""When cases were last given out, as the notes on them tell."""

import os
from pathlib import Path
from types import SimpleNamespace

from slem_app.serving.learning.given_out import GivenOut


def test_the_latest_of_all_strategies_counts_and_a_note_is_read_once(tmp_path: Path) -> None:
    notes = {
        "a/b": {"strategy": {"random": {"ts": 5}, "diverse": {"ts": 7}}},
        "c": {"strategy": {"random": {"ts": 3}}},
        "d": {"somebody": "wrote this"},
    }
    read: list[str] = []

    def image_notes(case: str) -> dict:
        read.append(case)
        return notes[case]

    datastore, given = SimpleNamespace(root=tmp_path, image_notes=image_notes), GivenOut()
    assert given.times(datastore) == {}
    (tmp_path / "notes").mkdir()
    for name in ("a%2Fb", "c", "d"):
        (tmp_path / "notes" / f"{name}.json").write_text("{}")
    for _ in range(2):
        assert given.times(datastore) == {"a/b": 7.0, "c": 3.0}
    assert sorted(read) == ["a/b", "c", "d"]
    notes["c"] = {"strategy": {"random": {"ts": 9}}}
    os.utime(tmp_path / "notes/c.json", (1, 1))
    assert given.times(datastore) == {"a/b": 7.0, "c": 9.0}
    assert read.count("c") == 2
