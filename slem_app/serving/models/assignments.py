"""Which case is in which reader's hand, and with what version of the model it was begun: also after the
server was started again.

One small file a model, replaced whole whenever something in it changes, so a server that is killed leaves the
old one or the new one. What cannot be read, a version that is there no more, or a case that nobody touched
for `DAYS`, is a case in nobody's hand.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from slem_app.errors import StorageFailed
from slem_app.files import atomic_file
from slem_app.predict import Predictor

__all__ = ["Assignment", "AssignmentFile", "AssignmentRow"]

logger = logging.getLogger(__name__)

# after which a case that was begun and never submitted is in nobody's hand any more, once the server starts
DAYS = 14.0


@dataclass(frozen=True, eq=False)
class Assignment:
    """A case in a reader's hand."""

    predictor: Predictor
    """Of the version that it was begun with."""
    working: bool = False
    """Whether anything was corrected."""
    submitted: bool = False
    """Whether its final label was."""


@dataclass(frozen=True)
class AssignmentRow:
    """A case in a reader's hand, as the file has it."""

    reader: str
    """As `reader_of` tells."""
    case: str
    """Case id."""
    version: str
    """Of the card that it was begun with."""
    sha256: str
    """Of its weights."""
    working: bool
    """As in `Hand`."""
    submitted: bool
    """As in `Hand`."""
    at: float
    """When one of these came about, seconds since 1970."""


class AssignmentFile:
    """The file of one model.

    Args:
        path: where it is.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self.clock = path, clock
        self.rows = self._read()

    def write(self, assignments: Mapping[tuple[str, str], Assignment]) -> None:
        """Keep these and no others, in their order; where nothing changed but the order, nothing
        is written.
        """
        known, now, rows = {(row.reader, row.case): row for row in self.rows}, self.clock(), []
        for (reader, case), assignment in assignments.items():
            card, old = assignment.predictor.card, known.get((reader, case))
            row = AssignmentRow(
                reader,
                case,
                card.version,
                card.sha256,
                assignment.working,
                assignment.submitted,
                old.at if old else now,
            )
            rows.append(row if row == old else AssignmentRow(**asdict(row) | {"at": now}))
        if set(rows) == set(self.rows):
            return
        self.rows = tuple(rows)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path, durable=False) as file:
                file.write(json.dumps([asdict(row) for row in rows], indent=1).encode())
        except (OSError, StorageFailed) as error:  # a reader must get his answer all the same
            logger.warning("which version readers work with is kept until the server stops only: %s", error)

    def _read(self) -> tuple[AssignmentRow, ...]:
        try:
            rows = [AssignmentRow(**row) for row in json.loads(self.path.read_text(encoding="utf-8"))]
            return tuple(row for row in rows if self.clock() - row.at < 86400 * DAYS)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as error:
            logger.warning(
                "%s cannot be read (%s): readers go on with the version that is served", self.path, error
            )
            return ()
