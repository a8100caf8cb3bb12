"""What many requests of one client may take in memory: the body of one."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import Request

from slem_app.errors import TooLarge
from slem_app.serving.models.queue import RequestQueue
from slem_app.serving.nninteractive.routes import Protocol
from slem_app.serving.settings import Settings

PIECE = bytes(2**16)


class Work:
    """Stands for what a session segments."""

    shape = (4, 5, 6)

    def close(self) -> None: ...


class Sent:
    """A request whose body never ends, and how many bytes of it were taken."""

    def __init__(self, token: str) -> None:
        self.taken = 0
        headers = [(b"x-lease-token", token.encode()), (b"x-meta", b'{"include_interaction": true}')]
        scope = {"type": "http", "method": "POST", "path": "/", "path_params": {}, "headers": headers}
        self.request = Request(scope, self._receive)

    async def _receive(self) -> dict:
        await asyncio.sleep(0)
        self.taken += len(PIECE)
        return {"type": "http.request", "body": PIECE, "more_body": True}


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
