"""The ASGI application that `slem serve` starts: `python -m slem_app.serving.monai start_server ...`.

MONAI Label reads its options and loads the app of `apps/slem`; this application then answers instead of its
own. It runs in one process and one event loop, never with `--workers` above 1: what readers share lives in
its memory.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from starlette.applications import Starlette

from slem_app.serving.allocator import keep_little
from slem_app.serving.http.application import Everything
from slem_app.serving.http.connections import raise_open_files
from slem_app.serving.log import limit_lines
from slem_app.serving.monai.app import start
from slem_app.serving.shutdown import end_by_signal
from slem_app.serving.temporary import own_folder

__all__ = ["app"]

THREADS = 100  # a thread that waits for a disk or a PACS costs little, and a request without one waits

# seconds after which a thread that computes lets others go on, status polls among them; Python's own 5 ms add
# up
SWITCH = 0.001


@asynccontextmanager
async def lifespan(outer: Starlette) -> AsyncIterator[None]:
    """Load the app, then answer with its routes."""
    os.umask(0o077)  # labels, copies of images, sessions and logs are the server's user's alone
    sys.setswitchinterval(SWITCH)
    limit_lines()
    raise_open_files()
    keep_little()
    to_thread.current_default_thread_limiter().total_tokens = THREADS
    end_by_signal()
    own_folder()
    outer.router.routes.append(Everything(start()))
    yield


class NoQuery(logging.Filter):
    """Keeps what viewers search for, a patient's name perhaps, out of uvicorn's log of requests, should
    somebody switch that on.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.args = tuple(
            part.partition("?")[0] if isinstance(part, str) else part for part in record.args or ()
        )
        return True


logging.getLogger("uvicorn.access").addFilter(NoQuery())
app = Starlette(lifespan=lifespan)
