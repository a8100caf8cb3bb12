"""What a reader has spent on a case since the last version that this reader saved of it.

Clients tell it nowhere, so it is taken from their requests: the first one about a case begins the work, and
between two of them the time counts up to `pause` (a reader who draws by hand is silent for a while, one who
went home for longer). The start outlives the server only where the case was leased; what is not known is kept
as unknown.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["Activity", "Spent"]

MOST = 10_000  # readers' cases that are remembered, the latest


@dataclass(frozen=True)
class Spent:
    """One reader's work on one case."""

    last: float
    """The last request, seconds since 1970."""
    seconds: float = 0.0
    """Spent up to then."""
    saved: bool = False
    """A version was saved, and nothing was asked for since."""
    prompts: int = 0
    """Placed before that version."""


class Activity:
    """The work of all readers.

    Args:
        pause: most seconds between two requests that count.
        since: since when the reader has the case in hand (case, reader), seconds since 1970; None: it was not
            given out.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        pause: float,
        since: Callable[[str, str], float | None] = lambda *_: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pause, self.since, self.clock = pause, since, clock
        self.works: OrderedDict[tuple[str, str], Spent] = OrderedDict()
        self.guard = threading.Lock()

    def touch(self, case: str, reader: str) -> None:
        """The reader asked for something about the case."""
        with self.guard:
            now = self.clock()
            work = self._known(case, reader, now) or Spent(now)
            self._keep(
                case, reader, Spent(now, 0.0, False, work.prompts) if work.saved else self._until(work, now)
            )

    def take(self, case: str, reader: str, prompts: int) -> tuple[float | None, int]:
        """The reader saves a version.

        Args:
            case: case id.
            reader: as `reader_of` tells.
            prompts: how many the reader has placed on the case in all.

        Returns:
            Seconds since the version before, None where they are not known, and the prompts placed since
            then.
        """
        with self.guard:
            now = self.clock()
            work = self._known(case, reader, now)
            spent = self._until(work, now) if work else Spent(now)
            self._keep(case, reader, Spent(now, 0.0, True, prompts))
            return (round(spent.seconds, 1) if work else None), max(0, prompts - spent.prompts)

    def _known(self, case: str, reader: str, now: float) -> Spent | None:
        work = self.works.get((case, reader))
        begun = self.since(case, reader) if work is None else None
        return Spent(min(begun, now)) if begun is not None else work

    def _until(self, work: Spent, now: float) -> Spent:
        return replace(
            work, last=now, seconds=work.seconds + max(0.0, min(now - work.last, self.pause)), saved=False
        )

    def _keep(self, case: str, reader: str, work: Spent) -> None:
        self.works[case, reader] = work
        self.works.move_to_end((case, reader))
        while len(self.works) > MOST:
            self.works.popitem(last=False)
