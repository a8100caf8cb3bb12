"""Which version of a model answers whom: the served one, except that a reader who corrects a case keeps the
version with which they began it.

An assignment lasts from the reader's first request about the case until they have submitted its final label
and gone on to another case. It binds only what they correct, and it survives a restart of the server
(`assignments`). An automatic segmentation is always made by the served version, and the first click then
corrects that.

Concurrency: whoever calls `VersionWatcher.look` (a thread of its own) loads a version beside the one that
serves, and puts it in its place by one assignment. A request keeps what `ServedVersions` gave it to its end,
so a switch changes no request that has begun, and none waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from slem_app.errors import SlemError
from slem_app.predict import Predictor
from slem_app.serving.background import outlive
from slem_app.serving.models.assignments import Assignment, AssignmentFile, AssignmentRow
from slem_app.weights.published import Published

__all__ = ["ServedVersions", "VersionWatcher"]

logger = logging.getLogger(__name__)

Assignments = Mapping[tuple[str, str], Assignment]
"""By reader and case."""
MOST_ASSIGNMENTS = 256  # cases in readers' hands; those that were not touched for longest are given up first
MOST_VERSIONS = 3  # earlier versions that are kept in memory for them
POLL = 1.0  # s between looks at what is to be served


class ServedVersions:
    """The version that is served, and those that readers are still at work with.

    Args:
        predictor: of the served one.
        assignments: cases that readers have begun already, the one that was touched last at the end.
        keep: told all of them when they may have changed.
    """

    def __init__(
        self,
        predictor: Predictor,
        assignments: Assignments | None = None,
        keep: Callable[[Assignments], None] = lambda assignments: None,
    ) -> None:
        self.now = predictor
        self.assignments: OrderedDict[tuple[str, str], Assignment] = OrderedDict(assignments or {})
        self.keep = keep
        self.guard = threading.Lock()
        self._trim()

    def switch(self, predictor: Predictor) -> None:
        """Serve another version from the next request on."""
        with self.guard:
            self.now = predictor
            self._trim()
            self.keep(self.assignments)

    def automatic(self, reader: str, case: str) -> Predictor:
        """For a segmentation without interaction: the served version."""
        with self.guard:
            self._leave(reader, case)
            assignment = self.assignments.get((reader, case))
            if assignment is None or not assignment.working:
                self._put((reader, case), Assignment(self.now))
            self.keep(self.assignments)
            return self.now

    def interactive(self, reader: str, case: str) -> Predictor:
        """For a correction: the version that the reader has begun the case with."""
        with self.guard:
            self._leave(reader, case)
            assignment = self.assignments.get((reader, case)) or Assignment(self.now)
            self._put((reader, case), replace(assignment, working=True))
            self.keep(self.assignments)
            return assignment.predictor

    def begun_with(self, reader: str, case: str) -> Predictor:
        """The version that `interactive` would give, without any change."""
        with self.guard:
            assignment = self.assignments.get((reader, case))
            return assignment.predictor if assignment else self.now

    def submitted(self, reader: str, case: str) -> None:
        """The reader has submitted the final label; what he still corrects stays with the version until he
        goes on to another case.
        """
        with self.guard:
            if (reader, case) in self.assignments:
                self.assignments[reader, case] = replace(self.assignments[reader, case], submitted=True)
                self.keep(self.assignments)

    def _leave(self, reader: str, case: str) -> None:
        """The reader is at another case now: the submitted ones are done."""
        for key in [
            key
            for key, assignment in self.assignments.items()
            if key[0] == reader and key[1] != case and assignment.submitted
        ]:
            del self.assignments[key]

    def _put(self, key: tuple[str, str], assignment: Assignment) -> None:
        self.assignments[key] = assignment
        self.assignments.move_to_end(key)
        self._trim()

    def _trim(self) -> None:
        while len(self.assignments) > MOST_ASSIGNMENTS:
            self.assignments.popitem(last=False)
        earlier = list(
            dict.fromkeys(
                assignment.predictor
                for assignment in reversed(self.assignments.values())
                if assignment.predictor is not self.now
            )
        )
        for key in [
            key
            for key, assignment in self.assignments.items()
            if assignment.predictor in earlier[MOST_VERSIONS:]
        ]:
            del self.assignments[key]


class VersionWatcher:
    """Keeps a model's `ServedVersions` at the version that the disk says is to be served.

    Args:
        published: the versions.
        device: where the network runs.
        switched: called after each switch.
        assignments: the file that keeps the assignments; None: that ends with the server.

    Raises:
        NotFound, BadCard, BadWeights: not even the bundled version can be used.
    """

    def __init__(
        self,
        published: Published,
        device: str | torch.device = "cpu",
        switched: Callable[[], None] = lambda: None,
        assignments: Path | None = None,
    ) -> None:
        self.published, self.device, self.switched = published, device, switched
        self.stamp = published.stamp()
        loaded = published.load(device)
        self.number, self.note = loaded.number, loaded.note
        self.served = self._serve(
            Predictor(loaded.model, device), AssignmentFile(assignments) if assignments else None
        )
        self.guard, self.stopping = threading.Lock(), threading.Event()
        self.thread: threading.Thread | None = None
        self._tell()

    def look(self) -> bool:
        """Take up another version if one is to be served now; True if it was."""
        with self.guard:
            stamp = self.published.stamp()
            if stamp == self.stamp:
                return False
            loaded = self.published.load(self.device)
            same = loaded.model.card.sha256 == self.served.now.card.sha256 and loaded.number == self.number
            self.stamp, self.number, self.note = stamp, loaded.number, loaded.note
            if not same:
                self.served.switch(Predictor(loaded.model, self.device))
            self._tell()
        if not same:
            self.switched()
        return not same

    def start(self) -> None:
        """Look every second, in a thread."""
        if self.thread is None:
            self.thread = threading.Thread(
                target=self._run, name=f"versions of {self.published.name}", daemon=True
            )
            self.thread.start()

    def stop(self) -> None:
        """End the thread."""
        self.stopping.set()
        if self.thread is not None:
            self.thread.join(timeout=30)

    def _run(self) -> None:
        while not self.stopping.wait(POLL):
            # a GPU may have no memory for two: the version that is there goes on serving
            outlive(self.look, f"loading another version of {self.published.name}")

    def _serve(self, now: Predictor, file: AssignmentFile | None) -> ServedVersions:
        """The served version, and those that readers had cases in their hands with when the server ended."""
        if file is None:
            return ServedVersions(now)
        predictors: dict[tuple[str, str], Predictor | None] = {(now.card.version, now.card.sha256): now}
        for row in reversed(file.rows):  # the latest first: of the others no more are loaded than are kept
            if (row.version, row.sha256) not in predictors and len(predictors) <= MOST_VERSIONS:
                predictors[row.version, row.sha256] = self._earlier(row)
        begun = [(row, predictors.get((row.version, row.sha256))) for row in file.rows]
        assignments = {
            (row.reader, row.case): Assignment(found, row.working, row.submitted)
            for row, found in begun
            if found
        }
        return ServedVersions(now, assignments, file.write)

    def _earlier(self, row: AssignmentRow) -> Predictor | None:
        """The version that a case was begun with, if it is still there."""
        for one in self.published.versions():
            if one.card and (one.card.version, one.card.sha256) == (row.version, row.sha256):
                try:
                    return Predictor(self.published.load_version(one.number, self.device), self.device)
                except (
                    SlemError,
                    RuntimeError,
                    MemoryError,
                ) as error:  # a GPU without memory for another one
                    logger.warning(
                        "version %d of %s cannot be loaded again: %s", one.number, self.published.name, error
                    )
        return None

    def _tell(self) -> None:
        if self.note:
            logger.warning(self.note)
        logger.info(
            "%s: version %d (%s) is served", self.published.name, self.number, self.served.now.card.version
        )
