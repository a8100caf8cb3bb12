"""What many requests of one client may take in memory: the body of one."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi import Request

from slem_app.errors import TooLarge
from slem_app.serving.models.queue import RequestQueue
from slem_app.serving.nninteractive.arrays import pack
from slem_app.serving.nninteractive.routes import Protocol
from slem_app.serving.nninteractive.segmenting import ScreenChange
from slem_app.serving.settings import Settings

PIECE = bytes(2**16)


class Work:
    """Stands for what a session segments; keeps the masks that came."""

    shape, reader = (4, 5, 6), "ann"

    def __init__(self) -> None:
        self.masks: list[np.ndarray] = []

    def close(self) -> None: ...

    def scribble(self, mask: np.ndarray, *_: bool) -> ScreenChange:
        self.masks.append(mask)
        return ScreenChange(ran=True)

    outline = start_from = scribble


class Sent:
    """A request, and how many bytes of its body were taken; without a body one that never ends."""

    def __init__(self, token: str, body: bytes = b"") -> None:
        self.taken, self.body = 0, body
        headers = [(b"x-lease-token", token.encode()), (b"x-meta", b'{"include_interaction": true}')]
        scope = {"type": "http", "method": "POST", "path": "/", "path_params": {}, "headers": headers}
        self.request = Request(scope, self._receive)

    async def _receive(self) -> dict:
        await asyncio.sleep(0)
        piece = self.body or PIECE
        self.taken += len(piece)
        return {"type": "http.request", "body": piece, "more_body": not self.body}


@pytest.fixture
def protocol(tmp_path: Path) -> Protocol:
    serving = SimpleNamespace(
        settings=Settings(volume_mb=1),
        cases=None,
        datastore=SimpleNamespace(root=tmp_path),
        sessions=None,
    )
    return Protocol(serving, RequestQueue())


@pytest.mark.parametrize("name", ["set_image", "add_scribble", "add_lasso", "add_initial_segmentation"])
def test_a_body_is_not_taken_before_its_turn_and_no_more_of_it_than_may_come(
    protocol: Protocol, name: str
) -> None:
    async def ask() -> None:
        token = protocol.sessions.claim("", lambda _: Work())
        answer: Callable = getattr(protocol, name)
        many = [Sent(token) for _ in range(20)]
        async with protocol.sessions.open[token].lock:  # an earlier request works
            tasks = [asyncio.create_task(answer(one.request, token)) for one in many]
            await asyncio.sleep(0.05)
            assert [one.taken for one in many] == [0] * 20
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in errors} == {TooLarge}
        assert max(one.taken for one in many) <= 2 * 2**20 + 2 * len(PIECE)

    asyncio.run(ask())


@pytest.mark.parametrize("name", ["add_scribble", "add_lasso", "add_initial_segmentation"])
def test_masks_that_come_at_once_are_all_answered(protocol: Protocol, name: str) -> None:
    pytest.importorskip("blosc2", reason="the package blosc2 is not installed")
    masks = [np.full(Work.shape, value, np.uint8) for value in (0, 1, 1)]
    work = Work()

    async def ask() -> list[int]:
        token = protocol.sessions.claim("", lambda _: work)
        sent = (Sent(token, pack(mask)).request for mask in masks)
        answers = await asyncio.gather(*(getattr(protocol, name)(one, token) for one in sent))
        return [answer.status_code for answer in answers]

    assert asyncio.run(asyncio.wait_for(ask(), 30)) == [200] * 3
    assert [mask.all() for mask in work.masks] == [False, True, True]
