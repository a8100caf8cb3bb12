"""Who has which case in hand."""

import json
from pathlib import Path

import pytest

from slem_app.errors import StorageFailed
from slem_app.serving.learning import leases as module
from slem_app.serving.learning.leases import MOST, Leases
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1e9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "leases.json"


def test_a_lease_lasts_so_long(path: Path, clock: Clock) -> None:
    leases = Leases(path, 10, clock)
    leases.take("A", "ann")
    clock.now += 599
    assert leases.holder("A") == "ann"
    clock.now += 2
    assert leases.holder("A") is None
    leases.take("B", "ben")
    assert set(json.loads(path.read_text())) == {"B"}  # what has ended is not kept


def test_only_its_reader_renews_it(path: Path, clock: Clock) -> None:
    leases = Leases(path, 10, clock)
    leases.take("A", "ann")
    clock.now += 500
    leases.renew("A", "ben")
    leases.renew("B", "ben")
    assert leases.of("ben") == ()
    leases.renew("A", "ann")
    clock.now += 500
    assert leases.holder("A") == Leases(path, 10, clock).holder("A") == "ann"


def test_renewing_does_not_write_at_every_click(path: Path, clock: Clock) -> None:
    leases = Leases(path, 10, clock)
    leases.take("A", "ann")
    before = path.stat().st_ino  # every writing makes a new file
    for _ in range(5):
        clock.now += 5
        leases.renew("A", "ann")
    assert path.stat().st_ino == before


def test_a_reader_has_a_few_in_hand_at_most(path: Path, clock: Clock) -> None:
    leases = Leases(path, 10, clock)
    for case in "ABCDE":
        clock.now += 1
        leases.take(case, "ann")
    assert leases.of("ann") == tuple("CDE")
    assert len(leases.of("ann")) == MOST
    leases.release("D")
    assert leases.of("ann") == ("C", "E")


def test_a_damaged_file_is_forgotten(path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    for text in ("{", "[]", '{"A": {"who": "ann"}}', '{"A": 3}'):
        path.write_text(text)
        assert Leases(path, 10, clock).holder("A") is None
    assert "cannot be read" in caplog.text


def test_a_full_disk_does_not_keep_a_case_from_its_reader(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFailed("no space left")

    monkeypatch.setattr(module, "atomic_file", full)
    leases = Leases(path, 10, clock)
    leases.take("A", "ann")
    assert leases.holder("A") == "ann"


def test_all_that_is_held_is_told_at_once(tmp_path: Path) -> None:
    now = [1000.0]
    leases = Leases(tmp_path / "leases.json", 1, lambda: now[0])
    leases.take("a", "ann")
    now[0] += 50
    leases.take("b", "bob")
    assert leases.held() == {"a": "ann", "b": "bob"}
    now[0] += 30
    assert leases.held() == {"b": "bob"}
