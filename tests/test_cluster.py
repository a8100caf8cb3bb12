"""A real Ray cluster on this machine: objects in processes, their errors, and a process that is killed.

Everything but Ray itself is tested without it, by `tests/cli/test_predict_cluster.py` and
`tests/serving/models/test_cluster_compute.py`.
"""

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from slem_app.cluster import LOCAL, Cluster
from slem_app.errors import BadSetting, WorkerLost

pytest.importorskip("ray", reason="needs the extra 'cluster'")
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]


class Counter:
    """An object of a process."""

    def __init__(self, first: np.ndarray, step: int) -> None:
        self.first, self.step = first, step

    def begin(self) -> None:
        if self.step < 0:
            raise BadSetting(f"the step is {self.step}")
        self.total = int(self.first.sum())

    def add(self) -> tuple[int, int]:
        self.total += self.step
        return os.getpid(), self.total

    def sleep(self) -> None:
        time.sleep(600)

    def fail(self) -> None:
        raise BadSetting("it cannot be used: mend it")

    def order(self, array: np.ndarray) -> np.ndarray:
        assert array.flags.f_contiguous
        return array + 1


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One of this process's own, or the one at the address in SLEM_RAY."""
    try:
        made = Cluster(os.environ.get("SLEM_RAY", LOCAL))
    except BadSetting as error:  # Ray gives its own processes half a minute
        pytest.skip(f"Ray does not start on this machine now: {error}")
    yield made
    made.close()


def test_an_object_lives_in_a_process_of_its_own_and_its_errors_are_its_own(cluster: Cluster) -> None:
    member = cluster.start(Counter, cluster.share(np.ones(5)), 2, threads=2, gpu=False)
    member.ready.result(300)
    (process, total), (_, next_total) = (member.call("add").result(60) for _ in range(2))
    assert (total, next_total) == (7, 9)
    assert process != os.getpid()
    with pytest.raises(BadSetting, match="^it cannot be used: mend it$"):
        member.call("fail").result(60)
    array = np.zeros((4, 5, 6), np.uint8, order="F")
    back = member.call("order", array).result(60)
    assert back.flags.f_contiguous
    assert back.sum() == array.size
    member.stop()
    wrong = cluster.start(Counter, np.ones(1), -1, threads=1, gpu=False)
    with pytest.raises(BadSetting, match="the step is -1"):
        wrong.ready.result(300)
    wrong.stop()


def test_a_killed_process_ends_all_its_calls(cluster: Cluster) -> None:
    member = cluster.start(Counter, np.ones(1), 1, threads=3, gpu=False)
    member.ready.result(300)
    process, _ = member.call("add").result(60)
    sleeping = [member.call("sleep") for _ in range(2)]
    time.sleep(0.5)
    os.kill(process, signal.SIGKILL)
    for call in sleeping:
        with pytest.raises(WorkerLost, match="a process of the cluster was lost"):
            call.result(120)
    with pytest.raises(WorkerLost):
        member.call("add").result(120)
    assert cluster.size >= 1
    assert not cluster.has_gpus
