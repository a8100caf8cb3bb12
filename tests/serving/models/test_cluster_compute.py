"""Clicks that are answered by processes of a cluster: the same voxels, whoever computes and whoever dies."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from slem_app.errors import BadVolume
from slem_app.selection import measure
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.models.byte_cache import ByteCache
from slem_app.serving.models.cluster_compute import ClusterCompute, Processes
from slem_app.serving.models.compute import LocalCompute
from slem_app.serving.models.compute_process import ProcessSettings
from slem_app.serving.models.interactive import InteractiveTask
from tests.fake_cluster import FakeMember, FakeMembers
from tests.serving.conftest import nothing_kept
from tests.serving.language import (
    Deed,
    Desk,
    box,
    look,
    negative,
    positive,
    redo,
    send_mask,
    start_over,
    undo,
)

SETTINGS = ProcessSettings("cpu", 0, 64, 64, False)
A, B, C = (20, 22, 18), (12, 30, 20), (12, 14, 10)


@pytest.fixture
def members() -> Iterator[FakeMembers]:
    made = FakeMembers()
    yield made
    made.close()


@pytest.fixture
def compute(members: FakeMembers) -> ClusterCompute:
    """Two processes."""
    starts = ByteCache(2**26, lambda start: start.nbytes)
    return ClusterCompute(Processes(members, 2, False, SETTINGS), starts, LocalCompute(nothing_kept()))


@pytest.fixture
def far(make_task: Callable, compute: ClusterCompute) -> InteractiveTask:
    """A task whose network is in those processes."""
    return make_task(compute=compute)


def both(near: InteractiveTask, far: InteractiveTask, cases: Cases, key: str) -> tuple[Desk, Desk]:
    """A reader in front of an image, once with a server that computes itself."""
    return tuple(Desk(task, {"case": cases.find(key)}) for task in (near, far))


def where(members: FakeMembers, method: str) -> list[int]:
    """How often each process was asked for something."""
    return [one.calls.count(method) for one in members.members]


def test_every_kind_of_prompt_gives_the_same_voxels_as_without_a_cluster(
    task: InteractiveTask, far: InteractiveTask, cases: Cases, sent: Callable[..., Path]
) -> None:
    here, there = both(task, far, cases, "A")
    grid = cases.find("A").series.grid
    mask = np.zeros(grid.shape, np.uint8)
    mask[20:24, 24:28, 18:22] = 2
    path = sent(mask, Desk(task, {}, grid=grid))
    deeds: list[Deed] = [
        look(),
        positive("edema", A),
        negative(B),
        undo(),
        redo(),
        box((4, 4, 4), (23, 27, 20)),
        start_over(),
        send_mask(path),
        positive("necrosis", C),
        undo(),
    ]
    for deed in deeds:
        np.testing.assert_array_equal(here.plays(deed), there.plays(deed))
        told, expected = dict(there.said), dict(here.said)
        assert set(told.pop("latencies")) == set(expected.pop("latencies"))
        assert told == expected


def test_a_further_click_is_one_call(far: InteractiveTask, cases: Cases, members: FakeMembers) -> None:
    desk = Desk(far, {"case": cases.find("A")})
    desk.plays(look())
    before = members.sent
    desk.plays(positive("edema", A))
    assert [one.calls for one in members.members if one.calls] == [["load", "prepare", "start", "refine"]]
    shown = desk.shown.nbytes
    assert members.sent - before < shown + 20_000  # what the reader sees and prompts, no features


def test_all_images_of_a_case_are_one_process_s_and_cases_are_spread(
    far: InteractiveTask, cases: Cases, members: FakeMembers
) -> None:
    for key in ("A", "A/t2f", "B", "A/t1n", "B/t2w"):
        Desk(far, {"case": cases.find(key), "client_id": key}).plays(positive("edema", C))
    assert sorted(where(members, "refine")) == [2, 3]
    assert where(members, "load") == [1, 1]


@pytest.mark.parametrize("moment", ["before", "during"])
def test_the_click_of_a_lost_process_is_answered_by_another_with_the_same_voxels(
    task: InteractiveTask, far: InteractiveTask, cases: Cases, members: FakeMembers, moment: str
) -> None:
    here, there = both(task, far, cases, "A")
    for desk in (here, there):
        desk.plays(positive("edema", A))
    victim = next(one for one in members.members if "refine" in one.calls)

    def kill(member: FakeMember, method: str) -> None:
        if member is victim and method == "refine":
            threading.Timer(0.001, victim.stop).start()

    if moment == "before":
        victim.stop()
    else:
        members.called = kill
    for deed in (negative(B), positive("necrosis", C), undo(), redo()):
        np.testing.assert_array_equal(here.plays(deed), there.plays(deed))
    assert there.said["prompts"] == 3
    assert (len(members.members), len(members.alive)) == (3, 2)  # another one took its place


def test_where_no_process_is_left_the_server_computes_itself(
    task: InteractiveTask, far: InteractiveTask, cases: Cases, members: FakeMembers
) -> None:
    here, there = both(task, far, cases, "A")
    for desk in (here, there):
        desk.plays(positive("edema", A))
    members.called = lambda member, method: member.stop()
    for deed in (negative(B), undo(), redo(), positive("necrosis", C)):
        np.testing.assert_array_equal(here.plays(deed), there.plays(deed))
    here, there = both(task, far, cases, "B/t2f")
    np.testing.assert_array_equal(here.plays(positive("edema", C)), there.plays(positive("edema", C)))


def test_a_process_that_cannot_begin_is_started_again_after_a_pause(
    task: InteractiveTask, make_task: Callable, cases: Cases, members: FakeMembers
) -> None:
    wrong = ProcessSettings("abacus", 0, 64, 64, False)
    starts = ByteCache(2**26, lambda start: start.nbytes)
    processes = Processes(members, 1, False, wrong)
    far = make_task(compute=ClusterCompute(processes, starts, LocalCompute(nothing_kept())))
    here, there = both(task, far, cases, "A")
    np.testing.assert_array_equal(here.plays(positive("edema", A)), there.plays(positive("edema", A)))
    assert len(members.members) < 6
    place = processes.places[0]
    assert place.failures > 1
    processes.settings, place.not_before = SETTINGS, 0.0  # mended, and the pause is over
    np.testing.assert_array_equal(here.plays(negative(B)), there.plays(negative(B)))
    assert members.members[-1].calls == ["load", "start", "refine"]
    assert place.failures == 0


def test_a_process_that_hangs_is_ended(
    task: InteractiveTask, far: InteractiveTask, cases: Cases, members: FakeMembers, compute: ClusterCompute
) -> None:
    here, there = both(task, far, cases, "A")
    for desk in (here, there):
        desk.plays(positive("edema", A))
    victim = next(one for one in members.members if "refine" in one.calls)
    go = threading.Event()
    victim.object.refine = lambda *_: go.wait(60)
    compute.processes.longest = 0.5
    np.testing.assert_array_equal(here.plays(negative(B)), there.plays(negative(B)))
    assert victim.dead.is_set()
    go.set()


def test_what_is_wrong_with_a_case_is_told_in_the_same_words(
    task: InteractiveTask, far: InteractiveTask, cases: Cases, studies: Path
) -> None:
    path = studies / "A/A-t2f.nii.gz"
    path.write_bytes(path.read_bytes()[:5000])
    texts = []
    for compute in (task, far):
        with pytest.raises(BadVolume, match="A-t2f.nii.gz") as told:
            Desk(compute, {"case": cases.find("A")}).plays(look())
        texts.append(str(told.value))
    assert texts[0] == texts[1]


def test_a_case_is_scored_by_its_process_as_the_server_would(
    far: InteractiveTask, cases: Cases, members: FakeMembers, compute: ClusterCompute
) -> None:
    case, predictor = cases.find("A"), far.predictor
    measures, segmentation = compute.processes.measure(case, predictor, None)
    prepared, _ = predictor.prepare_case(case.grouping, case.sequence)
    expected, array = measure(predictor, prepared)
    assert measures.to_table() == expected.to_table()
    np.testing.assert_array_equal(segmentation.array, array.array)
    assert sum(where(members, "measure")) == 1


def test_a_volume_that_was_sent_is_computed_where_it_lies(
    far: InteractiveTask, cases: Cases, members: FakeMembers
) -> None:
    found = cases.find("A")
    found = type(found)(found.id, found.grouping, found.sequence, lasting=False)
    desk = Desk(far, {"case": found})
    desk.plays(positive("edema", A), negative(B))
    assert desk.shown[A] == 2
    assert not any(one.calls for one in members.members)


def test_readers_at_once_lose_nothing_while_processes_are_killed(
    task: InteractiveTask, far: InteractiveTask, cases: Cases, members: FakeMembers
) -> None:
    """Six readers on two cases; after every fourth correction its process is killed."""
    deeds = (positive("edema", A), negative(B), positive("necrosis", C), undo())
    readers = [f"reader{n}" for n in range(6)]
    wanted = {}
    for n, reader in enumerate(readers[:2]):
        desk = Desk(task, {"case": cases.find("AB"[n]), "client_id": reader})
        wanted["AB"[n]] = [desk.plays(deed).copy() for deed in deeds]
    count = iter(range(1, 10_000))

    def kill(member: FakeMember, method: str) -> None:
        if method == "refine" and next(count) % 4 == 0:
            threading.Timer(0.002, member.stop).start()

    members.called = kill

    def play(n: int) -> list[np.ndarray]:
        desk = Desk(far, {"case": cases.find("AB"[n % 2]), "client_id": readers[n]})
        return [desk.plays(deed).copy() for deed in deeds]

    with ThreadPoolExecutor(6) as pool:
        shown = list(pool.map(play, range(6)))
    assert len(members.members) > 3
    for n, steps in enumerate(shown):
        for step, expected in zip(steps, wanted["AB"[n % 2]], strict=True):
            np.testing.assert_array_equal(step, expected)
