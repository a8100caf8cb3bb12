"""The server's log: as JSON where that is wanted, and never longer than its reader's patience.

A line that anybody can have written again and again (a malformed request, a connection that the system has no
file left for) is written a few times a minute, then only how often it was left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FORMATS", "FewLines", "limit_lines", "log_config"]

FORMATS = ("text", "json")
MOST = 10  # times a minute that one line is written
MINUTE = 60.0
MOST_BYTES, OLD_FILES = 10 * 2**20, 10  # of a log, and how many full ones are kept
TEXT = "[%(asctime)s] [%(process)s] [%(threadName)s] [%(levelname)s] (%(name)s:%(lineno)d) - %(message)s"
LOUD = ("asyncio", "uvicorn.error", "slem_app.serving.http.connections", "slem_app.serving.error_replies")
JSON = {
    "()": "pythonjsonlogger.json.JsonFormatter",
    "fmt": "%(asctime)s %(levelname)s %(name)s %(threadName)s %(message)s",
    "rename_fields": {"asctime": "time", "levelname": "level", "threadName": "thread", "name": "logger"},
}


def log_config(file: Path, level: str, form: str) -> dict[str, Any]:
    """The logging configuration: to the terminal, and to a file that is followed by another when it is full.

    Args:
        file: where the log goes; its folder is made.
        level: of the lines that are written, as `logging` names it.
        form: one of `FORMATS`.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    to_file: dict[str, str | int] = {
        "class": "logging.handlers.RotatingFileHandler",
        "formatter": "lines",
        "filename": str(file),
        "maxBytes": MOST_BYTES,
        "backupCount": OLD_FILES,
        "encoding": "utf-8",
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": dict(JSON) if form == "json" else {"format": TEXT}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "lines"}, "file": to_file},
        "root": {"level": level.upper(), "handlers": ["console", "file"]},
        "loggers": {"urllib3.connectionpool": {"level": "ERROR"}},
    }


class FewLines(logging.Filter):
    """Lets a line of a logger through a few times a minute.

    Args:
        most: how often.
        clock: seconds.
    """

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.most, self.clock = most, clock
        self.guard = threading.Lock()
        self.begun = clock()
        self.counts: dict[tuple[str, int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, record.levelno, str(record.msg)[:200])
        with self.guard:
            if self.clock() - self.begun >= MINUTE:
                self.begun, self.counts = self.clock(), {}
            count = self.counts[key] = self.counts.get(key, 0) + 1
        if count == self.most:
            record.msg, record.args = f"{record.getMessage()} (more of these are left out for a minute)", ()
        return count <= self.most


def limit_lines() -> None:
    """Limit the lines that strangers can cause."""
    for name in LOUD:
        log = logging.getLogger(name)
        if not any(isinstance(one, FewLines) for one in log.filters):
            log.addFilter(FewLines())
