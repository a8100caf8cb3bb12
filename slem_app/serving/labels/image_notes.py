"""What clients and strategies note about cases: a small JSON file for each, beside the labels."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slem_app.errors import SlemError, TooLarge
from slem_app.store.labels import file_name, replace_file
from slem_app.strict_json import parse_object

__all__ = ["ImageNotes"]

logger = logging.getLogger(__name__)

NOTES_SIZE = 64 * 2**10  # bytes of the notes on an image


@dataclass(frozen=True)
class ImageNotes:
    """The notes on a server's cases."""

    root: Path
    """The folder of labels, uploads and notes."""

    def read(self, case: str) -> dict[str, Any]:
        """All notes on a case; none if the file cannot be read, which the log says."""
        path = self._file(case)
        try:
            return parse_object(path.read_bytes(), path.name, 2 * NOTES_SIZE) if path.is_file() else {}
        except SlemError as error:
            logger.error("the notes in %s are set aside, they cannot be read: %s", path, error)
            return {}

    def update(self, case: str, info: Mapping[str, object]) -> None:
        """Add notes to a case; a note of the same name is replaced.

        Raises:
            TooLarge: more notes than are kept.
            StorageFailed: the disk refused.
        """
        text = json.dumps({**self.read(case), **info}, indent=1)
        if len(text) > NOTES_SIZE:
            raise TooLarge(f"the notes on an image may have {NOTES_SIZE // 1024} KiB: shorten them")
        replace_file(self._file(case), text)

    def _file(self, case: str) -> Path:
        return self.root / "notes" / f"{file_name(case)}.json"
