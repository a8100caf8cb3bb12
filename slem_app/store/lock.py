"""One server at a time on a store: two would each keep leases, caches and the queue in a memory of its own,
and write over each other's.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from slem_app.errors import BadSetting, StorageFailed
from slem_app.files import is_locked, take_lock

__all__ = ["StoreLock"]


class StoreLock:
    """The lock of a store. The kernel keeps it, so it ends with its server, however that ends.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "server.lock"
        self.handle: int | None = None

    def take(self) -> None:
        """Keep all other servers from the store for as long as this process lives.

        Raises:
            BadSetting: another server has it.
            StorageFailed: the disk refused.
        """
        if self.handle is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = take_lock(self.path)
        except OSError as error:
            raise StorageFailed(
                f"{self.path} cannot be locked: {error.strerror or error}; set another folder with `--conf "
                f"store DIR`"
            ) from error
        if handle is None:
            raise BadSetting(
                f"another server ({self.holder()}) already serves the store {self.path.parent}: stop it, or "
                f"give this one another folder with `--conf store DIR`"
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        self.handle = handle

    def release(self) -> None:
        """Let others in."""
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None

    def held(self) -> bool:
        """Whether a server has the store."""
        return is_locked(self.path)

    def holder(self) -> str:
        """Who took it last, for people."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace") or "unknown"
        except OSError:
            return "unknown"
