"""Polls of /info/: answered without a look at the disk, made anew after every change of this server's own and
every second, once for all who ask.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from monailabel.interfaces.app import MONAILabelApp

from slem_app.rounds.job import DONE, RoundFolder
from slem_app.serving.http.info_routes import FRESH, Lately, changes
from slem_app.serving.learning.request_types import TrainRequest
from slem_app.store.record import FINAL


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Told:
    """An answer that counts how often it was made."""

    def __init__(self) -> None:
        self.made, self.state, self.clock = 0, 0, Clock()
        self.lately = Lately(self._make, lambda: self.state, self._run, self.clock)

    def _make(self) -> bytes:
        self.made += 1
        return b"%d" % self.made

    async def _run(self, work: Callable[[], bytes]) -> bytes:
        await asyncio.sleep(0.01)
        return work()


def test_an_answer_is_given_for_a_second_and_made_once_for_all() -> None:
    async def test() -> None:
        told = Told()
        assert await asyncio.gather(*(told.lately.get() for _ in range(10))) == [b"1"] * 10
        told.clock.now += 0.9 * FRESH
        assert await told.lately.get() == b"1"
        told.clock.now += 0.2 * FRESH
        assert await told.lately.get() == b"2"
        told.state += 1
        assert await told.lately.get() == b"3"

    asyncio.run(test())


def test_a_change_while_it_is_made_makes_it_old() -> None:
    async def test() -> None:
        told = Told()
        first = asyncio.create_task(told.lately.get())
        await asyncio.sleep(0)
        told.state += 1
        assert await first == b"1"
        assert await told.lately.get() == b"2"

    asyncio.run(test())


@pytest.fixture
def app(open_app: Callable, heads: dict, models: Path, tmp_path: Path) -> MONAILabelApp:
    with open_app({"A": heads["A"]}, tmp_path, models="slem_brain", models_dir=str(models)) as instance:
        yield instance


def test_what_this_server_does_is_told_at_once(app: MONAILabelApp, tmp_path: Path) -> None:
    seen = [changes(app.serving)]

    def changed() -> bool:
        seen.append(changes(app.serving))
        return seen[-1] != seen[-2]

    label = str(next((tmp_path / "studies").rglob("*seg.nii.gz")))
    assert not changed()
    app.datastore().save_label("A", label, FINAL, {})
    assert changed()
    trainings = app.serving.trainings
    ended = RoundFolder.make(trainings._job(app.serving.watchers["slem_brain"], TrainRequest()), {})
    ended.change(status=DONE)
    assert not changed()
    assert trainings.running() is None  # which polls of /train/ tell: /info/ must not say anything else then
    assert changed()
    app.datastore().remove_label("A", FINAL)
    assert changed()
    app.datastore().add_image("new", str(next((tmp_path / "studies").rglob("*t1c.nii.gz"))), {})
    assert changed()
    assert not changed()
