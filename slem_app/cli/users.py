"""`slem users`: who may log in to a server."""

from __future__ import annotations

import getpass
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from slem_app.errors import BadSetting
from slem_app.users import UserFile, default_place

__all__ = ["Users"]


@dataclass(frozen=True)
class Users:
    """Add, list and remove those who may log in to the server, and change their passwords and roles.

    The password is asked for, or read from standard input where that is no terminal. A running server takes
    changes over at once.
    """

    action: Annotated[Literal["add", "list", "remove", "password", "role"], tyro.conf.Positional]
    """What to do."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """The user's name."""
    role: Literal["reader", "reviewer", "trainer", "admin"] = "reader"
    """The role of a new user, or a user's new role. reader: segment and save; reviewer: also approve and
    reject; trainer: also train, publish and run batches; admin: also delete and read logs.
    """
    file: Path | None = None
    """The user file. Default: ~/.config/slem-label/users.json, which `slem serve` also uses."""

    def run(self) -> int:
        """Do it, and say what was done."""
        users = UserFile(self.file or default_place())
        if self.action == "list":
            for user in users.users().values():
                print(f"{user.name}\t{user.role}")
            print(f"{len(users.users())} in {users.path}", file=sys.stderr)
            return 0
        if not self.name:
            raise BadSetting(f"the name is missing: slem users {self.action} NAME")
        if self.action == "add":
            users.add(self.name, _password(), self.role)
            print(f"{self.name} may log in as {self.role} ({users.path})")
        elif self.action == "password":
            users.change_password(self.name, _password())
            print(f"{self.name} has a new password; log-ins with the old one have ended")
        elif self.action == "role":
            users.change_role(self.name, self.role)
            print(f"{self.name} is now a {self.role} and must log in again")
        else:
            users.remove(self.name)
            print(f"{self.name} can no longer log in and is logged out; saved labels stay")
        return 0


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != first:
        raise BadSetting("the two passwords differ: nothing was changed")
    return first
