"""Requests beside the windows: in order, in one thread, errors told."""

import threading
import time

import pytest
from SLeMLabelLib.worker import Job, Worker


class Refused(Exception):
    pass


@pytest.fixture
def failed() -> list:
    return []


@pytest.fixture
def worker(failed: list):
    made = Worker(lambda job, error: failed.append((job.what, str(error))), (Refused,))
    yield made
    made.pool.shutdown(wait=True)


def finish(worker: Worker) -> None:
    end = time.monotonic() + 10
    while (worker.busy or worker.waiting) and time.monotonic() < end:
        worker.poll()
        time.sleep(0.001)


def job(what: str, log: list, remote: object = lambda asked: None) -> Job:
    return Job(what, lambda: log.append(f"prepare {what}"), remote, lambda *came: log.append(f"done {what}"))


def test_what_is_prepared_sees_what_was_done_before(worker: Worker) -> None:
    log: list[str] = []
    may = threading.Event()
    worker.add(job("one", log, lambda asked: may.wait(10)))
    worker.add(job("two", log))
    assert log == ["prepare one"]
    may.set()
    finish(worker)
    assert log == ["prepare one", "done one", "prepare two", "done two"]


def test_only_the_request_leaves_the_thread_of_the_windows(worker: Worker) -> None:
    seen: dict[str, int] = {}
    worker.add(
        Job(
            "one",
            lambda: seen.__setitem__("prepare", threading.get_ident()),
            lambda asked: seen.__setitem__("remote", threading.get_ident()),
            lambda *came: seen.__setitem__("done", threading.get_ident()),
        )
    )
    finish(worker)
    assert seen["prepare"] == seen["done"] == threading.get_ident() != seen["remote"]


def test_a_refusal_is_told_and_the_next_goes_on(worker: Worker, failed: list) -> None:
    log: list[str] = []

    def refuse(asked: object) -> None:
        raise Refused("no")

    worker.add(job("one", log, refuse))
    worker.add(job("two", log))
    finish(worker)
    assert failed == [("one", "no")]
    assert log[-1] == "done two"


def test_other_errors_are_not_hidden(worker: Worker) -> None:
    worker.add(job("one", [], lambda asked: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        finish(worker)
