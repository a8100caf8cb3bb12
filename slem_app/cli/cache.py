"""`slem cache`: what a server keeps of images beside the studies, and how to be rid of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from slem_app.errors import StorageFailed

__all__ = ["Cache"]

OF_STORE = {
    "images": "copies of images as one file, for clients",
    "pacs": "images that were fetched from the PACS",
    "scores": "what the model says of every case, for the choice of the next",
    "index": "which studies there are and their headers, so that they are not read again",
    "export": "the last data set that was downloaded",
    "thumbnails": "small pictures of the cases, for the worklist",
    "batch": "images that batch inference has fetched",
}
SESSIONS = "volumes that readers have sent up to be segmented"


@dataclass(frozen=True)
class Cache:
    """Show what a server keeps of images, and remove it.

    Labels, uploaded cases, notes, versions of models and the audit log are no cache and stay. What is taken
    away is made or fetched again when it is needed; do it while the server is stopped, else a request that is
    being answered may fail.
    """

    studies: Annotated[str, tyro.conf.Positional]
    """The studies folder, or the address of the PACS."""
    store: Path | None = None
    """The server's store, if it is not the default."""
    clear: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Remove it."""

    def run(self) -> int:
        """Print each cache with its size; the exit code."""
        from slem_app.studies.places import default_store

        root = (self.store or default_store(self.studies)).expanduser()
        for place, what in {
            **{root / name: what for name, what in OF_STORE.items()},
            _sessions(): SESSIONS,
        }.items():
            files = (
                [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
                if place.is_dir()
                else []
            )
            print(
                f"{sum(path.stat().st_size for path in files) / 2**20:9.1f} MiB  {len(files):6} files  "
                f"{place}  ({what})"
            )
            if self.clear and place.is_dir():
                _remove(place)
        if self.clear:
            print("All of it was removed.")
        return 0


def _sessions() -> Path:
    """Where MONAI Label keeps sessions."""
    return Path(
        os.environ.get("MONAI_LABEL_SESSION_PATH") or Path.home() / ".cache" / "monailabel" / "sessions"
    )


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StorageFailed(
            f"{folder} cannot be removed: {error.strerror or error}; stop the server and try again"
        ) from error
