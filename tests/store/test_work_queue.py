"""Who makes which case: leases, lost processes, tries again, the quarantine."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slem_app.errors import StorageFailed
from slem_app.store.work_queue import PAUSE, TRIES, WorkQueue
from tests.clock import Clock

CASES = ("a", "b", "c")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Callable[[], WorkQueue]:
    """The queue as another process sees it."""
    return lambda: WorkQueue(tmp_path / "work/queue.sqlite", 60.0, clock)


def elsewhere(queue: WorkQueue) -> WorkQueue:
    """As if the process ran on another machine, so that only its heartbeat tells whether it lives."""
    queue.holder = "ffffffff-1-abcdef"
    return queue


def test_cases_are_leased_in_order_each_to_one(opened: Callable[[], WorkQueue]) -> None:
    one, two = opened(), opened()
    one.fill("run", CASES)
    leases = [one.lease("run"), two.lease("run"), one.lease("run"), two.lease("run")]
    assert [lease and lease.case for lease in leases] == ["a", "b", "c", None]


def test_what_is_made_is_not_leased_again_until_it_is_wanted_again(opened: Callable[[], WorkQueue]) -> None:
    queue = opened()
    queue.fill("run", CASES)
    while lease := queue.lease("run"):
        queue.made(lease, 1.0)
    assert (queue.counts("run").made, queue.counts("run").ended) == (3, 3)
    assert not queue.left("run")
    queue.fill("later", ("b",))
    again = queue.lease("later")
    assert again is not None
    assert again.case == "b"
    assert queue.lease("later") is None


def test_runs_take_only_the_cases_they_want_and_never_the_same(opened: Callable[[], WorkQueue]) -> None:
    one, two = opened(), opened()
    one.fill("one", ("a", "b"))
    two.fill("two", ("b", "c"))
    first = one.lease("one"), one.lease("one")
    assert [lease and lease.case for lease in first] == ["a", "b"]
    other = two.lease("two")
    assert other is not None
    assert other.case == "c"
    assert two.lease("two") is None
    assert two.counts("two").leased == 2
    assert two.left("two")


def test_a_lease_ends_without_a_heartbeat(opened: Callable[[], WorkQueue], clock: Clock) -> None:
    far, here = elsewhere(opened()), opened()
    here.fill("run", ("a",))
    assert far.lease("run")
    clock.now += 50
    far.renew()
    clock.now += 50
    assert here.lease("run") is None
    clock.now += 11
    lease = here.lease("run")
    assert lease is not None
    assert lease.tries == 2


def test_who_was_thought_lost_cannot_end_another_ones_case(
    opened: Callable[[], WorkQueue], clock: Clock
) -> None:
    far, here = elsewhere(opened()), opened()
    here.fill("run", ("a",))
    late = far.lease("run")
    clock.now += 61
    assert here.lease("run")
    assert late is not None
    far.failed(late, "too late", may_pass=False)
    assert here.counts("run").quarantined == {}
    far.made(late, 1.0)  # but a result that is there is there
    assert here.counts("run").made == 1


def test_the_cases_of_a_killed_process_are_free_at_once(opened: Callable[[], WorkQueue]) -> None:
    queue = opened()
    queue.fill("run", ("a",))
    code = (
        "import os, sys, signal; from pathlib import Path; from slem_app.store.work_queue import WorkQueue\n"
        f"WorkQueue(Path({str(queue.path)!r}), clock=lambda: 1000.0).lease('run')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert queue.counts("run").leased == 1
    assert queue.lease("run")


def test_what_may_pass_is_tried_again_later_and_later(opened: Callable[[], WorkQueue], clock: Clock) -> None:
    queue = opened()
    queue.fill("run", ("a",))
    for number in range(1, TRIES + 1):
        lease = queue.lease("run")
        assert lease is not None
        assert lease.tries == number
        queue.failed(lease, f"no answer {number}", may_pass=True)
        assert queue.lease("run") is None
        clock.now += PAUSE * 2 ** (number - 1)
    assert queue.lease("run") is None
    assert queue.counts("run").quarantined == {"a": f"no answer {TRIES}"}


def test_what_does_not_pass_goes_into_quarantine_until_the_next_call(opened: Callable[[], WorkQueue]) -> None:
    queue = opened()
    queue.fill("run", ("a", "b"))
    lease = queue.lease("run")
    assert lease is not None
    queue.failed(lease, "a is broken", may_pass=False)
    other = queue.lease("run")
    assert other is not None
    queue.foreign(other)
    counts = queue.counts("run")
    assert (counts.quarantined, counts.foreign, counts.ended) == ({"a": "a is broken"}, ("b",), 2)
    queue.fill("next", ("a",))
    assert queue.lease("next")


def test_a_case_that_kills_its_workers_goes_into_quarantine(
    opened: Callable[[], WorkQueue], clock: Clock
) -> None:
    far, here = elsewhere(opened()), opened()
    here.fill("run", ("a",))
    for _ in range(TRIES):
        assert far.lease("run")
        clock.now += 61
    assert here.lease("run") is None
    assert "5 processes died while they made it" in here.counts("run").quarantined["a"]


def test_what_is_given_back_counts_as_no_try(opened: Callable[[], WorkQueue]) -> None:
    queue = opened()
    queue.fill("run", ("a",))
    for _ in range(TRIES + 1):
        assert queue.lease("run")
        queue.give_back()
    lease = queue.lease("run")
    assert lease is not None
    assert lease.tries == 1


def test_a_damaged_queue_is_made_anew(opened: Callable[[], WorkQueue], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/queue.sqlite").write_bytes(b"no data base" * 1000)
    queue = opened()
    queue.fill("run", CASES)
    assert queue.lease("run")


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageFailed, match="cannot be used"):
        WorkQueue(tmp_path / "file/queue.sqlite")


def test_what_is_held_back_is_ended_with_its_reason_until_the_next_call(
    opened: Callable[[], WorkQueue],
) -> None:
    queue = opened()
    queue.fill("run", ("a",))
    lease = queue.lease("run")
    assert lease is not None
    queue.held(lease, "do not use")
    counts = queue.counts("run")
    assert (counts.held, counts.quarantined, counts.made, counts.ended) == ({"a": "do not use"}, {}, 0, 1)
    assert not queue.left("run")
    queue.fill("next", ("a",))
    assert queue.lease("next")
