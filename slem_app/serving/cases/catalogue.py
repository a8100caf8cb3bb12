"""From any id that a client may send to a case and one of its sequences.

Ids: `CASE`, `CASE/SEQUENCE` or `CASE/SERIES`, and the UID of a study or series alone, as OHIF knows them
(`dicom_view`); the sequence or series decides on whose grid the result lies. Besides the studies folder
there are the images that clients have uploaded: each is a case of one series, as is a session. Listings are
never kept longer than a few times what they take to make, and an id that is not known makes a new one, so new
cases appear by themselves.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from slem_app.errors import BadStudy, NotFound, SlemError
from slem_app.formats.virtual_dicom import virtual_study_uid
from slem_app.grouping import Grouping, group
from slem_app.result_warning import ResultWarning
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.dicom_view import DicomView, DicomViews, is_dicom
from slem_app.serving.cases.lock_by_name import LockByName
from slem_app.serving.cases.upload_grouping import NIFTI, group_upload
from slem_app.store.case_labels import drawn_on
from slem_app.store.labels import LabelVersion, file_name
from slem_app.store.series_choices import SeriesChoices
from slem_app.studies import Study, StudySource, open_source
from slem_app.studies.dicom import DicomSource
from slem_app.studies.dicomweb import DicomWebSource
from slem_app.studies.header_index import HeaderIndex
from slem_app.studies.source import files_state, folders_of

__all__ = ["Cases"]

logger = logging.getLogger(__name__)

# cases whose headers are kept, the latest; each takes some 100 KiB, and a PACS has more of them than memory
OPENED = 1000
LISTED = 3.0  # seconds for which a PACS's list of studies is used
# a listing is used for this many times as long as it took to make, and as long as the folder itself is as it
# was
PATIENCE = 10

UID = re.compile(r"[0-9]+(\.[0-9]+)+")
QUICK = 0.02  # seconds; a listing that takes less may be waited for by a status poll
LARGEST = 1024 * 2**20  # bytes of an uploaded volume in memory
READERS = 16  # requests that may wait for the headers of one case
CLOCK = 2.0  # seconds by which times of files may be coarse


class Cases:
    """All cases of a server.

    Args:
        studies: the studies folder, which may be empty still, or a PACS.
        uploads: where uploaded images are kept, one folder each.
        coding: label coding of the studies, where it cannot be decided.
        largest: bytes that a volume which a client uploads may take in memory.
        index: what was read of the studies folder before; a PACS has its own.
        choices: which series people have chosen by hand; default: beside the uploads.

    Raises:
        BadStudy: a folder that is not empty and has no known layout.
        PacsFailed: the PACS does not answer.
    """

    def __init__(
        self,
        studies: Path | DicomWebSource,
        uploads: Path,
        coding: str | None = None,
        largest: int = LARGEST,
        index: HeaderIndex | None = None,
        choices: SeriesChoices | None = None,
    ) -> None:
        self.largest, self.index = largest, index
        self.choices = choices or SeriesChoices(uploads.parent)
        self.pacs = studies if isinstance(studies, DicomWebSource) else None
        self.studies = studies.pacs.url if isinstance(studies, DicomWebSource) else studies
        self.name = "PACS" if self.pacs is not None else Path(self.studies).name
        self.uploads = uploads
        self.coding = coding
        self.groupings: dict[str, tuple[Hashable, tuple[Grouping, tuple[ResultWarning, ...]]]] = {}
        self.views = DicomViews(OPENED)
        self.virtual: tuple[tuple[str, ...], dict[str, str]] = ((), {})
        self.guard = threading.RLock()  # of the listing, which threads of several requests may find old
        self.reading = LockByName(READERS, "case")  # each held while its headers are read
        self.asking = threading.Lock()  # held by the thread that lists for status polls
        self._list(anew=self.pacs is None or not self.pacs.listed_before)

    def ids(self) -> tuple[str, ...]:
        """All case ids, sorted: those of the studies folder and uploaded ones."""
        with self.guard:
            if time.monotonic() > self.stale or self.seen != self._entries():
                self._list()
            return self.listed

    def known(self) -> tuple[str, ...]:
        """As `ids`, without waiting: where listing takes long, a thread does it, and until then this is what
        was listed last.
        """
        if self.took < QUICK:
            return self.ids()
        if time.monotonic() > self.stale and self.asking.acquire(blocking=False):
            threading.Thread(target=self._list_aside, name="listing", daemon=True).start()
        return self.listed

    def _list_aside(self) -> None:
        try:
            self.ids()
        except (SlemError, OSError) as error:  # of a status poll; who asks for a case is told
            logger.warning("the cases cannot be listed: %s", error)
        finally:
            self.asking.release()

    def find(self, identifier: str, likely: Sequence[str] = ()) -> Case:
        """The case and sequence that an id stands for.

        Args:
            identifier: any id, see above.
            likely: what an uploaded image whose name says nothing is taken for, see `group_upload`.

        Raises:
            NotFound: no such case, or no such sequence in it, or an id that leaves the studies folder.
            BadStudy: a case of which no sequence is known, or a DICOM series that several cases have.
        """
        case, rest = self.split(identifier)
        grouping, warnings = self._grouping(case, likely)
        reference = grouping.reference()
        _, other = grouping.image(rest)
        sequence = grouping.resolve(rest) if rest and not other else reference
        by_uid = bool(UID.fullmatch(identifier)) and identifier != case
        return Case(case, grouping, sequence, warnings, other, view=self._view(case, grouping), by_uid=by_uid)

    def of_label(self, case: str, version: LabelVersion) -> Case:
        """The image of a case that a label lies on.

        Raises:
            NotFound, BadStudy: as `find`; also where that image is not there any more.
        """
        likely = (version.sequence,)
        grouping, _ = self._grouping(case, likely)
        return self.find(f"{case}/{drawn_on(grouping, version)}", likely)

    def has(self, case: str) -> bool:
        """True when there is a case of exactly this id."""
        return case in self.ids() or case in self._list()

    def patients(self) -> Mapping[str, str]:
        """Case -> PatientID of the cases in DICOM that are open."""
        return {case: _patient(made[0].study) for case, (_, made) in list(self.groupings.items())}

    def split(self, identifier: str) -> tuple[str, str]:
        """Case id and what follows it: ('CASE', ''), ('CASE', 'SEQUENCE') or ('CASE', 'SERIES'); DICOM UIDs
        are enough.

        Raises:
            NotFound: no such case.
            BadStudy: a DICOM series that several cases have.
        """
        case, _, rest = identifier.partition("/")
        self.known()  # what was listed last will do: whether the case is there still shows when it is opened
        if case in self.names:
            return case, rest
        if self.pacs is not None and UID.fullmatch(identifier) and (study := self.pacs.study_of(identifier)):
            return study, identifier
        if case in self._list():
            return case, rest
        if self.pacs is None and UID.fullmatch(identifier) and (found := self._by_uid(identifier)):
            return found
        some = f" (e.g. {', '.join(self.listed[:3])})" if self.listed else ""
        raise NotFound(
            f"no case {identifier!r} among the {len(self.listed)} here{some}: ask for CASE or CASE/SEQUENCE"
        )

    def study(self, case: str) -> Study:
        """A case as it lies on disk.

        Raises:
            NotFound: it is gone.
        """
        return self._grouping(case)[0].study

    def grouping(self, case: str) -> Grouping:
        """A case's series, named, also where none is a known sequence.

        Raises:
            NotFound: it is gone.
            BadStudy: it cannot be read.
        """
        return self._grouping(case)[0]

    def opened(self, case: str) -> Grouping | None:
        """The same of a case that was opened lately, without a look at the disk; None of any other."""
        kept = self.groupings.get(case)
        return kept[1][0] if kept else None

    def dicom_studies(self) -> dict[str, str]:
        """StudyInstanceUID -> case id of all cases; with a PACS, of its studies alone."""
        listed = self.ids()
        if isinstance(self.source, DicomWebSource):
            return self.source.uids()
        dicom = self.source if isinstance(self.source, DicomSource) else None
        if self.virtual[0] is not listed:
            others = [case for case in listed if not (dicom and case in self.own)]
            self.virtual = (listed, {virtual_study_uid(case): case for case in others})
        return self.virtual[1] | dicom.uids() if dicom else self.virtual[1]

    def view(self, case: str) -> DicomView:
        """How DICOM viewers know a case.

        Raises:
            NotFound: it is gone.
            BadStudy: it cannot be read.
        """
        return self._view(case, self._grouping(case)[0])

    def _view(self, case: str, grouping: Grouping) -> DicomView:
        if self.pacs is not None and not is_dicom(grouping.study):  # viewers are shown the PACS alone
            return DicomView("", "")
        return self.views.of(case, grouping)

    def _by_uid(self, uid: str) -> tuple[str, str] | None:
        """The case of a study, or the case of a series and that series' id; cases that were asked for before
        are looked at first.
        """
        studies = self.dicom_studies()
        if uid in studies:
            return studies[uid], ""
        for lately in (True, False):
            asked = [case for case in studies.values() if (case in self.groupings) is lately]
            found = [(case, series) for case in asked if (series := self._series_of(case, uid))]
            if len(found) > 1:
                cases = ", ".join(case for case, _ in found)
                raise BadStudy(f"several cases have a series {uid} ({cases}): ask for CASE/SERIES")
            if found:
                return found[0]
        return None

    def _series_of(self, case: str, uid: str) -> str:
        """The id of a case's series that a UID means; empty where none has it."""
        try:
            if one := self.view(case).virtual.get(uid):
                return one.series.id
            return uid if self.study(case).find(uid) is not None else ""
        except SlemError:  # another case's trouble
            return ""

    def uploaded(self, case: str) -> Path | None:
        """The file of an uploaded image; None if `case` is not one."""
        found = [
            path
            for path in (self.uploads / file_name(case)).glob("*")
            if path.name.endswith(NIFTI) and not path.name.startswith(".")
        ]
        return found[0] if found else None

    def refresh(self) -> None:
        """Look at the folders anew at the next question."""
        self.stale = 0.0

    def _list(self, anew: bool = True) -> tuple[str, ...]:
        with self.guard:
            return self._listed(anew)

    def _listed(self, anew: bool = True) -> tuple[str, ...]:
        """List all cases.

        Args:
            anew: ask the PACS; else what it said before the server's start will do, until it is asked aside.
        """
        start, now, entries = time.monotonic(), time.time(), self._entries()
        source: StudySource | None = self.pacs
        if self.pacs is not None and anew:
            self.pacs.refresh()
        elif self.pacs is None and self._filled():  # the layout itself may have come to light only now
            source = open_source(self.studies, self.coding, self.index)
        if source is not None:
            source.by_hand = self.choices.of
        own = frozenset(() if source is None else source.ids())
        uploads = {unquote(path.name) for path in self.uploads.iterdir()} if self.uploads.is_dir() else set()
        self.source, self.own, self.listed_at, self.seen = source, own, now, entries
        self.listed = tuple(sorted(own | {case for case in uploads - own if self.uploaded(case)}))
        self.names = frozenset(self.listed)
        self.took = time.monotonic() - start if anew else QUICK
        kept = max(PATIENCE * self.took, LISTED if self.pacs is not None else 0.0)
        self.stale = time.monotonic() + kept if anew else 0.0
        return self.listed

    def _filled(self) -> bool:
        """Whether anything lies in the studies folder."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.studies) as entries:
            return any(not entry.name.startswith(".") for entry in entries)
        return False

    def _entries(self) -> tuple[int, ...]:
        """Changes when something comes into the studies or uploads folder, or goes."""
        return tuple(
            folder.stat().st_mtime_ns
            for folder in (*(() if self.pacs is not None else (Path(self.studies),)), self.uploads)
            if folder.is_dir()
        )

    def _grouping(self, case: str, likely: Sequence[str] = ()) -> tuple[Grouping, tuple[ResultWarning, ...]]:
        """The case's grouping; kept as long as neither its files nor their folders change. Made by one
        thread, for which others wait.
        """
        with self.reading.hold(case):
            return self._made(case, likely)

    def _made(self, case: str, likely: Sequence[str]) -> tuple[Grouping, tuple[ResultWarning, ...]]:
        kept, chosen = self.groupings.get(case), self.choices.state(case)
        if self.pacs is not None and case in self.own:
            state = (self.pacs.state(case), chosen)
            if not kept or kept[0] != state:
                kept = self._remember(case, state, (group(self.pacs.study(case)), ()))
            return kept[1]
        if kept and kept[0] and kept[0] == _state(kept[1][0].study, chosen):
            return kept[1]
        if case not in self.own:  # one small file
            upload = self.uploaded(case)
            if upload is None:
                raise NotFound(f"case {case!r} is gone")
            return group_upload(case, [upload], likely=likely, by_hand=self.choices.of(case))
        grouped = (group(self._study(case)), ())
        return self._remember(case, _state(grouped[0].study, chosen), grouped)[1]

    def _remember(
        self, case: str, state: Hashable, made: tuple[Grouping, tuple[ResultWarning, ...]]
    ) -> tuple[Hashable, tuple[Grouping, tuple[ResultWarning, ...]]]:
        """Keep what was made of a case, at the cost of what was made first."""
        with self.guard:
            self.groupings.pop(case, None)
            self.groupings[case] = (state, made)
            while len(self.groupings) > OPENED:
                del self.groupings[next(iter(self.groupings))]
        return state, made

    def _study(self, case: str) -> Study:
        """The case as it is now, though the listing may be older."""
        if self.source is None:
            raise NotFound(f"case {case!r} is gone")
        study = self.source.study(case)
        newest = max((folder.stat().st_mtime for folder in folders_of(study) if folder.is_dir()), default=0.0)
        if newest < self.listed_at - CLOCK and files_state(study):
            return study
        if case not in self._list() or self.source is None:
            raise NotFound(f"case {case!r} is gone")
        return self.source.study(case)


def _state(study: Study, chosen: Hashable) -> Hashable:
    """Changes when a file of a study does, or what was chosen of it by hand; () when a file is gone."""
    files = files_state(study)
    return (files, chosen) if files else ()


def _patient(study: Study) -> str:
    """PatientID; empty where the images do not say."""
    return next((str(one.header.get("PatientID") or "") for one in study.series if one.format == "dicom"), "")
