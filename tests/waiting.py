"""Waiting for what something else will do."""

import time
from collections.abc import Callable


def wait_until(true: Callable[[], object], seconds: float, pause: float = 0.05) -> None:
    """Return once `true` is; fail when it is not within so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(pause)
