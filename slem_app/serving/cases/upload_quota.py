"""How much of the disk one user's uploads may take: who fills the store with images stops all others' work.

Beside each uploaded image lies a hidden file with its user's name. What was uploaded before there were
quotas, or is in a session, which ends by itself, belongs to nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slem_app.errors import StorageFailed, TooLarge
from slem_app.files import atomic_file
from slem_app.store.labels import file_name

__all__ = ["UploadQuota"]

OWNER = ".user"


class UploadQuota:
    """The uploads of all users.

    Args:
        uploads: where uploaded images are kept, one folder each.
        limit: bytes a user; 0: no limit.
    """

    def __init__(self, uploads: Path, limit: int) -> None:
        self.uploads, self.limit = uploads, limit
        self.guard = threading.Lock()
        self.coming: dict[str, int] = {}  # bytes that are just being kept, by user

    def used(self, user: str) -> int:
        """Bytes of a user's images."""
        return sum(_size(folder) for folder in self._folders() if _owner(folder) == user)

    @contextmanager
    def room(self, user: str, case: str, size: int) -> Iterator[None]:
        """Keep an image in the block: it is the user's from then on.

        Args:
            user: who uploads; empty where nobody logs in.
            case: its id.
            size: bytes.

        Raises:
            TooLarge: the user has no room for it.
            StorageFailed: the disk refused.
        """
        with self.guard:
            taken = self.used(user) + self.coming.get(user, 0) if self.limit else 0
            if self.limit and taken + size > self.limit:
                raise TooLarge(
                    f"your uploads take {taken / 2**20:.0f} MiB of {self.limit / 2**20:.0f}, and this image "
                    f"has {size / 2**20:.1f} MiB: ask an admin to remove some, or to raise `upload_quota_mb`"
                )
            self.coming[user] = self.coming.get(user, 0) + size
        try:
            yield
            self._note(user, case)
        finally:
            with self.guard:
                self.coming[user] -= size
                if not self.coming[user]:
                    del self.coming[user]

    def _note(self, user: str, case: str) -> None:
        folder = self.uploads / file_name(case)
        if not folder.is_dir() or (folder / OWNER).exists():
            return  # the same image was there already, and is whose it was
        try:
            with atomic_file(folder / OWNER) as file:
                file.write(user.encode())
        except OSError as error:
            raise StorageFailed(f"{folder} cannot be written: {error.strerror or error}") from error

    def _folders(self) -> list[Path]:
        return [path for path in self.uploads.iterdir() if path.is_dir()] if self.uploads.is_dir() else []


def _owner(folder: Path) -> str | None:
    try:
        return (folder / OWNER).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _size(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # taken away just now
            continue
    return total
