"""The server's end: whoever stops it, it is gone in some seconds, whatever its threads do.

uvicorn waits for every request that is being answered, and Python for every thread. Labels need no such wait:
a version is on the disk as a whole or not at all.
"""

from __future__ import annotations

import faulthandler
import signal
import threading
from types import FrameType

__all__ = ["SECONDS", "end_by_signal", "is_ending"]

SECONDS = 8.0  # for requests to be answered; whoever started the server kills it after ten
TOLD: set[int] = set()  # signals that have told this process to end


def is_ending() -> bool:
    """Whether this process was told to end: what would go on for long must stop."""
    return bool(TOLD)


def end_by_signal(seconds: float = SECONDS) -> None:
    """From now on SIGTERM and SIGINT end this process within so many seconds, besides what they did before.

    The watch is a thread of C that needs nothing of Python. What the threads were doing goes to the log.
    """
    if threading.current_thread() is not threading.main_thread():  # signals come to the main thread only
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def end(number: int, frame: FrameType | None, before: signal.Handlers | object = before) -> None:
            TOLD.add(number)
            faulthandler.dump_traceback_later(seconds, exit=True)
            if callable(before):
                before(number, frame)

        signal.signal(number, end)
