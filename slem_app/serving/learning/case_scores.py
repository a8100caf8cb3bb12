"""What the served models say of every case, each of those that it is for, measured in the background and kept
on disk, for the choice of the next case.

One thread measures one case after the other, in a random order, so that those that are measured are at any
time a fair sample. It runs with a low priority, works for a set share of the time, waits while a request is
being answered and some seconds after, and has a copy of the network for itself, in which it stops before the
next layer when a request comes. A case is measured anew only when the model's weights or the case's files
changed.
"""

from __future__ import annotations

import copy
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from slem_app.errors import SlemError, WorkerLost
from slem_app.formats import read_label_file
from slem_app.grouping import Grouping
from slem_app.predict import Predictor
from slem_app.preemption import preemptible
from slem_app.selection import LabelMap, Measures, measure
from slem_app.serving.background import outlive
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.models_for_case import fitting
from slem_app.serving.labels.datastore import FINAL, CaseDatastore
from slem_app.serving.learning.score_files import FORMAT, Entry, ScoreFiles
from slem_app.weights import Card, Model

__all__ = ["Scores"]

logger = logging.getLogger(__name__)

QUIET = 2.0  # seconds without a request before the work goes on: a reader clicks again
POLL = 30.0  # seconds between looks for new cases, labels and models
LONGEST_REST = 60.0
NICER = (
    10  # than the server: little beside a training, but with the most it would hardly come on, nor to its end
)
KEPT = 2  # models a case, the latest; the one before is what a new one is compared with


Scorer = Callable[[Case, Predictor, LabelMap | None], tuple[Measures, LabelMap]]
"""Measures a case, given what the model before made of it."""


class _Stopped(BaseException):
    """The server stops."""


class Scores:
    """Measures of all cases of a server.

    Args:
        folder: where they are kept; made with the first one.
        datastore: cases and labels.
        current: the predictors that are served now, asked for before each case; a case is measured by the one
            that knows most of its sequences.
        load: share of the time for which the background work may compute; 0 switches it off.
        register: register the sequences of a case first, as the server does.
        seed: of the order of cases.
        scorer: measures a case elsewhere, in a cluster; None: it is done here.
    """

    def __init__(
        self,
        folder: Path,
        datastore: CaseDatastore,
        current: Callable[[], Sequence[Predictor]],
        load: float = 0.5,
        register: bool = False,
        seed: int | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        self.files, self.datastore, self.current = ScoreFiles(folder), datastore, current
        self.scorer = scorer
        self.load, self.register = load, register
        self.random = random.Random(seed)
        self.guard = threading.Lock()
        # case -> sha256 -> entry, the latest last; case -> version of the final label and its volumes
        self.entries, self.labels = self.files.load()
        self.failed: dict[str, tuple[str, str]] = {}  # case -> sha256 and state that could not be measured
        self.queue: list[str] = []  # cases that this round has still to look at
        self.copies: dict[str, Predictor] = {}  # by the model's name
        self.active, self.last = 0, 0.0  # requests under way; when the last one ended
        self.stopping, self.woken = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = (
            None  # None: steps are asked for one by one, and wait for nothing
        )

    # what requests ask: nothing here waits for the background

    def models(self, cases: Sequence[str]) -> dict[str, str]:
        """Case -> name of the model that has measured it last, of those that are measured."""
        with self.guard:
            return {
                case: list(self.entries[case].values())[-1].model for case in cases if self.entries.get(case)
            }

    def of(
        self, cases: Sequence[str], model: str | None = None
    ) -> tuple[dict[str, Measures], tuple[str, ...]]:
        """Measures by one served model; by an older version of it as long as that knows more of these cases,
        with a note.

        Args:
            cases: those that are asked for.
            model: name of the model; default: any, the one that knows most of the cases.
        """
        now = {predictor.card.sha256 for predictor in self.current()}
        with self.guard:
            entries = [
                (case, entry)
                for case in cases
                for entry in self.entries.get(case, {}).values()
                if model in (None, entry.model)
            ]
        by_model: dict[str, dict[str, Measures]] = {}
        for case, entry in entries:
            by_model.setdefault(entry.sha256, {})[case] = entry.measures
        if not by_model:
            return {}, ()
        best = max(by_model, key=lambda sha: (len(by_model[sha]), sha in now))
        older = bool(now) and best not in now
        return by_model[best], (
            "chosen by what an earlier model says: the served one has not measured as many cases yet",
        ) if older else ()

    def labelled_ml(self) -> dict[str, float]:
        """Millilitres of each label in all final labels that were looked at."""
        total: dict[str, float] = {}
        with self.guard:
            for _, volumes in self.labels.values():
                for name, ml in volumes.items():
                    total[name] = total.get(name, 0.0) + ml
        return total

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A request is being answered: the background waits."""
        with self.guard:
            self.active += 1
        try:
            yield
        finally:
            with self.guard:
                self.active -= 1
                self.last = time.monotonic()

    def wake(self) -> None:
        """Something changed: look now."""
        self.woken.set()

    # the background

    def start(self) -> None:
        """Begin, if the load allows any work."""
        if self.load > 0 and self.thread is None:
            self.thread = threading.Thread(target=self._run, name="scores", daemon=True)
            self.thread.start()

    def stop(self) -> None:
        """End before the next layer of the network; what was not measured will be after the next start."""
        self.stopping.set()
        self.woken.set()
        if self.thread is not None:
            self.thread.join(timeout=30)

    def step(self) -> bool:
        """Measure what is most wanted: one case, or one label; False when there is nothing to do."""
        if not self.current():
            return False
        for case in self.datastore.get_labeled_images(FINAL):
            if self._look_at_label(case):
                return True
        # the rest of a round may be done, while a new model came since it began
        return self._next() or self._next()

    def _next(self) -> bool:
        """Measure the first case of the round that needs it; a round goes once through all cases."""
        if not self.queue:
            self.queue = list(self.datastore.list_images())
            self.random.shuffle(self.queue)
        while self.queue:
            if self._measure(self.queue.pop()):
                return True
        return False

    def _run(self) -> None:
        if (
            sys.platform == "linux"
        ):  # there a thread has a priority of its own, and those that it starts for the network inherit it
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICER))
        try:
            while True:
                self._wait()
                begin = time.monotonic()
                busy = outlive(self.step, "measuring cases")
                if not busy:
                    self.woken.wait(POLL)
                    self.woken.clear()
                else:
                    self._rest(time.monotonic() - begin)
        except _Stopped:
            return

    def _wait(self) -> None:
        """Until no request is under way; ends the work when the server stops."""
        while not self.stopping.is_set():
            with self.guard:
                quiet = not self.active and time.monotonic() - self.last >= QUIET
            if quiet or self.thread is None:
                return
            self.stopping.wait(0.1)
        raise _Stopped

    def _rest(self, seconds: float) -> None:
        self.stopping.wait(min(LONGEST_REST, seconds * (1 - self.load) / self.load))

    def _measure(self, case: str) -> bool:
        """Measure one case, unless that is done or cannot be."""
        digest, state = "", ""
        try:
            found = self.datastore.cases.find(case)
            predictor = self._for(found.grouping)
            if predictor is None:
                return False
            digest = predictor.card.sha256
            state = sha256(repr((FORMAT, found.state, self.register)).encode()).hexdigest()[:16]
            if self._done(case, digest, state):
                return False
            measures, segmentation = self._measured(found, predictor, self._before(case, predictor, state))
        except SlemError as error:
            if not self._done(case, digest, state):
                logger.warning("case %s cannot be measured: %s", case, error)
                self.failed[case] = (digest, state)
            return False
        entry = Entry(digest, state, time.time(), measures, predictor.card.name)
        self._keep(case, predictor.card, entry, segmentation)
        return True

    def _measured(
        self, case: Case, predictor: Predictor, before: LabelMap | None
    ) -> tuple[Measures, LabelMap]:
        """A case, measured elsewhere if it can be."""
        if self.scorer is not None and case.lasting:
            try:
                return self.scorer(case, predictor, before)
            except WorkerLost as error:
                logger.warning("case %s is measured by the server itself: %s", case.id, error)
        own = self._copy(predictor)
        with preemptible(self._wait):  # between two layers, too; it ends when the server does
            prepared, _ = own.prepare_case(case.grouping, case.sequence, self.register)
            return measure(own, prepared, before, self._wait)

    def _for(self, grouping: Grouping) -> Predictor | None:
        """The predictor that knows most of a case's sequences; None if none knows any."""
        predictors = {predictor.card.name: predictor for predictor in self.current()}
        names = fitting(grouping, {name: predictor.card for name, predictor in predictors.items()})
        return predictors[names[0]] if names else None

    def _done(self, case: str, digest: str, state: str) -> bool:
        """True when the case is measured in this state by this model, or cannot be."""
        with self.guard:
            known = self.entries.get(case, {}).get(digest)
            return (known is not None and known.state == state) or self.failed.get(case) == (digest, state)

    def _copy(self, predictor: Predictor) -> Predictor:
        """A predictor of the same model for this thread alone: a network serves one call at a time."""
        name = predictor.card.name
        if name not in self.copies or self.copies[name].card.sha256 != predictor.card.sha256:
            network = copy.deepcopy(predictor.model.network)
            self.copies[name] = Predictor(
                Model(predictor.card, network, predictor.model.folder),
                predictor.device,
                predictor.precision,
                predictor.inference,
            )
        return self.copies[name]

    def _before(self, case: str, predictor: Predictor, state: str) -> LabelMap | None:
        """What the model before made of the same files; None where there is none or it had other labels."""
        with self.guard:
            others = [
                entry
                for sha, entry in self.entries.get(case, {}).items()
                if sha != predictor.card.sha256 and entry.state == state
            ]
        names = set(predictor.card.labels.names)
        if not others or set(others[-1].measures.volumes_ml) != names:
            return None
        return self.files.segmentation(case, others[-1].sha256)

    def _look_at_label(self, case: str) -> bool:
        """Note the volumes of a final label, unless those of its newest version are known."""
        try:
            version = self.datastore.store.latest(case, FINAL)
            number = version.number
            with self.guard:
                if self.labels.get(case, (0,))[0] == number:
                    return False
            array, grid, _ = read_label_file(Path(self.datastore.get_label_uri(case, FINAL)))
            volumes = {name: grid.millilitres(array == value) for name, value in version.values.items()}
        except SlemError as error:
            logger.warning("the label of case %s is not counted: %s", case, error)
            return False
        self.files.save_label(case, number, volumes)
        with self.guard:
            self.labels[case] = (number, volumes)
        return True

    def _keep(self, case: str, card: Card, entry: Entry, segmentation: LabelMap) -> None:
        self.files.save(case, card, entry, segmentation)
        with self.guard:
            known = self.entries.setdefault(case, {})
            known.pop(entry.sha256, None)
            known[entry.sha256] = entry
            gone = list(known)[:-KEPT]
            for digest in gone:
                del known[digest]
            self.failed.pop(case, None)
        for digest in gone:
            self.files.remove(case, digest)
