"""Who is logged in: tokens that mean nothing by themselves, each good for a while, until its user leaves or
is taken out.

Only hashes of tokens are kept, and only in memory, so all are logged out when the server starts anew. Safe
for threads.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from slem_app.errors import NotLoggedIn, TooOften
from slem_app.users import User, UserFile

__all__ = ["Login", "Logins"]

MINUTES = 5.0  # for which failed attempts count
# failed attempts in that time: of one name from one place, and of all names from one place
OF_NAME, OF_PLACE = (5, 30)
REMEMBERED = 10_000  # log-ins, and places with failed attempts


@dataclass(frozen=True)
class Login:
    """One log-in."""

    user: User
    """Whose."""
    until: float
    """When it ends, whatever happens."""
    used: float
    """When it was used last."""


class Logins:
    """All log-ins of a server.

    Args:
        users: those who may log in with a password.
        hours: how long a log-in lasts.
        idle_minutes: how long it lasts without a request.
        clock: seconds since some moment.
    """

    def __init__(
        self,
        users: UserFile,
        hours: float = 10.0,
        idle_minutes: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.users, self.hours, self.idle, self.clock = users, hours, idle_minutes * 60, clock
        self.open: OrderedDict[str, Login] = OrderedDict()
        self.failures: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()
        self.used: OrderedDict[str, float] = OrderedDict()  # by name, when a log-in of theirs was used last
        self.guard = threading.Lock()

    def log_in(self, name: str, password: str, place: str) -> str:
        """A new token for a user who knows the password.

        Args:
            name: the user's.
            password: the user's.
            place: the address that the attempt comes from.

        Raises:
            TooOften: too many failed attempts; the password is not even looked at.
            NotLoggedIn: unknown user or wrong password.
            BadSetting: the user file cannot be used.
        """
        keys = (("name", place, name[:100]), ("place", place))
        with self.guard:
            wait = max(self._wait(keys[0], OF_NAME), self._wait(keys[1], OF_PLACE))
            if wait > 0:
                raise TooOften(
                    f"too many failed log-ins: try again in {wait / 60:.0f} min"
                    if wait > 90
                    else f"too many failed log-ins: try again in {wait:.0f} s"
                )
            for key in (
                keys
            ):  # counted before the password is looked at, so that many attempts at once are no way around it
                self._failed(key)
        user = self.users.check(name, password)
        if user is None:
            raise NotLoggedIn("unknown user or wrong password")
        with self.guard:
            for key in keys:
                self.failures.pop(key, None)
        return self.begin(user)

    def begin(self, user: User) -> str:
        """A new token for a user whose identity is known."""
        token, now = secrets.token_urlsafe(32), self.clock()
        with self.guard:
            self.open[_digest(token)] = Login(user, now + self.hours * 3600, now)
            while len(self.open) > REMEMBERED:
                self.open.popitem(last=False)
        return token

    def of(self, token: str) -> Login:
        """The log-in of a token, which is thereby used.

        Raises:
            NotLoggedIn: none, or one that has ended.
        """
        key, now = _digest(token), self.clock()
        with self.guard:
            login = self.open.get(key)
        if login is None:
            raise NotLoggedIn("log in: this server requires a log-in")
        known = not login.user.hash or self.users.users().get(login.user.name) == login.user
        with self.guard:
            if not known or now >= login.until or now - login.used >= self.idle:
                self.open.pop(key, None)
                raise NotLoggedIn("the log-in has ended: log in again")
            if key in self.open:
                self.open[key] = login = replace(login, used=now)
                self._note_use(login.user.name, now)
        return login

    def last_seen(self) -> dict[str, float]:
        """Name -> when a log-in of theirs was used last, seconds since 1970; since the server's start."""
        with self.guard:
            return dict(self.used)

    def _note_use(self, name: str, now: float) -> None:
        self.used[name] = now
        self.used.move_to_end(name)
        while len(self.used) > REMEMBERED:
            self.used.popitem(last=False)

    def log_out(self, token: str) -> None:
        """End a log-in; nothing happens where there is none."""
        with self.guard:
            self.open.pop(_digest(token), None)

    def _wait(self, key: tuple[str, ...], most: int) -> float:
        """Seconds until another attempt may be made."""
        times = self.failures.get(key, deque())
        while times and times[0] <= self.clock() - 60 * MINUTES:
            times.popleft()
        return times[0] + 60 * MINUTES - self.clock() if len(times) >= most else 0.0

    def _failed(self, key: tuple[str, ...]) -> None:
        self.failures.setdefault(key, deque()).append(self.clock())
        self.failures.move_to_end(key)
        while len(self.failures) > REMEMBERED:
            self.failures.popitem(last=False)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
