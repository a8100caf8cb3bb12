"""Volumes that a client uploads for itself, each in a folder of its own for a while: MONAI Label's sessions.

    <folder>/<id>/meta.info + the volume

The file `meta.info` is as MONAI Label writes it. An id is what `add_session` gave out: it cannot lead out of
the folder, and nobody can guess it. A session that lost its metadata is one that is not there.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from slem_app.errors import NotFound
from slem_app.files import atomic_file

__all__ = ["UploadSession", "UploadSessions"]

logger = logging.getLogger(__name__)

META = "meta.info"
SHORTEST = 60  # seconds; a server-wide limit below this is taken for a mistake
USUAL = 3600  # seconds that count then


@dataclass(frozen=True)
class UploadSession:
    """One uploaded volume; the fields are those of MONAI Label's file."""

    name: str
    """Its id."""
    path: str
    """Its folder."""
    image: str
    """The volume: a file, or a folder of DICOM files."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Empty; MONAI Label has this field."""
    create_ts: int = 0
    """When it came, seconds since 1970."""
    last_access_ts: int = 0
    """When it was last asked for, seconds since 1970."""
    expiry: int = 0
    """Seconds after that when it is removed; 0: never."""

    def to_json(self) -> dict[str, Any]:
        """As clients are told of it."""
        return asdict(self)

    @property
    def over(self) -> bool:
        """Whether its time is over."""
        return 0 < self.expiry < time.time() - self.last_access_ts


class UploadSessions:
    """Sessions by id.

    Args:
        folder: where they are kept.
        expiry: seconds without a request after which a session is removed, at most.
    """

    def __init__(self, folder: Path, expiry: int) -> None:
        self.folder = Path(folder)
        self.expiry = expiry if expiry > SHORTEST else USUAL

    def add_session(self, volume: Path, expiry: int = 0) -> UploadSession:
        """Keep a volume, which is moved here.

        Args:
            volume: a file or a folder.
            expiry: seconds without a request after which it is removed; 0: the most.
        """
        name = str(uuid.uuid4())
        folder = self.folder / name
        folder.mkdir(parents=True)
        image = shutil.move(str(volume), str(folder / volume.name))
        now = int(time.time())
        lasts = min(expiry, self.expiry) if expiry > 0 else self.expiry
        session = UploadSession(name, str(folder), str(image), {}, now, now, lasts)
        self._write(session)
        return session

    def get_session(self, session_id: str, update_ts: bool = True) -> UploadSession | None:
        """The session, or None if it does not exist any more or lost its metadata.

        Args:
            session_id: as `add_session` gave it out.
            update_ts: note that it was asked for.

        Raises:
            NotFound: text that is not a session id.
        """
        if not re.fullmatch(r"[0-9a-zA-Z-]{1,64}", session_id):
            raise NotFound(f"{session_id!r} is not a session id")
        try:
            fields = json.loads((self.folder / session_id / META).read_text(encoding="utf-8"))
            session = UploadSession(**fields)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            logger.warning("session %s: unreadable metadata (%s)", session_id, error)
            return None
        if not Path(session.image).exists():
            self.remove_session(session_id)
            return None
        if update_ts:
            session = replace(session, last_access_ts=int(time.time()))
            self._write(session)
        return session

    def remove_session(self, session_id: str) -> None:
        """Take a session away, if it is there.

        Raises:
            NotFound: text that is not a session id.
        """
        if not re.fullmatch(r"[0-9a-zA-Z-]{1,64}", session_id):
            raise NotFound(f"{session_id!r} is not a session id")
        shutil.rmtree(self.folder / session_id, ignore_errors=True)

    def remove_expired(self) -> int:
        """Take away sessions whose time is over, and those that cannot be read; how many."""
        folders = [path for path in self.folder.iterdir() if path.is_dir()] if self.folder.is_dir() else []
        count = 0
        for folder in folders:
            if not re.fullmatch(r"[0-9a-f-]{36}", folder.name):
                continue  # not ours: leave it alone
            session = self.get_session(folder.name, update_ts=False)
            if session is None or session.over:
                self.remove_session(folder.name)
                count += 1
        return count

    def folder_of(self, image: str) -> Path | None:
        """The folder of the session whose volume is the path `image`; None if it is no session's."""
        root, path = self.folder.resolve(), Path(image).resolve()
        if root not in path.parents:
            return None
        return root / path.relative_to(root).parts[0]

    def _write(self, session: UploadSession) -> None:
        """One small file, replaced whole: another request may be reading it."""
        with atomic_file(Path(session.path) / META, durable=False) as file:
            file.write(json.dumps(session.to_json()).encode())
