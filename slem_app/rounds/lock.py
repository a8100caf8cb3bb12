"""Who may train: the lock of all rounds, which the process of the running one holds."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from time import sleep, time

from slem_app.errors import BadSetting, NotFound, StorageFailed
from slem_app.files import is_locked, take_lock

__all__ = ["Busy", "Lock"]

UNNAMED = 2.0  # seconds for which whoever has taken the lock may not have said so


class Busy(BadSetting):
    """A round is running already."""

    status = 429


class Lock:
    """One round at a time. The lock is the kernel's: it ends with the last process that holds it, so none is
    ever stale.

    Args:
        root: folder of all rounds.
        what: what runs, for the message.
    """

    def __init__(self, root: Path, what: str = "a training") -> None:
        self.path, self.what = Path(root) / "lock", what

    def take(self) -> int:
        """The lock as an open file, which may be handed to a child process; closing it in all of them gives
        it back.

        Raises:
            Busy: a round is running.
            StorageFailed: the file cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = take_lock(self.path)
            if handle is not None:
                os.ftruncate(handle, 0)  # the process that held it before is not this one
        except OSError as error:
            raise StorageFailed(
                f"{self.path} cannot be created: {error.strerror or error}: give the server a store that it "
                f"can write to"
            ) from error
        if handle is None:
            raise Busy(
                f"{self.what} is already running (process {self.holder() or 'unknown'}): wait until it ends, "
                "or stop it"
            )
        return handle

    def name(self, handle: int, process: int) -> None:
        """Say who holds it."""
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(process).encode(), 0)

    def holder(self) -> int | None:
        """Process id of whoever took it last; None where nobody has said so."""
        try:
            text = self.path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        return int(text) if text.isdigit() and int(text) > 1 else None

    def held(self) -> bool:
        """Whether a round runs."""
        return is_locked(self.path)

    def kill(self) -> None:
        """End whoever holds it, with all processes of its group: it is made to be killed at any moment.
        Nothing happens where nobody holds it.

        Raises:
            NotFound: somebody holds it and does not say who.
        """
        end = time() + UNNAMED
        while (process := self.holder()) is None and self.held() and time() < end:
            sleep(0.02)  # it was taken a moment ago
        if not self.held():
            return
        if process is None:
            raise NotFound(
                f"{self.what} is running, but {self.path} does not name its process, so it cannot be stopped "
                f"from here: stop it on the server's machine (`fuser {self.path}` names the process)"
            )
        with suppress(ProcessLookupError):  # it has ended just then
            if os.getpgid(process) == process:
                os.killpg(process, signal.SIGKILL)
            else:  # started by hand, in its terminal's group
                os.kill(process, signal.SIGKILL)
