"""What an answer in pieces is made from is closed with it: at its end, where its reader leaves, and where it
never begins.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from slem_app.serving.streams import Stream

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


class Source:
    """Tells whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class SlowSource:
    """The same, of an asynchronous kind."""

    closed = False

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


def some(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"piece"


async def some_later(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(0)
        yield b"piece"


async def sent(answer: Stream, stays_for: int) -> int:
    """Let an answer be sent to a reader who leaves after so many pieces; how many came."""
    gone, count = asyncio.Event(), 0

    async def receive() -> dict:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        nonlocal count
        count += bool(message.get("body"))
        if count >= stays_for:
            gone.set()
            await asyncio.sleep(60)  # as a connection that takes no more

    if stays_for == 0:
        gone.set()
    await answer(SCOPE, receive, send)
    return count


@pytest.mark.parametrize(("source", "make"), [(Source, some), (SlowSource, some_later)])
@pytest.mark.parametrize("stays_for", [0, 2])
def test_what_is_left_unread_is_closed(source: type, make: type, stays_for: int) -> None:
    gc.disable()  # which would close a generator in the end
    try:
        one, pieces = source(), make(10**6)
        assert asyncio.run(sent(Stream(pieces, one), stays_for)) <= stays_for
        assert one.closed
        assert next(iter(pieces), None) is None if make is some else pieces.ag_frame is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("source", "make"), [(Source, some), (SlowSource, some_later)])
def test_what_was_read_to_its_end_is_closed(source: type, make: type) -> None:
    one = source()
    assert asyncio.run(sent(Stream(make(5), one), 100)) == 5
    assert one.closed


def test_a_failure_on_the_way_closes_it() -> None:
    def failing() -> Iterator[bytes]:
        yield b"piece"
        raise ZeroDivisionError

    one = Source()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(sent(Stream(failing(), one), 100))
    assert one.closed
