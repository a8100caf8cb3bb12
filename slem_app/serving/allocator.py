"""How the C library keeps the memory that was given back, so that a server that runs for weeks stays small.

glibc takes large blocks from the system one by one (`mmap`) and gives them back at once. But each such block
that is freed lets it raise the size from which it does so, up to 32 MiB (`mallopt(3)`, M_MMAP_THRESHOLD):
after the first few volumes all others come out of its heaps, one for each of many threads, where they leave
holes that are never given back. A fixed size and few heaps keep that from happening.
"""

from __future__ import annotations

import ctypes
import logging
import platform

__all__ = ["keep_little"]

logger = logging.getLogger(__name__)

LARGE = 2**20  # bytes of a block that is given back at once
HEAPS = 4  # for the small blocks of all threads
MMAP_THRESHOLD, ARENA_MAX = -3, -8  # as <malloc.h> numbers them


def keep_little() -> bool:
    """Let this process give large blocks back at once; True where that is possible: with glibc.

    Heaps that threads have already stay; so this comes before the threads.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = bool(mallopt(MMAP_THRESHOLD, LARGE)) and bool(mallopt(ARENA_MAX, HEAPS))
    if not done:
        logger.warning("the C library does not take how memory is to be kept: the server may grow with time")
    return done
