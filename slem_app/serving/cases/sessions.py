"""Volumes that a client uploads for itself: MONAI Label's sessions, with ids that cannot leave their folder.

MONAI Label joins the client's session id to a path as it comes, and does not start when one session folder
lost its metadata.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from pathlib import Path

from monailabel.utils.sessions import SessionInfo, Sessions

from slem_app.errors import NotFound

__all__ = ["UploadSessions"]

logger = logging.getLogger(__name__)


class UploadSessions(Sessions):
    """Sessions by id; an id is what `add_session` gave out."""

    def add_session(
        self, data_file: str, expiry: int = 0, uncompress: bool = False, session_id: str | None = None
    ) -> tuple[str, SessionInfo]:
        """Keep a volume under an id that nobody can guess; MONAI Label's own tells the time and
        the machine.
        """
        return super().add_session(data_file, expiry, uncompress, session_id or str(uuid.uuid4()))

    def get_session(
        self, session_id: str, update_ts: bool = True, fetch_cache: bool = True
    ) -> SessionInfo | None:
        """The session, or None if it does not exist any more or lost its metadata.

        Raises:
            NotFound: text that is no session id.
        """
        if not re.fullmatch(r"[0-9a-zA-Z-]{1,64}", session_id):
            raise NotFound(f"{session_id!r} is no session id")
        try:
            return super().get_session(session_id, update_ts, fetch_cache)
        except (json.JSONDecodeError, AttributeError, TypeError) as error:
            logger.warning("session %s: unreadable metadata (%s)", session_id, error)
            return None

    def remove_expired(self) -> int:
        """Take away sessions whose time is over, and those that cannot be read."""
        root = Path(self.store_path)
        folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
        count = 0
        for folder in folders:
            if not re.fullmatch(r"[0-9a-f-]{36}", folder.name):
                continue  # not ours: leave it alone
            info = self.get_session(folder.name, update_ts=False, fetch_cache=False)
            if info is None or 0 < info.expiry < time.time() - info.last_access_ts:
                self.remove_session(folder.name)
                count += 1
        return count

    def folder_of(self, image: str) -> Path | None:
        """The folder of the session whose volume is the path `image`; None if it is no session's."""
        root, path = Path(self.store_path).resolve(), Path(image).resolve()
        if root not in path.parents:
            return None
        return root / path.relative_to(root).parts[0]
