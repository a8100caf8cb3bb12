"""Pictures of the places where a model doubts its own result: the slice through each, outlined. Made when
somebody
asks for one, all of a version at once, and kept in the store until the label changes.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from PIL import Image

from slem_app.errors import NotFound, StorageFailed
from slem_app.files import atomic_file
from slem_app.formats import read_label_file
from slem_app.report.pictures import spot
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.pages.thumbnails import colours_of
from slem_app.store.labels import LabelVersion, file_name
from slem_app.trust import Trust
from slem_app.volumes.read import read

__all__ = ["FOLDER", "PlacePictures", "trust_of"]

FOLDER = "places"  # in the store


def trust_of(version: LabelVersion | None) -> Trust:
    """What a model says of the label that stands for a case; nothing of one that a reader has changed."""
    if version is None or not version.record.automatic:
        return Trust()
    return version.record.trust


class PlacePictures:
    """The pictures of a server's cases.

    Args:
        datastore: their labels.
    """

    def __init__(self, datastore: CaseDatastore) -> None:
        self.datastore = datastore
        self.folder = datastore.root / FOLDER
        self.turn = threading.Lock()  # one at a time: who segments has the other cores

    def file(self, case_id: str, number: int) -> Path:
        """The picture of a place, PNG.

        Args:
            case_id: of the case.
            number: of the place, from 1 on.

        Raises:
            NotFound: no such case, or no such place in the label that stands for it.
            BadVolume, BadGrid: its image cannot be read.
            StorageFailed: the disk refused.
        """
        case, _ = self.datastore.cases.split(case_id)
        version = self.datastore.store.shown(case, self.datastore.experts)
        places = trust_of(version).places
        if version is None or not 1 <= number <= len(places):
            raise NotFound(f"case {case!r} has no place {number} to look at; it has {len(places)}")
        about = (version.tag, version.number, version.label.stat().st_mtime_ns)
        digest = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
        path = self.folder / file_name(case) / f"{digest}-{number}.png"
        with self.turn:
            if not path.is_file():
                self._make(case, version, path.parent, digest)
        return path

    def _make(self, case: str, version: LabelVersion, folder: Path, digest: str) -> None:
        image = read(self.datastore.cases.of_label(case, version).series)
        array, grid, _ = read_label_file(version.label)
        shown = array if grid.same_as(image.grid) else None
        colours = colours_of(version, self.datastore.labels)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("*.png"):
                old.unlink(missing_ok=True)
            for number, place in enumerate(version.record.trust.places, 1):
                picture = Image.fromarray(spot(image, place.centre, shown, colours))
                with atomic_file(folder / f"{digest}-{number}.png") as file:
                    picture.save(file, format="PNG", optimize=True)
        except OSError as error:
            raise StorageFailed(
                f"cannot write in {folder}: {error.strerror or error}; free some space"
            ) from error
