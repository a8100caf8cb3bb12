"""`slem backup`: a server's store as one file, while the server works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from slem_app.store.backup import backup

__all__ = ["Backup"]


@dataclass(frozen=True)
class Backup:
    """Save a server's store in one file; the server may keep running.

    All that cannot be made again is in it: labels of all readers and versions, uploads, models, notes, the
    audit log. Copies of images and caches are not, nor the images of the studies themselves.
    """

    store: Annotated[Path, tyro.conf.Positional]
    """The store: `.slem` in the studies folder, or what `--store` named."""
    file: Annotated[Path, tyro.conf.Positional]
    """The archive (.tar) to make; an existing file is replaced once the new one is complete."""

    def run(self) -> int:
        """Write the archive and say what is in it."""
        kept = backup(self.store.expanduser(), self.file.expanduser())
        print(
            f"{self.file} keeps {kept.versions} label versions, {kept.files} files in all, "
            f"{kept.size / 2**20:.1f} MiB"
        )
        return 0
