"""The ASGI application of `slem serve`: it opens the server's state when it is started, then answers.

It runs in one process and one event loop, never in several workers: what readers share lives in its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread
from starlette.applications import Starlette

from slem_app.serving.allocator import keep_little
from slem_app.serving.app_folder import open_serving
from slem_app.serving.background import outlive
from slem_app.serving.cases.sessions import UploadSessions
from slem_app.serving.http.application import Everything, build
from slem_app.serving.http.connections import raise_open_files
from slem_app.serving.log import limit_lines
from slem_app.serving.settings import read_environment
from slem_app.serving.shutdown import end_by_signal
from slem_app.serving.temporary import own_folder

__all__ = ["application"]

THREADS = 100  # a thread that waits for a disk or a PACS costs little, and a request without one waits
TIDY = 300.0  # seconds between looks for uploaded volumes whose time is over

# seconds after which a thread that computes lets others go on, status polls among them; Python's own 5 ms add
# up
SWITCH = 0.001


def application(studies: str, conf: Mapping[str, str], host: str, log: Path) -> Starlette:
    """The application for uvicorn; a failure to open the server's state ends the start.

    Args:
        studies: the studies folder, or the address of a PACS.
        conf: the settings.
        host: where it listens.
        log: the file that the server's log goes to.
    """

    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncIterator[None]:
        prepare_process()
        serving = open_serving(studies, conf)
        outer.router.routes.append(Everything(build(serving, host, read_environment().origins, log)))
        serving.start()
        tidying = asyncio.create_task(_tidy(serving.sessions))
        yield
        tidying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tidying

    return Starlette(lifespan=lifespan)


def prepare_process() -> None:
    """Set what holds for the whole process of a server."""
    os.umask(0o077)  # labels, copies of images, sessions and logs are the server's user's alone
    sys.setswitchinterval(SWITCH)
    limit_lines()
    raise_open_files()
    keep_little()
    to_thread.current_default_thread_limiter().total_tokens = THREADS
    end_by_signal()
    own_folder()


async def _tidy(sessions: UploadSessions) -> None:
    """Take away uploaded volumes whose time is over, again and again."""
    while True:
        await to_thread.run_sync(outlive, sessions.remove_expired, "taking away uploaded volumes")
        await asyncio.sleep(TIDY)


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
