"""Studies of a PACS: listed by QIDO-RS, grouped from the headers that WADO-RS hands out, pixels fetched only
when they are read.

A case's id is its StudyInstanceUID. Series objects point to where their files will lie in a cache on disk,
and `Series.files` brings them there, in parallel, whole or not at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from slem_app.errors import NotFound, PacsFailed
from slem_app.studies.dicom_header import Header, json_slices
from slem_app.studies.dicom_series import assemble
from slem_app.studies.file_cache import FileCache
from slem_app.studies.header_index import HeaderIndex
from slem_app.studies.pacs import PARALLEL, Attributes, Pacs, text
from slem_app.studies.series import Study
from slem_app.studies.source import StudySource
from slem_app.studies.study_headers import study_from_table, to_table
from slem_app.studies.whose import Whose

__all__ = ["PACS_FOLDER", "DicomWebSource"]

logger = logging.getLogger(__name__)

PACS_FOLDER = "pacs"  # below the folder in which a server keeps its things: where its images lie
IMAGES = frozenset({"MR"})  # modalities of which series are read; results and reports are not images
FRESH = 2.0  # seconds for which what the PACS has said about a study's series is believed
ASKED = 5000  # studies whose list of series is kept, the latest


@dataclass(frozen=True)
class PacsSeries:
    """A series of the PACS and its place in the cache."""

    pacs: Pacs
    """Where it comes from."""
    cache: FileCache
    """Where it goes."""
    pool: ThreadPoolExecutor = field(repr=False)
    """Of all requests for images."""
    study: str
    """StudyInstanceUID."""
    uid: str
    """SeriesInstanceUID."""
    instances: tuple[str, ...]
    """SOPInstanceUIDs of all its files."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Of fetching: who comes second waits for what the first one fetches."""

    def __reduce__(self) -> tuple[Any, ...]:
        """For a process of a cluster, which fetches the files into a cache of its own at the same path. The
        password stays here: that process reads it from its environment.
        """
        pacs = {"query": self.pacs.query, "timeout": self.pacs.timeout, "attempts": self.pacs.attempts}
        place = (self.cache.root, self.cache.limit)
        return _elsewhere, (self.pacs.url, pacs, place, self.study, self.uid, self.instances)

    @property
    def folder(self) -> Path:
        """Of its files, each named by its SOPInstanceUID."""
        return self.cache.root / self.study / self.uid

    @property
    def state(self) -> Hashable:
        """Its instances, which never change in a PACS."""
        return (self.uid, *self.instances)

    @contextmanager
    def here(self) -> Iterator[Path]:
        """All files are in the folder while this lasts.

        Raises:
            NotFound: an image is no longer in the PACS.
            PacsFailed: the PACS does not hand one out.
            StorageFailed: the disk refused.
        """
        with self.cache.use(self.folder):
            with self.lock:
                missing = [uid for uid in self.instances if not (self.folder / f"{uid}.dcm").is_file()]
                if missing:
                    self._fetch(missing)
            yield self.folder

    def _fetch(self, missing: list[str]) -> None:
        """Fetch files; after the first that cannot be had no further one is asked for, and those that came
        are kept for the next time.
        """
        failed = threading.Event()

        def fetch(uid: str) -> None:
            if failed.is_set():
                return
            try:
                self.cache.put(self.folder / f"{uid}.dcm", self.pacs.instance(self.study, self.uid, uid))
            except BaseException:
                failed.set()
                raise

        running = [self.pool.submit(fetch, uid) for uid in missing]
        try:
            for one in running:
                one.result()
        except NotFound as error:
            raise NotFound(
                f"series {self.uid} has lost images since it was listed ({error}): check in the PACS whether "
                "it is still being sent"
            ) from error
        finally:
            for one in running:
                one.exception()
            self.cache.shrink()


@cache
def _cache_here(root: Path, limit: int) -> tuple[FileCache, ThreadPoolExecutor]:
    """A cache of this process, and what fetches into it."""
    return FileCache(root, limit), ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="pacs")


@cache
def _pacs_here(url: str, settings: tuple[tuple[str, Any], ...]) -> Pacs:
    """A PACS, with one pool of connections in this process."""
    return Pacs.from_environment(url, **dict(settings))


def _elsewhere(
    url: str,
    pacs: Mapping[str, Any],
    place: tuple[Path, int],
    study: str,
    uid: str,
    instances: tuple[str, ...],
) -> PacsSeries:
    """A series that another process has sent."""
    known = _pacs_here(url, tuple(pacs.items()))
    return PacsSeries(known, *_cache_here(*place), study, uid, instances)


class DicomWebSource(StudySource):
    """The studies of a PACS that match its query.

    Args:
        pacs: the server.
        cache: where files are kept.
        coding: label coding; a PACS has no label maps beside the images, so it stays unused.
        index: what the PACS has said before; with it a start waits for no list of studies, and a study that
            has not changed is opened without its headers being asked for again.
    """

    def __init__(
        self, pacs: Pacs, cache: FileCache, coding: str | None = None, index: HeaderIndex | None = None
    ) -> None:
        super().__init__(cache.root, "dicomweb", coding, index)
        self.pacs = pacs
        self.cache = cache
        self.address = f"{pacs.url}?{pacs.query}"  # what stands for this list of studies in the index
        known = index.ids(self.address) if index is not None else None
        if known is not None:
            self._entries = {uid: uid for uid in known}
        self.pool = ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="pacs")
        self.said: dict[str, tuple[float, list[Attributes]]] = {}

    def whose(self, id: str, patient: str = "") -> Mapping[str, Whose]:
        """Of all studies of one patient that match the query, as the PACS says now.

        Raises:
            NotFound: the PACS has no such study.
            PacsFailed: it does not answer.
        """
        patient = patient or self.pacs.patient(id)[0]
        return self.pacs.studies_of(patient) if patient else {}

    def of(self, studies: Iterable[str]) -> DicomWebSource:
        """This source with these studies in place of what the PACS would list."""
        self._entries = {uid: uid for uid in sorted(studies)}
        return self

    @property
    def listed_before(self) -> bool:
        """Whether there is a list of studies already, though it may be old."""
        return self._entries is not None

    def _list(self) -> Mapping[str, str]:
        return {uid: uid for uid in self.pacs.studies()}

    def uids(self) -> dict[str, str]:
        """StudyInstanceUID -> id of every case: the same."""
        return {uid: uid for uid in self._index()}

    def refresh(self) -> None:
        """Ask now what studies there are; those that were known stay where the PACS does not answer.

        Raises:
            PacsFailed: no answer, and nothing is known yet.
        """
        try:
            listed = self.pacs.studies(once=self._entries is not None)
        except PacsFailed as error:
            if self._entries is None:
                raise
            logger.warning("the list of studies is that of before: %s", error)
            return
        entries = {uid: uid for uid in sorted(listed) if self._one in (None, uid)}
        changed, self._entries = entries != self._entries, entries
        if self.header_index is not None and changed:
            self.header_index.keep_ids(self.address, tuple(entries))

    def listing(self, study: str) -> list[Attributes]:
        """The series of a study as the PACS lists them, results too; not asked for again within `FRESH`
        seconds.

        While the PACS does not answer, what it has said before holds.

        Raises:
            PacsFailed: no answer, and nothing is known yet.
        """
        at, known = self.said.get(study, (0.0, None))
        if known is not None and time.monotonic() - at < FRESH:
            return known
        try:
            found = self.pacs.series(study, once=known is not None)
        except PacsFailed as error:
            if known is None:
                raise
            logger.warning("the series of study %s are those of before: %s", study, error)
            found = known
        self.said.pop(study, None)
        self.said[study] = (time.monotonic(), found)
        for old in list(self.said)[:-ASKED]:
            self.said.pop(old, None)
        return found

    def forget(self, study: str) -> None:
        """Ask anew about a study at the next question."""
        self.said.pop(study, None)

    def state(self, id: str) -> tuple[tuple[str, str], ...]:
        """Changes when an image comes into a study, or goes.

        Raises:
            PacsFailed: no answer, and nothing is known yet.
        """
        return tuple(sorted((text(one, "0020000E"), self._count(id, one)) for one in self._images(id)))

    def study_of(self, series: str) -> str | None:
        """StudyInstanceUID of a series; None where no listed study has it."""
        known = next(
            (
                study
                for study, (_, found) in list(self.said.items())
                if any(text(one, "0020000E") == series for one in found)
            ),
            None,
        )
        study = known or self.pacs.study_of(series)
        return study if study in self._index() else None

    def segmentations(self, study: str) -> list[str]:
        """SeriesInstanceUIDs of the segmentations of a study."""
        return [text(one, "0020000E") for one in self.listing(study) if text(one, "00080060") == "SEG"]

    def _images(self, uid: str) -> list[Attributes]:
        return [one for one in self.listing(uid) if text(one, "00080060") in IMAGES]

    def _count(self, uid: str, series: Attributes) -> str:
        """How many images a series has; asked for where the PACS does not tell it with the series."""
        return text(series, "00201209") or str(len(self.pacs.instances(uid, text(series, "0020000E"))))

    def _open(self, id: str, entry: str) -> Study:
        series = [text(one, "0020000E") for one in self._images(id)]
        if not series:
            raise NotFound(
                f"study {id} has no series of modality {', '.join(sorted(IMAGES))} in the PACS (any more)"
            )
        bare = Study(id, self.layout, self.cache.root / id, (), None, self.coding)
        if self.header_index is None:
            return self._fetch(bare, series)[0]
        said = self.state(id)
        state = sha256(repr(said).encode()).hexdigest()
        kept = self.header_index.headers(self.pacs.url, id, state)
        if kept is not None:
            with suppress(LookupError, TypeError, ValueError):  # of a damaged file
                origins = {uid: self._origin(id, uid, tuple(names)) for uid, names in kept["origins"].items()}
                return study_from_table(kept, bare, lambda _: self.pacs.patient(id)[0], origins)
        study, origins = self._fetch(bare, series)
        counts = tuple(sorted((uid, str(len(one.instances))) for uid, one in origins.items()))
        if counts == said:  # else it is still being sent
            names = {uid: one.instances for uid, one in origins.items()}
            self.header_index.keep(self.pacs.url, id, state, to_table(study) | {"origins": names})
        return study

    def _origin(self, study: str, series: str, instances: tuple[str, ...]) -> PacsSeries:
        return PacsSeries(self.pacs, self.cache, self.pool, study, series, instances)

    def _fetch(self, bare: Study, series: list[str]) -> tuple[Study, dict[str, PacsSeries]]:
        """The study with its series, and where the files of each come from.

        Raises:
            PacsFailed: no header comes.
        """
        id = bare.id
        with ThreadPoolExecutor(
            max_workers=PARALLEL
        ) as pool:  # its own: files may be waited for in the common one
            headers = list(pool.map(lambda uid: self.pacs.metadata(id, uid), series))
        origins: dict[str, PacsSeries] = {}
        slices: list[Header] = []
        for uid, found in zip(series, headers, strict=True):
            names = tuple(sorted({text(one, "00080018") for one in found}))
            origins[uid] = self._origin(id, uid, names)
            slices += [
                part
                for one in found
                for part in json_slices(one, origins[uid].folder / f"{text(one, '00080018')}.dcm")
            ]
        if not slices:
            raise PacsFailed(f"the PACS lists series of study {id} but returns no header: see its log")
        return replace(bare, series=assemble(slices, origins)), origins
