"""`slem restore`: a store from an archive of `slem backup`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from slem_app.store.backup import restore

__all__ = ["Restore"]


@dataclass(frozen=True)
class Restore:
    """Make a store from an archive of `slem backup`.

    The archive is checked whole first; nothing that is there is written over.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """The archive."""
    store: Annotated[Path, tyro.conf.Positional]
    """The folder to make, which must not exist yet: `.slem` in the studies folder, or another for `--store`.
    """

    def run(self) -> int:
        """Unpack, check, and say what came."""
        kept = restore(self.file.expanduser(), self.store.expanduser())
        print(
            f"{self.store} has {kept.versions} label versions, {kept.files} files in all, as they were kept"
        )
        return 0
