"""What reviewers decide of labels: kept beside the versions, the last one counts, a rejected label
counts no more.
"""

import dataclasses
from pathlib import Path

import pytest

from slem_app.errors import BadSetting, NotFound
from slem_app.store.labels import LabelStore
from slem_app.store.overview import LabelOverview
from slem_app.store.review import APPROVED, REJECTED, REVIEW_FILE, UNDECIDED, ReviewDecision


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path)


def save(store: LabelStore, tag: str = "final", reader: str = "ann@1"):
    meta = {"record": {"ts": 1.0, "reader": reader}, "ts": 1.0}
    return store.save("A", tag, lambda path: path.write_bytes(b"x"), meta)


def test_what_is_saved_as_final_is_submitted_and_anything_else_a_draft(store: LabelStore) -> None:
    assert save(store).state == "submitted"
    assert save(store, "original").state == "draft"


def test_the_last_decision_counts_and_can_be_taken_back(store: LabelStore) -> None:
    version = save(store)
    store.decide(version, ReviewDecision(1, REJECTED, "rev", 2.0, "the edema on the left is missing"))
    assert version.state == "rejected"
    store.decide(version, ReviewDecision(1, APPROVED, "rev", 3.0))
    assert (version.state, version.decision.by, version.decision.ts) == ("approved", "rev", 3.0)
    store.decide(version, ReviewDecision(1, UNDECIDED, "rev", 4.0))
    assert (version.state, version.decision) == ("submitted", None)


def test_a_rejected_label_gives_way_to_the_one_before_it(store: LabelStore) -> None:
    save(store), save(store)
    store.decide(store.latest("A", "final"), ReviewDecision(2, REJECTED, "rev", 2.0, "wrong side"))
    assert store.counting("A").number == 1
    assert store.shown("A").number == 1
    store.decide(store.versions("A", "final")[0], ReviewDecision(1, REJECTED, "rev", 2.0, "wrong side, too"))
    assert not store.has_final("A")
    with pytest.raises(NotFound, match="no final label that counts: a reviewer has rejected it"):
        store.counting("A")
    assert store.shown("A").state == "rejected"


def test_a_decision_is_of_one_version_and_goes_with_it(store: LabelStore) -> None:
    store.decide(save(store), ReviewDecision(1, REJECTED, "rev", 2.0, "no"))
    assert save(store).state == "submitted"
    store.remove("A", "final")
    assert save(store).state == "submitted"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"state": "fine"}, "can be approved or rejected, not 'fine'"),
        ({"state": REJECTED, "why": "  "}, "say why the label is rejected"),
        ({"state": APPROVED, "why": "x" * 2001}, "2000 characters, got 2001"),
        ({"state": APPROVED, "level": "awful"}, "level must be one of easy, medium, hard, got 'awful'"),
        ({"state": APPROVED, "number": 0}, "a version from 1 on"),
    ],
)
def test_says_what_a_decision_lacks(fields: dict, text: str) -> None:
    with pytest.raises(BadSetting, match=text):
        dataclasses.replace(ReviewDecision(1, APPROVED, "rev", 1.0), **fields)


def test_decisions_that_cannot_be_read_are_named_and_never_written_over(
    store: LabelStore, caplog: pytest.LogCaptureFixture
) -> None:
    version = save(store)
    path = version.folder.parent / REVIEW_FILE
    path.write_text('{"decisions": [{"number": "one"}]}')
    assert version.state == "submitted"
    assert "the decisions in" in caplog.text
    with pytest.raises(BadSetting, match="restore it from a backup"):
        store.decide(version, ReviewDecision(1, APPROVED, "rev", 1.0))
    assert "one" in path.read_text()


def test_lists_of_many_cases_tell_the_state_at_once(store: LabelStore) -> None:
    overview = LabelOverview(store)
    version = save(store)
    assert overview.states()["A"].name == "submitted"
    store.decide(version, ReviewDecision(1, REJECTED, "rev", 2.0, "wrong side"))
    state = overview.states()["A"]
    assert (state.name, state.done, state.decided_by, state.why) == ("rejected", False, "rev", "wrong side")
    store.decide(version, ReviewDecision(1, APPROVED, "rev", 3.0))
    assert overview.states()["A"].done
