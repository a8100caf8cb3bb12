"""In the background: results that could not be stored are sent again, and segmentations that others have
stored are fetched.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from slem_app.errors import SlemError
from slem_app.serving.background import outlive
from slem_app.serving.dicom.export import ResultExchange
from slem_app.studies.dicomweb import DicomWebSource

__all__ = ["DicomSync"]

logger = logging.getLogger(__name__)

ROUND = 5.0  # seconds between two looks at the PACS, at least
PATIENCE = 10  # a look is not taken again for this many times as long as it took
AGAIN = 60.0  # seconds after which what could not be stored is sent again


class DicomSync:
    """One thread between the label versions and the PACS.

    Args:
        results: what goes out and comes in.
        source: the PACS; None where results are kept by the server itself.
        came: told the case of every segmentation that became a label.
    """

    def __init__(
        self, results: ResultExchange, source: DicomWebSource | None, came: Callable[[str], None]
    ) -> None:
        self.results = results
        self.source = source
        self.came = came
        self.seen: set[str] = set()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, name="DICOM sync", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> None:
        """End before the next request."""
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join()

    def look(self) -> None:
        """One round."""
        self._send()
        for study, series in self._new():
            if self.stopping.is_set():
                return
            if self.fetch(study):
                self.seen.add(series)

    def fetch(self, case: str) -> bool:
        """Make labels of what others have stored for a case; False where that failed and may
        succeed later.
        """
        try:
            if self.results.collect(case):
                self.came(case)
            return True
        except SlemError as error:
            logger.warning("segmentations of case %s were not fetched: %s", case, error)
            return error.status < 500

    def _new(self) -> list[tuple[str, str]]:
        """(case, series) of segmentations that were not seen before."""
        if self.source is None:
            return []
        try:
            listed, studies = self.source.pacs.segmentations(), self.source.uids()
        except SlemError as error:
            logger.warning("%s", error)
            return []
        self.seen &= {series for _, series in listed}  # what the PACS no longer has is forgotten
        new = [(study, series) for study, series in listed if series not in self.seen and study in studies]
        for study in {study for study, _ in new}:
            self.source.forget(study)
        return new

    def _send(self) -> None:
        for case, version in self.results.unsent():
            if self.stopping.is_set():
                return
            known = self.results.status(version)
            if known is None or time.time() - known.at < AGAIN:
                continue
            if self.results.send(version).stored:
                logger.info("version %d of case %s is stored now", version.number, case)

    def _work(self) -> None:
        while not self.stopping.is_set():
            begin = time.monotonic()
            outlive(self.look, "sending and fetching segmentations")
            self.stopping.wait(max(ROUND, PATIENCE * (time.monotonic() - begin)))
