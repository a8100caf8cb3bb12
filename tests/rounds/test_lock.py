"""The lock of a round: who asks for it is in nobody's way, and who ends its holder ends nobody else."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slem_app.errors import NotFound
from slem_app.rounds import lock as lock_module
from slem_app.rounds.lock import Busy, Lock
from tests.waiting import wait_until

HOLD = (
    "import sys, time; from slem_app.rounds.lock import Lock; lock = Lock(sys.argv[1]); handle = lock.take()"
)


def test_asking_whether_a_round_runs_turns_nobody_away(tmp_path: Path) -> None:
    lock, done = Lock(tmp_path), threading.Event()
    os.close(lock.take())

    def ask() -> None:
        while not done.is_set():
            lock.held()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2000):
            os.close(lock.take())  # Busy, were the lock taken by those who ask
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_the_lock_lasts_as_long_as_a_process_that_inherited_it(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    handle = lock.take()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[handle])
    lock.name(handle, child.pid)
    os.close(handle)
    assert lock.held()
    with pytest.raises(Busy, match=f"process {child.pid}"):
        lock.take()
    child.communicate(b"\n")
    assert not lock.held()


@pytest.mark.parametrize("text", ["", "0", "1", "nobody", "-1"])
def test_a_holder_that_is_not_named_is_not_killed_and_nobody_else_is(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "UNNAMED", 0.1)
    killed = []
    monkeypatch.setattr(os, "killpg", lambda *what: killed.append(what))
    monkeypatch.setattr(os, "kill", lambda *what: killed.append(what))
    lock = Lock(tmp_path)
    lock.kill()  # there is no file yet
    handle = lock.take()
    try:
        lock.path.write_text(text)
        assert lock.holder() is None
        with pytest.raises(NotFound, match="does not name its process"):
            lock.kill()
    finally:
        os.close(handle)
    lock.path.write_text(str(os.getpid()))  # of a round that ended long ago
    lock.kill()
    assert not killed


def test_a_new_holder_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    handle = lock.take()
    lock.name(handle, os.getpid())
    os.close(handle)
    handle = lock.take()
    assert lock.holder() is None
    os.close(handle)


@pytest.mark.parametrize("group", [True, False])
def test_the_holder_is_killed_with_its_group_where_it_leads_one(tmp_path: Path, group: bool) -> None:
    code = f"{HOLD}; import os; lock.name(handle, os.getpid()); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], start_new_session=group)
    lock = Lock(tmp_path)
    try:
        wait_until(lambda: lock.holder() is not None, 60)
        lock.kill()
        assert child.wait(10) == -signal.SIGKILL
        assert not lock.held()
    finally:
        child.kill()
        child.wait()
