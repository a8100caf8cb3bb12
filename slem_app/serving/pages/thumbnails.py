"""A small picture of each case: the slice with most of its label, outlined, else the middle of the head. Made
when somebody asks for it, kept in the store, made anew when the image or the label changes.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from slem_app.errors import SlemError, StorageFailed
from slem_app.files import atomic_file
from slem_app.formats import read_label_file
from slem_app.labels import LabelSet
from slem_app.report.pictures import thumbnail
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.store.labels import LabelVersion, file_name
from slem_app.volumes.read import read

__all__ = ["FOLDER", "Thumbnails", "colours_of"]

FOLDER = "thumbnails"  # in the store
PLAIN = (255, 213, 0)  # a label whose model is gone


class Thumbnails:
    """The pictures of a server's cases.

    Args:
        cases: whose pictures.
        datastore: their labels.
    """

    def __init__(self, cases: Cases, datastore: CaseDatastore) -> None:
        self.cases, self.datastore = cases, datastore
        self.folder = datastore.root / FOLDER
        self.turn = threading.Lock()  # one at a time: who segments has the other cores

    def file(self, case_id: str) -> Path:
        """The picture of a case, PNG.

        Raises:
            NotFound, BadStudy: no such case, or none of its series is a known sequence.
            BadVolume, BadGrid: its image cannot be read.
            StorageFailed: the disk refused.
        """
        version = self.datastore.store.shown(self.cases.split(case_id)[0], self.datastore.experts)
        case = self._image(case_id, version)
        path = self._place(case, version)
        if path.is_file():
            return path
        with self.turn:
            if not path.is_file():
                self._make(case, version, path)
        return path

    def made(self, case: Case, version: LabelVersion | None) -> bool:
        """Whether the picture is there already, of this image and label."""
        return self._place(self._image(case.id, version), version).is_file()

    def _image(self, case_id: str, version: LabelVersion | None) -> Case:
        """The image that the label lies on; the reference where there is no label, or its image is gone."""
        if version is not None:
            try:
                return self.cases.of_label(case_id, version)
            except SlemError:
                pass
        return self.cases.find(case_id)

    def _place(self, case: Case, version: LabelVersion | None) -> Path:
        label = (version.tag, version.number, version.label.stat().st_mtime_ns) if version else ()
        about = repr((case.image, case.series.id, case.series.state, label))
        digest = hashlib.sha256(about.encode()).hexdigest()[:16]
        return self.folder / file_name(case.id) / f"{digest}.png"

    def _make(self, case: Case, version: LabelVersion | None, path: Path) -> None:
        image, array = read(case.series), None
        if version is not None:
            array, grid, _ = read_label_file(version.label)
            array = array if grid.same_as(image.grid) else None
        colours = colours_of(version, self.datastore.labels) if version is not None else {}
        picture = Image.fromarray(thumbnail(image, array, colours))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for old in path.parent.glob("*.png"):
                old.unlink(missing_ok=True)
            with atomic_file(path) as file:
                picture.save(file, format="PNG", optimize=True)
        except OSError as error:
            raise StorageFailed(f"cannot write {path}: {error.strerror or error}; free some space") from error


def colours_of(version: LabelVersion, labels: Mapping[str, LabelSet]) -> dict[int, tuple[int, int, int]]:
    """Label value -> colour of a version's label map, as the model's card has it.

    Args:
        version: whose values.
        labels: label sets by model name.
    """
    names = version.names
    known = labels.get(str(version.meta.get("model") or "")) or next(
        (one for one in labels.values() if set(names) <= set(one.names)), None
    )
    colours = {label.name: label.color for label in known.labels} if known else {}
    return {value: colours.get(name, PLAIN) for value, name in enumerate(names, 1)}
