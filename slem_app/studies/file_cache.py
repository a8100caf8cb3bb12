"""Files that were fetched from elsewhere, on disk up to a size: one folder a series, the one not used for
longest given up first.

A file appears by one rename, whole. A folder in use is never given up, so the limit may be passed while more
than that is needed at once. Several processes may share a cache: one of them may give up what another has
fetched, which is then fetched again.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slem_app.errors import StorageFailed
from slem_app.files import replacing

__all__ = ["FileCache"]


class FileCache:
    """Folders of files below `root`, at most `limit` bytes of them.

    Args:
        root: made when the first file comes, for its owner alone.
        limit: bytes.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self.root = root
        self.limit = limit
        self.guard = threading.Lock()
        self.used: Counter[Path] = Counter()

    @contextmanager
    def use(self, folder: Path) -> Iterator[Path]:
        """A folder of the cache that stays for as long as this lasts."""
        with self.guard:
            self.used[folder] += 1
            with suppress(FileNotFoundError):
                os.utime(folder)
        try:
            yield folder
        finally:
            with self.guard:
                self.used[folder] -= 1
                self.used += Counter()  # drops the zeros

    def put(self, path: Path, content: bytes) -> None:
        """Keep a file.

        Args:
            path: in a folder of the cache that is in use.
            content: all of it.

        Raises:
            StorageFailed: the disk refused; no part of the file is there.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with replacing(path, durable=False) as file:
                file.write(content)
        except OSError as error:
            raise StorageFailed(
                f"cannot store images of the PACS in {self.root}: {error.strerror or error}; free some space"
            ) from error

    def shrink(self) -> None:
        """Give up folders until the limit is kept."""
        with self.guard:
            folders = sorted(
                ((_size(folder), folder) for folder in self._folders()), key=lambda pair: pair[0][1]
            )
            total = sum(size for (size, _), _ in folders)
            for (size, _), folder in folders:
                if total <= self.limit:
                    return
                if not self.used[folder]:
                    shutil.rmtree(folder, ignore_errors=True)
                    with suppress(OSError):  # the last series of its study
                        folder.parent.rmdir()
                    total -= size

    def clear(self) -> int:
        """Give up everything that is not in use; how many folders that were."""
        with self.guard:
            unused = [folder for folder in self._folders() if not self.used[folder]]
            for folder in unused:
                shutil.rmtree(folder, ignore_errors=True)
            return len(unused)

    def _folders(self) -> list[Path]:
        return [path for path in self.root.glob("*/*") if path.is_dir()]


def _size(folder: Path) -> tuple[int, float]:
    """Bytes, and when it was last used."""
    stats = []
    for path in (folder, *folder.iterdir()):
        with suppress(FileNotFoundError):
            stats.append(path.stat())
    return sum(stat.st_size for stat in stats[1:]), stats[0].st_mtime if stats else 0.0
