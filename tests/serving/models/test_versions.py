"""Which version answers whom: the served one at once, a reader at work keeps his until the case is done; the
disk is followed.
"""

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slem_app.errors import NotFound
from slem_app.predict import Predictor
from slem_app.serving.models.versions import MOST_ASSIGNMENTS, MOST_VERSIONS, ServedVersions, VersionWatcher
from slem_app.weights import load_model
from slem_app.weights.published import Published
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def made(models: Path) -> Callable[[str], Predictor]:
    """`made("2")`: a predictor of that version."""
    model = load_model(models / "slem_brain")
    return lambda version: Predictor(
        dataclasses.replace(model, card=dataclasses.replace(model.card, version=version))
    )


@pytest.fixture
def published(models: Path, tmp_path: Path) -> Published:
    shutil.copytree(models / "slem_brain", tmp_path / "bundled")
    return Published(tmp_path / "store" / "models", "slem_brain", tmp_path / "bundled")


def publish(published: Published) -> int:
    model = load_model(published.bundled)
    with torch.no_grad():
        model.network.head.weight.add_(0.1 * len(published.numbers()))
    return published.publish(model.card, model.network, {"mean": 0.5}, {"mean": 0.5}).number


def test_a_reader_keeps_his_version_until_he_has_submitted_and_gone_on(made: Callable) -> None:
    first, second = made("1"), made("2")
    served = ServedVersions(first)
    assert served.interactive("ann", "A") is first
    served.switch(second)
    assert served.interactive("ann", "A") is served.begun_with("ann", "A") is first
    assert served.interactive("ben", "A") is second
    assert served.automatic("ann", "A") is second
    assert served.interactive("ann", "A") is first  # what he corrects does not change under his hands
    assert served.interactive("ann", "B") is second
    assert served.interactive("ann", "A") is first  # not submitted yet
    served.submitted("ann", "A")
    assert served.interactive("ann", "A") is first  # not gone on yet
    assert served.automatic("ann", "C") is second
    assert served.interactive("ann", "A") is second


def test_the_first_click_is_about_the_segmentation_that_is_shown(made: Callable) -> None:
    first, second = made("1"), made("2")
    served = ServedVersions(first)
    served.automatic("ann", "A")
    served.switch(second)
    assert served.interactive("ann", "A") is first
    served.automatic("ben", "A")
    served.switch(first)
    served.automatic("ben", "A")  # asked for anew, and nothing was corrected
    assert served.interactive("ben", "A") is first


def test_what_is_kept_for_readers_is_bounded(made: Callable) -> None:
    served = ServedVersions(made("0"))
    for n in range(MOST_ASSIGNMENTS + 10):
        served.interactive("ann", f"case {n}")
    assert len(served.assignments) == MOST_ASSIGNMENTS
    assert ("ann", "case 0") not in served.assignments
    for n in range(MOST_VERSIONS + 2):
        served.switch(made(str(n + 1)))
        served.interactive(f"reader {n}", "A")
    served.switch(made("last"))
    assert len({assignment.predictor for assignment in served.assignments.values()}) == MOST_VERSIONS
    assert served.begun_with("reader 0", "A") is served.now


def test_the_disk_is_followed_forth_and_back(published: Published) -> None:
    switched: list[str] = []
    watcher = VersionWatcher(published, switched=lambda: switched.append(watcher.served.now.card.version))
    assert (watcher.number, watcher.look()) == (0, False)
    publish(published)
    assert (watcher.look(), watcher.number, watcher.look()) == (True, 1, False)
    publish(published)
    published.serve(0)
    assert watcher.look()
    assert (watcher.number, switched) == (0, ["test+1", "test"])
    published.serve(2)
    published.serve(0)
    assert not watcher.look()  # back before anybody looked


def test_a_restarted_server_serves_what_was_published(published: Published) -> None:
    publish(published)
    assert VersionWatcher(published).served.now.card.version == "test+1"


def test_a_version_that_cannot_be_loaded_leaves_the_one_before_with_a_note(published: Published) -> None:
    publish(published)
    watcher = VersionWatcher(published)
    publish(published)
    for path in published.served().glob("*.safetensors"):
        path.unlink()
    assert not watcher.look()
    assert (watcher.number, "version 2 of slem_brain cannot be used" in watcher.note) == (1, True)


def test_if_nothing_can_be_loaded_what_is_in_memory_goes_on_serving(published: Published) -> None:
    watcher = VersionWatcher(published)
    publish(published)
    shutil.rmtree(published.bundled)
    shutil.rmtree(published.served())
    with pytest.raises(NotFound):
        watcher.look()
    assert watcher.served.now.card.version == "test"


def test_no_request_waits_for_a_switch_nor_gets_half_of_one(published: Published, cases) -> None:
    watcher, found = VersionWatcher(published), cases.find("A")
    prepared, _ = watcher.served.now.prepare_case(found.grouping)
    watcher.start()
    try:
        answers, longest, stop = set(), [0.0], threading.Event()

        def ask() -> None:
            while not stop.is_set():
                begin = time.perf_counter()
                predictor = watcher.served.automatic("ann", "A")
                longest[0] = max(longest[0], time.perf_counter() - begin)
                answers.add((predictor.card.version, predictor.predict(prepared).array.tobytes()))

        asking = threading.Thread(target=ask)
        asking.start()
        for number in (publish(published), publish(published), 0):
            published.serve(number)
            wait_until(lambda number=number: watcher.number == number, 60)
            time.sleep(0.2)
        stop.set()
        asking.join()
    finally:
        watcher.stop()
    assert len({version for version, _ in answers}) == len(answers)  # each version always answers the same
    assert {"test", "test+2"} <= {version for version, _ in answers}
    assert longest[0] < 0.1
