"""Which case is made by whom: leases with a heartbeat, tries again, and a quarantine, in one SQLite file on
the machine's own disk, for any number of processes at once.

A case is leased to one process for a while; the process renews its leases as long as it lives, so what a lost
one had in hand is free again: at once where that process ran on this machine, else when the lease ends. The
queue says who shall make a case, not what is made: a result that is there counts, whatever is written here
(`Drafts.claimed`). So a queue that is lost, or damaged and made anew, costs a look at each case and never a
result.

A run is one call of the command: the cases that it wants. Runs share the cases and their leases.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from slem_app.errors import StorageFailed
from slem_app.files import runs, writer

__all__ = ["LEASE", "Counts", "Lease", "WorkQueue"]

LEASE = 60.0  # seconds without a heartbeat after which a case is another's
TRIES = 5  # of a case, by failures that may pass or by workers that died with it; then it is in quarantine
PAUSE = 2.0  # seconds before the second try, twice as long before each further one
WAITING, LEASED, MADE, FOREIGN = "waiting", "leased", "made", "foreign"
HELD, QUARANTINED = "held", "quarantined"
OLD = 7 * 24 * 3600.0  # seconds after which a run of another machine counts as ended
TABLES = """
CREATE TABLE IF NOT EXISTS cases (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE, state TEXT, holder TEXT, token TEXT, expires REAL, tries
    INTEGER, not_before REAL, reason TEXT, seconds REAL);
CREATE INDEX IF NOT EXISTS by_state ON cases (state);
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, holder TEXT, started REAL);
CREATE TABLE IF NOT EXISTS wanted (run TEXT, name TEXT, PRIMARY KEY (run, name)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Lease:
    """A case in this process's hands."""

    case: str
    """Case id."""
    token: str
    """Of this lease alone."""
    tries: int
    """The how manieth try it is, from 1 on."""


@dataclass(frozen=True)
class Counts:
    """How far a run is."""

    total: int = 0
    """Cases that it wants."""
    made: int = 0
    """Cases that have their result."""
    foreign: tuple[str, ...] = ()
    """Cases that are another model's."""
    quarantined: dict[str, str] = field(default_factory=dict)
    """Case -> why it cannot be made."""
    held: dict[str, str] = field(default_factory=dict)
    """Case -> why its result is held back from readers."""
    leased: int = 0
    """Cases in somebody's hands."""
    by: tuple[int, ...] = ()
    """Cases that each process has made, the most first."""

    @property
    def ended(self) -> int:
        """Cases for which nothing more is done."""
        return self.made + len(self.foreign) + len(self.held) + len(self.quarantined)


class WorkQueue:
    """The queue as one process sees it; its threads share it.

    Args:
        path: the file, made if need be.
        lease: seconds, see `LEASE`.
        clock: seconds since 1970.

    Raises:
        StorageFailed: the disk refused.
    """

    def __init__(self, path: Path, lease: float = LEASE, clock: Callable[[], float] = time.time) -> None:
        self.path, self.lease_seconds, self.clock = Path(path), lease, clock
        self.holder = f"{writer()}-{uuid.uuid4().hex[:6]}"
        self.guard = threading.RLock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.base = self._open()
        except (OSError, sqlite3.OperationalError) as error:
            raise StorageFailed(
                f"{self.path} cannot be used: {error}; free some space, then call again"
            ) from error

    def fill(self, run: str, cases: Sequence[str]) -> None:
        """Begin a run.

        Args:
            run: its name.
            cases: those that need a result, in the order in which they are made; those in quarantine, and
                those whose result was held back, are tried again.
        """
        now = self.clock()
        with self._change() as base:
            for old, holder, started in base.execute("SELECT run, holder, started FROM runs").fetchall():
                if _is_dead(holder) or now - started > OLD:
                    base.execute("DELETE FROM wanted WHERE run = ?", (old,))
                    base.execute("DELETE FROM runs WHERE run = ?", (old,))
            base.execute("INSERT INTO runs VALUES (?, ?, ?)", (run, self.holder, now))
            base.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?)", [(run, case) for case in cases])
            base.executemany(
                "INSERT INTO cases VALUES (NULL, ?, 'waiting', '', '', 0, 0, 0, '', 0)"
                " ON CONFLICT (name) DO UPDATE SET state = 'waiting', tries = 0, not_before = 0, reason = ''"
                " WHERE state IN ('made', 'foreign', 'held', 'quarantined')",
                [(case,) for case in cases],
            )

    def lease(self, run: str) -> Lease | None:
        """A case of the run that nobody has; None where there is none at this moment."""
        now, token = self.clock(), uuid.uuid4().hex
        with self._change() as base:
            self._free_lost(base, now)
            row = base.execute(
                "SELECT cases.number, cases.name, tries FROM cases INDEXED BY by_state"
                " CROSS JOIN wanted ON wanted.run = ? AND wanted.name = cases.name"
                " WHERE state = 'waiting' AND not_before <= ? ORDER BY cases.number LIMIT 1",
                (run, now),
            ).fetchone()
            if row is None:
                return None
            base.execute(
                "UPDATE cases SET state = 'leased', holder = ?, token = ?, expires = ?, tries = ?"
                " WHERE number = ?",
                (self.holder, token, now + self.lease_seconds, row[2] + 1, row[0]),
            )
        return Lease(row[1], token, row[2] + 1)

    def _free_lost(self, base: sqlite3.Connection, now: float) -> None:
        """Take back the cases of processes that are gone."""
        question = "SELECT number, holder, expires, tries FROM cases WHERE state = 'leased'"
        for number, holder, expires, tries in base.execute(question).fetchall():
            if expires >= now and not _is_dead(holder):
                continue
            if tries < TRIES:
                base.execute("UPDATE cases SET state = 'waiting', token = '' WHERE number = ?", (number,))
                continue
            reason = f"{tries} processes died while they made it: see what its images need of memory"
            base.execute(
                "UPDATE cases SET state = 'quarantined', token = '', reason = ? WHERE number = ?",
                (reason, number),
            )

    def renew(self) -> None:
        """This process lives."""
        with self._change() as base:
            base.execute(
                "UPDATE cases SET expires = ? WHERE state = 'leased' AND holder = ?",
                (self.clock() + self.lease_seconds, self.holder),
            )

    def made(self, lease: Lease, seconds: float) -> None:
        """The case has its result, whoever wrote it."""
        with self._change() as base:
            base.execute(
                "UPDATE cases SET state = 'made', holder = ?, token = '', reason = '', seconds = ?"
                " WHERE name = ?",
                (self.holder, seconds, lease.case),
            )

    def foreign(self, lease: Lease) -> None:
        """The case is another model's."""
        self._end(lease, FOREIGN, "")

    def held(self, lease: Lease, reason: str) -> None:
        """The case has a result that no reader is shown, for a reason that people are told."""
        self._end(lease, HELD, reason)

    def failed(self, lease: Lease, reason: str, may_pass: bool) -> None:
        """The case could not be made.

        Args:
            lease: of the case.
            reason: for people.
            may_pass: try again after a pause, up to `TRIES` times.
        """
        if not may_pass or lease.tries >= TRIES:
            self._end(lease, QUARANTINED, reason)
            return
        with self._change() as base:
            base.execute(
                "UPDATE cases SET state = 'waiting', token = '', reason = ?, not_before = ? WHERE token = ?",
                (reason, self.clock() + PAUSE * 2 ** (lease.tries - 1), lease.token),
            )

    def give_back(self) -> None:
        """This process goes on with none of its cases, and that is no failure of theirs."""
        with self._change() as base:
            base.execute(
                "UPDATE cases SET state = 'waiting', token = '', tries = tries - 1"
                " WHERE state = 'leased' AND holder = ?",
                (self.holder,),
            )

    def left(self, run: str) -> bool:
        """Whether a case of the run waits or is in somebody's hands."""
        with self.guard:
            row = self.base.execute(
                "SELECT 1 FROM cases INDEXED BY by_state"
                " CROSS JOIN wanted ON wanted.run = ? AND wanted.name = cases.name"
                " WHERE state IN ('waiting', 'leased') LIMIT 1",
                (run,),
            ).fetchone()
        return row is not None

    def counts(self, run: str) -> Counts:
        """How far a run is."""
        of_run = "FROM wanted JOIN cases USING (name) WHERE run = ?"
        with self.guard:
            each = dict(
                self.base.execute(f"SELECT state, COUNT(*) {of_run} GROUP BY state", (run,)).fetchall()
            )
            rest = self.base.execute(
                f"SELECT name, state, reason {of_run} AND state IN ('foreign', 'held', 'quarantined')"
                " ORDER BY name",
                (run,),
            ).fetchall()
            by = self.base.execute(
                f"SELECT COUNT(*) {of_run} AND state = 'made' GROUP BY holder ORDER BY 1 DESC", (run,)
            ).fetchall()
        return Counts(
            sum(each.values()),
            each.get(MADE, 0),
            tuple(name for name, state, _ in rest if state == FOREIGN),
            {name: reason for name, state, reason in rest if state == QUARANTINED},
            {name: reason for name, state, reason in rest if state == HELD},
            each.get(LEASED, 0),
            tuple(count for (count,) in by),
        )

    def _end(self, lease: Lease, state: str, reason: str) -> None:
        """The last word on a case, if the lease still holds."""
        with self._change() as base:
            base.execute(
                "UPDATE cases SET state = ?, reason = ?, token = '' WHERE token = ?",
                (state, reason, lease.token),
            )

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One change, whole or not at all."""
        with self.guard:
            try:
                self.base.execute("BEGIN IMMEDIATE")
                with self.base:
                    yield self.base
            except sqlite3.OperationalError as error:
                raise StorageFailed(
                    f"{self.path} cannot be written: {error}; free some space, then call again to go on"
                ) from error

    def _open(self) -> sqlite3.Connection:
        try:
            return _opened(self.path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # damaged, by a power cut perhaps: nothing in it is needed
            for end in ("", "-wal", "-shm"):
                Path(f"{self.path}{end}").unlink(missing_ok=True)
            return _opened(self.path)


def _opened(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=120, isolation_level=None, check_same_thread=False)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("PRAGMA synchronous = NORMAL")
    base.executescript(TABLES)
    return base


def _is_dead(holder: str) -> bool:
    """Whether a process of this machine has ended; of another machine's only the heartbeat tells."""
    machine, process, _ = holder.split("-")
    return machine == writer().partition("-")[0] and not runs(int(process))
