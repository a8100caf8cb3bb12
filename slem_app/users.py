"""The users of a server: names, roles and argon2 hashes of their passwords, in one small file that only its
owner may read.

    {"users": [{"name": "ann", "role": "reader", "hash": "$argon2id$..."}]}

The server looks at the file again when it changes, so a user who is taken out is out at the next request.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from slem_app.errors import BadSetting, NotFound, StorageFailed
from slem_app.files import atomic_file, exclusive

__all__ = ["ROLES", "User", "UserFile", "default_place"]

ROLES = ("reader", "reviewer", "trainer", "admin")
"""Each may do what those before it may: segment and save; approve and reject what readers saved; train,
publish
and work through many cases; delete and read logs.
"""
SHORTEST = 10  # characters of a password
ENOUGH = 3  # of zxcvbn's 0 to 4: 10^8 guesses or more
LOOKED_AT = 72  # characters that are looked at: the time for it grows with their square
LONGEST = 1024  # of one that is looked at: hashing takes time that grows with it
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def default_place() -> Path:
    """Where the user file is unless a setting says otherwise."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "slem-label" / "users.json"


@dataclass(frozen=True)
class User:
    """Somebody who may log in."""

    name: str
    """What they log in with, and what the audit log says."""
    role: str
    """One of `ROLES`."""
    hash: str = ""
    """Of the password, by argon2id with its salt and cost; empty where another service checks it."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise BadSetting(
                f"{self.name[:80]!r} cannot be a user's name: at most 64 letters, digits and . _ @ -, the "
                "first a letter or digit"
            )
        if self.role not in ROLES:
            raise BadSetting(f"user {self.name}: no role {self.role!r}; there are {', '.join(ROLES)}")

    def may(self, role: str) -> bool:
        """True when this user may do what `role` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def check_guessable(name: str, password: str) -> None:
    """Refuse a password that is among the first that somebody would try: common ones, names, dates, keys
    in a row.

    The measure is zxcvbn's (Wheeler 2016, "zxcvbn: Low-Budget Password Strength Estimation", USENIX
    Security):
    at least 10^8 guesses.

    Raises:
        BadSetting: it can be guessed; the text says why.
    """
    from zxcvbn import zxcvbn  # slow to import, and needed for new passwords alone

    words = [word for word in re.split(r"[._@-]", name) if word]
    own = [name, *words, "slem", "slem label", "monai", "monailabel"]
    found = zxcvbn(password[:LOOKED_AT], user_inputs=own)
    if found["score"] < ENOUGH:
        why = found["feedback"]["warning"] or "it is among the first that are tried"
        advice = " ".join(found["feedback"]["suggestions"])
        raise BadSetting(f"this password can be guessed: {why.rstrip('.')}. {advice}".strip())


class UserFile:
    """The users in a file, which need not exist yet.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hasher = PasswordHasher()
        self.seen: tuple[int, ...] | None = None
        self.known: dict[str, User] = {}

    @cached_property
    def nobody(self) -> str:
        """What an unknown name's password is compared with, so that it takes as long as a wrong one's."""
        return self.hasher.hash("nobody's password")

    def users(self) -> Mapping[str, User]:
        """All users by name, as the file says now.

        Raises:
            BadSetting: a file that is damaged or that others may read or write.
        """
        try:
            state = self.path.stat()
        except FileNotFoundError:
            self.seen, self.known = None, {}
            return self.known
        seen = (state.st_mtime_ns, state.st_size, state.st_ino, state.st_mode)
        if seen != self.seen:
            if stat.S_IMODE(state.st_mode) & 0o077:
                raise BadSetting(f"{self.path} can be read by others of this machine: chmod 600 {self.path}")
            self.known = self._read()
            self.seen = seen
        return self.known

    def add(self, name: str, password: str, role: str) -> None:
        """Add a user.

        Raises:
            BadSetting: a name that is taken or cannot be one, an unknown role, a password that is too short.
            StorageFailed: the disk refused.
        """
        made = User(name, role, self._hash(name, password))
        with self._changing() as users:
            if name in users:
                raise BadSetting(
                    f"the user {name} already exists, as {users[name].role}: remove it first, or give it "
                    f"another password or role"
                )
            users[name] = made

    def change_password(self, name: str, password: str) -> None:
        """Give a user another password.

        Raises:
            NotFound: no such user.
            BadSetting: a password that is too short.
            StorageFailed: the disk refused.
        """
        self._known(self.users(), name)
        hashed = self._hash(name, password)
        with self._changing() as users:
            users[name] = User(name, self._known(users, name).role, hashed)

    def change_role(self, name: str, role: str) -> None:
        """Give a user another role; they keep their password, and log in anew.

        Raises:
            NotFound: no such user.
            BadSetting: an unknown role.
            StorageFailed: the disk refused.
        """
        with self._changing() as users:
            users[name] = User(name, role, self._known(users, name).hash)

    def remove(self, name: str) -> None:
        """Take a user out; what they have saved stays.

        Raises:
            NotFound: no such user.
            StorageFailed: the disk refused.
        """
        with self._changing() as users:
            self._known(users, name)
            del users[name]

    def check(self, name: str, password: str) -> User | None:
        """The user of that name and password, or None. Takes a tenth of a second of a core, whether there is
        such a user or not.
        """
        user, nobody = self.users().get(name), self.nobody
        try:
            self.hasher.verify(user.hash if user else nobody, password[:LONGEST])
        except (VerificationError, InvalidHashError):
            return None
        return user

    def _hash(self, name: str, password: str) -> str:
        if not SHORTEST <= len(password) <= LONGEST:
            raise BadSetting(
                f"a password needs {SHORTEST} characters or more (at most {LONGEST}); this one has "
                f"{len(password)}"
            )
        check_guessable(name, password)
        return self.hasher.hash(password)

    def _known(self, users: Mapping[str, User], name: str) -> User:
        if name not in users:
            raise NotFound(f"no user {name!r} in {self.path}; there are: {', '.join(users) or 'none'}")
        return users[name]

    def _read(self) -> dict[str, User]:
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8"))["users"]
            users = [User(str(row["name"]), str(row["role"]), str(row["hash"])) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise BadSetting(
                f"{self.path} is not a user file ({type(error).__name__}: {error}): correct it, or remove it "
                "and add the users again"
            ) from error
        return {user.name: user for user in users}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, User]]:
        """The users, to be changed; they are written when the block ends without an error. One process and
        thread at a time, so that no change is lost.

        Raises:
            StorageFailed: the disk refused.
        """
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with exclusive(folder):
                users = dict(self.users())
                yield users
                self._write(users)
        except OSError as error:
            raise StorageFailed(f"{self.path} cannot be changed: {error.strerror or error}") from error

    def _write(self, users: Mapping[str, User]) -> None:
        rows = [{"name": user.name, "role": user.role, "hash": user.hash} for user in users.values()]
        before = os.umask(0o077)
        try:
            with atomic_file(self.path) as file:
                file.write(json.dumps({"users": rows}, indent=1).encode())
        finally:
            os.umask(before)
