"""Which reader has which case in hand, so that no other is offered it. On disk, so that a restart does not
forget it.

A lease ends after a while in which its reader does nothing with the case, when the case is labelled, or when
its reader takes further cases. It forbids nothing: whoever opens a case by its name may work on it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from slem_app.errors import StorageFailed
from slem_app.files import atomic_file

__all__ = ["Leases", "ReaderLease"]

logger = logging.getLogger(__name__)

MOST = 3  # cases that one reader has in hand: the one on the screen and those that were left aside
WORTH = (
    0.1  # share of the time by which a lease must grow for the file to be written anew: not at every click
)


@dataclass(frozen=True)
class ReaderLease:
    """One case in somebody's hands."""

    reader: str
    """Who has it, as `reader_of` tells."""
    since: float
    """Seconds since 1970."""
    until: float
    """Seconds since 1970."""


class Leases:
    """All leases of a server.

    Args:
        path: the file that keeps them.
        minutes: how long a lease lasts after its reader's last request.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, minutes: float, clock: Callable[[], float] = time.time) -> None:
        self.path, self.seconds, self.clock = path, 60 * minutes, clock
        self.guard = threading.RLock()  # held while a case is chosen, so that two readers never get the same
        self.leases = self._read()

    def holder(self, case: str) -> str | None:
        """Who has the case in hand now."""
        with self.guard:
            lease = self.leases.get(case)
            return lease.reader if lease and lease.until > self.clock() else None

    def held(self) -> dict[str, str]:
        """Case -> who has it in hand now, of all that somebody has."""
        with self.guard:
            now = self.clock()
            return {case: lease.reader for case, lease in self.leases.items() if lease.until > now}

    def since(self, case: str, reader: str) -> float | None:
        """When the reader was given the case, seconds since 1970; None where this reader does not have it in
        hand.
        """
        with self.guard:
            return self.leases[case].since if self.holder(case) == reader else None

    def of(self, reader: str) -> tuple[str, ...]:
        """The cases that a reader has in hand, the longest held first."""
        with self.guard:
            mine = [case for case in self.leases if self.holder(case) == reader]
            return tuple(sorted(mine, key=lambda case: self.leases[case].since))

    def take(self, case: str, reader: str) -> ReaderLease:
        """Give the case to a reader, who may have to give up the one that was left aside longest."""
        with self.guard:
            now = self.clock()
            for gone in [name for name, lease in self.leases.items() if lease.until <= now]:
                del self.leases[gone]
            self.leases[case] = ReaderLease(reader, now, now + self.seconds)
            for aside in self.of(reader)[:-MOST]:
                del self.leases[aside]
            self._write()
            return self.leases[case]

    def renew(self, case: str, reader: str) -> None:
        """The reader did something with the case: it is kept for as long again, if it was this reader's."""
        with self.guard:
            if self.holder(case) != reader:
                return
            lease = self.leases[case]
            until = self.clock() + self.seconds
            if until - lease.until > WORTH * self.seconds:
                self.leases[case] = ReaderLease(reader, lease.since, until)
                self._write()

    def release(self, case: str) -> None:
        """The case is done."""
        with self.guard:
            if self.leases.pop(case, None):
                self._write()

    def _read(self) -> dict[str, ReaderLease]:
        try:
            table = json.loads(self.path.read_text(encoding="utf-8"))
            return {case: ReaderLease(**row) for case, row in table.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning(
                "%s cannot be read (%s): which reader has which case is forgotten", self.path, error
            )
            return {}

    def _write(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path) as file:
                file.write(
                    json.dumps(
                        {case: asdict(lease) for case, lease in self.leases.items()}, indent=1
                    ).encode()
                )
        except (OSError, StorageFailed) as error:  # a reader must get the case all the same
            logger.warning("leases are kept until the server stops only: %s", error)
