"""Answers that are sent piece by piece, whose source is closed with them.

Where a reader goes away in the middle, Starlette leaves what the pieces came from to Python's collector: a
file of gigabytes or a connection to the PACS would stay open until that runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping

from anyio import CancelScope
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

__all__ = ["Stream"]


class Stream(StreamingResponse):
    """An answer whose generator and source are closed when it ends, however it ends, and also where it never
    began.

    Args:
        pieces: a generator.
        source: what the pieces come from, with `aclose` or `close`.
        status_code, headers, media_type: of the answer; FastAPI looks for these names.
    """

    def __init__(
        self,
        pieces: Iterator[bytes] | AsyncIterator[bytes],
        source: object = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(pieces, status_code, headers, media_type)
        self.pieces, self.source = pieces, source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await _close(self.pieces)
                await _close(self.source)


async def _close(one: object) -> None:
    if (aclose := getattr(one, "aclose", None)) is not None:
        await aclose()
    elif (close := getattr(one, "close", None)) is not None:
        await run_in_threadpool(close)
