"""What keeps the server's background threads alive.

Such a thread does one piece of work after the other for as long as the server runs, and nobody waits for it:
an error must end the piece, never the thread, and must be seen in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from slem_app.errors import SlemError

__all__ = ["outlive"]

T = TypeVar("T")

logger = logging.getLogger(__name__)


def outlive(work: Callable[[], T], what: str) -> T | None:
    """Do a piece of background work; None where it failed.

    Args:
        work: the piece.
        what: what it does, for the log.
    """
    try:
        return work()
    except (SlemError, OSError) as error:  # a full disk, a PACS that is away: nothing that a traceback tells
        logger.warning("%s failed and is tried again: %s", what, error)
    except Exception:  # a fault of this program; it is logged whole, and is not for the thread to die of
        logger.exception("%s failed and is tried again", what)
    return None
