"""Where studies are: a folder, or the address of a PACS; and where a server keeps what is its own if nobody
says.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

__all__ = ["default_store", "is_address"]


def is_address(studies: str) -> bool:
    """True for the address of a PACS, false for a folder."""
    return studies.startswith(("http://", "https://"))


def default_store(studies: str) -> Path:
    """Where labels are kept: beside a folder's images; for a PACS in the user's data folder, one folder a
    PACS.

    Example:
        >>> str(default_store("/data/studies"))
        '/data/studies/.slem'
    """
    if not is_address(studies):
        return Path(studies) / ".slem"
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "slem-label" / quote(studies.partition("://")[2].rstrip("/"), safe="")
