"""Who holds a session of nnInteractive's protocol, and for how long.

A client claims one of a few places and gets a token that nobody can guess; with it come all its requests. A
place is free again when the client says so, when its user has done nothing for some minutes, or when the
client itself was silent for one. What it kept, in memory and on disk, goes with it.

Concurrency: everything here happens in the event loop; what a session does is alone with it by its `lock`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from slem_app.errors import SlemError, TooMany
from slem_app.serving.nninteractive.segmenting import Segmenting

__all__ = ["LIVENESS", "LeaseOver", "ObjectSession", "ObjectSessions"]

LIVENESS = 60.0  # seconds without a sign of the client after which its session is over


class LeaseOver(SlemError):
    """A session that is over, or never was."""

    status = 410


@dataclass(eq=False)
class ObjectSession:
    """One client's session."""

    place: int
    """Which of the server's places it has, from 1."""
    user: str
    """Who is logged in; empty where nobody is."""
    work: Segmenting
    """What is segmented."""
    acted: float
    """When its user did something, seconds of the clock."""
    seen: float
    """When its client said something, seconds of the clock."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it works."""


class ObjectSessions:
    """The sessions of a server.

    Args:
        most: how many at once.
        idle: seconds without an act of the user after which one is over.
        clock: seconds since some moment.
    """

    def __init__(self, most: int, idle: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.idle, self.clock = most, idle, clock
        self.open: dict[str, ObjectSession] = {}

    def claim(self, user: str, begin: Callable[[int], Segmenting]) -> str:
        """A new session; its token.

        Args:
            user: who is logged in.
            begin: makes the work of a place.

        Raises:
            TooMany: no place is free, or this user has half of them.
        """
        self.sweep()
        mine, share = sum(session.user == user for session in self.open.values()), max(1, self.most // 2)
        if user and mine >= share:
            raise TooMany(
                f"{user} has {mine} sessions, half of those of this server: close one, or try again when one "
                f"is over"
            )
        taken = {session.place for session in self.open.values()}
        free = next((place for place in range(1, self.most + 1) if place not in taken), None)
        if free is None:
            raise TooMany(
                f"all {self.most} sessions of this server are taken: try again later, or close one "
                f"(setting `nninteractive_sessions`)"
            )
        now, token = self.clock(), secrets.token_hex(16)
        self.open[token] = ObjectSession(free, user, begin(free), now, now)
        return token

    def get(self, token: str | None, user: str, acts: bool = False) -> ObjectSession:
        """The session of a token.

        Args:
            token: as the client sent it.
            user: who is logged in: another user's session is none.
            acts: its user does something, so its time begins anew.

        Raises:
            LeaseOver: there is no such session any more.
        """
        self.sweep()
        session = self.open.get(token or "")
        if session is None or session.user != user:
            raise LeaseOver("this session has ended, or the server was restarted: connect again")
        session.seen = self.clock()
        if acts:
            session.acted = session.seen
        return session

    def left(self, session: ObjectSession) -> float:
        """Seconds until a session is over if its user does nothing."""
        return max(0.0, self.idle - (self.clock() - session.acted))

    def release(self, token: str | None, user: str) -> None:
        """End a session; nothing happens where there is none."""
        session = self.open.get(token or "")
        if session is not None and session.user == user:
            del self.open[token or ""]
            session.work.close()

    def sweep(self) -> None:
        """End the sessions whose time is over; one that works is not idle."""
        now = self.clock()
        for token, session in list(self.open.items()):
            silent, idle = now - session.seen > LIVENESS, now - session.acted > self.idle
            if (silent or idle) and not session.lock.locked():
                del self.open[token]
                session.work.close()
