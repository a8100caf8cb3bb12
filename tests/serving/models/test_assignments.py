"""Which version a reader's case was begun with outlives the server, whatever happens to the file or to the
version.
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slem_app.errors import StorageFailed
from slem_app.serving.models.assignments import DAYS, AssignmentFile
from slem_app.serving.models.versions import MOST_VERSIONS, VersionWatcher
from slem_app.weights import load_model
from slem_app.weights.published import Published


@pytest.fixture
def start(models: Path, tmp_path: Path) -> Callable[[], VersionWatcher]:
    """Start the server's part anew, over the same disk."""
    shutil.copytree(models / "slem_brain", tmp_path / "bundled")
    return lambda: VersionWatcher(
        Published(tmp_path / "models", "slem_brain", tmp_path / "bundled"),
        assignments=tmp_path / "hands" / "slem_brain.json",
    )


def publish(watcher: VersionWatcher) -> None:
    model = load_model(watcher.published.bundled)
    with torch.no_grad():
        model.network.head.weight.add_(0.1 * len(watcher.published.numbers()))
    watcher.published.publish(model.card, model.network, {"mean": 0.5}, {"mean": 0.5})
    watcher.look()


def version(watcher: VersionWatcher, reader: str, case: str) -> str:
    return watcher.served.interactive(reader, case).card.version


def test_a_case_stays_with_its_version_over_a_restart_until_it_is_done(start: Callable) -> None:
    first = start()
    assert version(first, "ann", "A") == "test"
    first.served.automatic("ben", "A")  # shown, not corrected yet: the first click will be about it
    publish(first)
    again = start()
    assert again.served.now.card.version == "test+1"
    assert [version(again, reader, "A") for reader in ("ann", "ben", "eva")] == ["test", "test", "test+1"]
    again.served.submitted("ann", "A")
    third = start()
    assert version(third, "ann", "A") == "test"  # not gone on yet
    assert version(third, "ann", "B") == "test+1"
    assert version(start(), "ann", "A") == "test+1"
    assert version(start(), "ben", "A") == "test"


def test_the_file_is_written_only_when_something_changed(start: Callable, tmp_path: Path) -> None:
    watcher, file = start(), tmp_path / "hands" / "slem_brain.json"
    version(watcher, "ann", "A")
    before = file.stat()
    for _ in range(3):
        version(watcher, "ann", "A")
        watcher.served.automatic("ann", "A")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [(row["reader"], row["case"], row["working"]) for row in json.loads(file.read_text())] == [
        ("ann", "A", True)
    ]


def test_only_as_many_versions_as_are_kept_are_loaded(start: Callable) -> None:
    watcher = start()
    for number in range(MOST_VERSIONS + 2):
        version(watcher, f"reader {number}", "A")
        publish(watcher)
    again = start()
    held = {assignment.predictor.card.version for assignment in again.served.assignments.values()}
    assert held == {f"test+{number}" for number in range(2, MOST_VERSIONS + 2)}
    assert version(again, "reader 0", "A") == again.served.now.card.version


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"reader": "ann"}]', '{"a": 1}'])
def test_a_damaged_file_is_said_and_nobody_waits_for_it(
    start: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / "hands").mkdir()
    (tmp_path / "hands" / "slem_brain.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert version(start(), "ann", "A") == "test"
    assert "readers go on with the version that is served" in caplog.text
    assert [row.reader for row in AssignmentFile(tmp_path / "hands" / "slem_brain.json").rows] == ["ann"]


def test_a_version_that_is_gone_is_nobodys(start: Callable) -> None:
    watcher = start()
    publish(watcher)
    assert version(watcher, "ann", "A") == "test+1"
    publish(watcher)
    shutil.rmtree(watcher.published.folder(1))
    assert version(start(), "ann", "A") == "test+2"


def test_a_case_that_was_left_for_weeks_is_in_nobodys_hand(start: Callable, tmp_path: Path) -> None:
    version(start(), "ann", "A")
    path = tmp_path / "hands" / "slem_brain.json"
    [row] = AssignmentFile(path).rows
    assert AssignmentFile(path, clock=lambda: row.at + 86400 * (DAYS - 1)).rows == (row,)
    assert AssignmentFile(path, clock=lambda: row.at + 86400 * (DAYS + 1)).rows == ()


def test_a_full_disk_costs_the_hold_and_no_answer(
    start: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFailed("disk full")

    watcher = start()
    monkeypatch.setattr("slem_app.serving.models.assignments.atomic_file", full)
    with caplog.at_level(logging.WARNING):
        assert version(watcher, "ann", "A") == "test"
    assert "until the server stops only: disk full" in caplog.text
    publish(watcher)
    assert version(watcher, "ann", "A") == "test"
