"""States of many cases: as the store has them now, without reading a record twice."""

import shutil
from pathlib import Path

import pytest

from slem_app.store.labels import LabelStore
from slem_app.store.overview import CaseState, LabelOverview


def save(store: LabelStore, case: str, tag: str) -> None:
    store.save(case, tag, lambda path: path.write_bytes(b"x"), {"ts": 1.0})


def test_a_case_is_new_then_a_draft_then_submitted(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    overview = LabelOverview(store)
    assert overview.states() == {}
    assert CaseState().name == "new"
    save(store, "sub-1/ses-2", "original")
    assert overview.states()["sub-1/ses-2"].name == "draft"
    save(store, "sub-1/ses-2", "final")
    state = overview.states()["sub-1/ses-2"]
    assert (state.name, state.tags) == ("submitted", ("final", "original"))
    assert state.saved > 0
    store.remove("sub-1/ses-2", "final")
    assert overview.states()["sub-1/ses-2"].name == "draft"


def test_an_unchanged_case_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LabelStore(tmp_path)
    save(store, "a", "final")
    save(store, "b", "final")
    overview, read, tags = LabelOverview(store), [], LabelStore.tags
    monkeypatch.setattr(LabelStore, "tags", lambda self, case: read.append(case) or tags(self, case))
    first = overview.states()
    assert sorted(set(read)) == ["a", "b"]
    read.clear()
    assert overview.states() == first
    assert read == []
    save(store, "b", "original")
    overview.states()
    assert set(read) == {"b"}


def test_a_version_that_is_being_saved_counts_once_it_is_there(tmp_path: Path) -> None:
    store, seen = LabelStore(tmp_path), []
    overview = LabelOverview(store)
    store.save("a", "final", lambda path: (path.write_bytes(b"x"), seen.append(overview.states())), {})
    assert seen == [{}]
    assert overview.states()["a"].name == "submitted"


def test_a_case_that_is_gone_is_not_remembered(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    overview = LabelOverview(store)
    for case in ("a", "b"):
        save(store, case, "final")
    assert set(overview.states()) == {"a", "b"}
    shutil.rmtree(tmp_path / "labels/a")
    assert set(overview.states()) == {"b"}
    assert (set(overview.seen), set(overview.known)) == ({"b"}, {"b"})
