"""The cases of a server: of a studies folder, or of a PACS, `--studies http://HOST:PORT/PATH`."""

from __future__ import annotations

from pathlib import Path

from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.settings import Settings
from slem_app.studies.dicomweb import PACS_FOLDER, DicomWebSource
from slem_app.studies.file_cache import FileCache
from slem_app.studies.header_index import INDEX_FILE, INDEX_FOLDER, HeaderIndex
from slem_app.studies.pacs import Pacs
from slem_app.studies.places import is_address

__all__ = ["open_cases", "open_studies"]

MANY = 200  # folders from which on a listing is kept on disk


def open_studies(
    studies: str, settings: Settings, root: Path, index: HeaderIndex | None = None
) -> Path | DicomWebSource:
    """What `--studies` names: the folder as it is, or a PACS.

    Args:
        studies: a path or an address.
        settings: of a PACS: which studies, how much is kept, for how long to wait.
        root: where the server keeps its things, the images of a PACS too.
        index: what a PACS has said before.

    Raises:
        BadSetting: no such address can be.
    """
    if not is_address(studies):
        return Path(studies)
    pacs = Pacs.from_environment(studies, query=settings.pacs_query, timeout=settings.pacs_timeout)
    return DicomWebSource(pacs, FileCache(root / PACS_FOLDER, settings.pacs_cache_mb * 2**20), index=index)


def open_cases(studies: str, settings: Settings, root: Path) -> Cases:
    """The cases of what `--studies` names, listed, with the index of their headers.

    Args:
        studies: a path or an address.
        settings: of the server.
        root: where the server keeps its things.

    Raises:
        BadSetting: no such address can be.
        BadStudy: a folder that is not empty and has no known layout.
        PacsFailed: the PACS does not answer, and nothing is known of it yet.
    """
    index = HeaderIndex(root / INDEX_FOLDER / INDEX_FILE, MANY)
    place = open_studies(studies, settings, root, index)
    return Cases(place, root / "uploads", settings.coding, settings.volume_mb * 2**20, index)
