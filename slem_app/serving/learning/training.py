"""The clients' Train buttons: a learning round as a process of its own, told in MONAI Label's words.

The server starts the process, reads its small status file when a client asks, and can end it. It holds
nothing else of it, so a round goes on when the server stops, and a server that starts finds a round that
runs, and one that died meanwhile.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import fields
from time import sleep, time
from typing import Any

from slem_app.devices import gpu_count
from slem_app.errors import BadSetting, SlemError
from slem_app.predict import Predictor
from slem_app.rounds.job import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    Job,
    Labelled,
    RoundFolder,
    latest_round,
    rounds,
)
from slem_app.rounds.lock import Busy, Lock
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.learning.process import spawn
from slem_app.serving.learning.request_types import TrainRequest
from slem_app.serving.models.versions import VersionWatcher
from slem_app.serving.values import clock, duration
from slem_app.store.review import APPROVED

__all__ = ["ModelTrainer", "Trainings"]

log = logging.getLogger(__name__)

MOST_STUDIES = 1000  # of an archive from which a round learns without labels
MOST_WAITING = 4  # rounds that wait for the one that runs
PATIENCE = 10.0  # seconds that a round that has ended may take to let go of the lock
# of a job that clients may set
FIELDS = ("name", "max_epochs", "epoch_steps", "early_stop_patience")
ERRORS = ("Error", "Exception", "Killed", "ERROR")


class Trainings:
    """All learning rounds of one server.

    Args:
        datastore: whose labels are learnt.
        coding: of the studies, where it must be declared.
        defaults: changes of a job's fields.
        approved_only: learn only labels that a reviewer has approved.
    """

    def __init__(
        self,
        datastore: CaseDatastore,
        coding: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        approved_only: bool = False,
    ) -> None:
        self.datastore, self.coding, self.defaults = datastore, coding or "", dict(defaults or {})
        self.approved_only = approved_only
        self.root = datastore.root / "training"
        self.lock, self.turn = Lock(self.root), threading.RLock()
        self.process: subprocess.Popen | None = None
        self.leaving: list[subprocess.Popen] = []  # of rounds before, which have still to end
        self.waiting: list[
            tuple[VersionWatcher, TrainRequest]
        ] = []  # rounds that begin when the one that runs has ended
        self.waiter: threading.Thread | None = None
        self.over = ""  # id of the newest round, once it was seen here that it has ended

    def start(self, watcher: VersionWatcher, request: TrainRequest) -> dict[str, object]:
        """Start a round of a model; returns the task as clients know it.

        Raises:
            Busy: one is running.
            BadSetting: a job that cannot be, or nothing is labelled.
            StorageFailed: the disk refused.
        """
        with self.turn:
            if self.running() is None:  # that notes one that has died
                self._let_go()
            job = self._job(watcher, request)
            handle = self.lock.take()
            try:
                folder = RoundFolder.make(job, request.fields)
                self.leaving += [self.process] if self.process is not None else []
                self.process = spawn(_command(folder, job, handle), folder.log, handle, request.gpus)
                self.lock.name(handle, self.process.pid)
            finally:
                os.close(handle)  # the process holds it now
        log.info(
            "round %s of %s started: process %d, %d labelled cases",
            folder.id,
            job.model,
            self.process.pid,
            len(job.cases),
        )
        return self.task(folder)

    def later(self, watcher: VersionWatcher, request: TrainRequest) -> None:
        """Start a round when the one that runs has ended; not if a client stops that.

        Raises:
            Busy: as many wait already as may.
            BadSetting: a job that cannot be, or nothing is labelled.
        """
        with self.turn:
            self._job(watcher, request)  # says at once what is wrong with the request
            if len(self.waiting) >= MOST_WAITING:
                raise Busy(f"{MOST_WAITING} trainings are already waiting: wait until the running one ends")
            self.waiting.append((watcher, request))
            if self.waiter is None or not self.waiter.is_alive():
                self.waiter = threading.Thread(
                    target=self._start_waiting, name="rounds that wait", daemon=True
                )
                self.waiter.start()

    def _start_waiting(self) -> None:
        while True:
            while (
                self.running() is not None or self.lock.held()
            ):  # a process that is done lets go of the lock a moment later
                sleep(0.2)
            with self.turn:
                if not self.waiting:
                    self.waiter = None
                    return
                watcher, request = self.waiting.pop(0)
                try:
                    self.start(watcher, request)
                except SlemError as error:  # another client's round began, or the labels are gone
                    log.warning(
                        "the round of %s that waited does not begin: %s", watcher.published.name, error
                    )

    def running(self) -> RoundFolder | None:
        """The round that runs, or None; one that died is noted as failed."""
        with self.turn:
            if self.process is not None:
                self.process.poll()  # else it stays as a zombie
            self.leaving = [one for one in self.leaving if one.poll() is None]
            held, last = self.lock.held(), latest_round(self.root)
            if last is not None and last.status().status == RUNNING:
                if held:
                    return last
                self._died(last)
            self.over = last.id if last is not None else ""
            return None

    def stop(self) -> dict[str, object] | None:
        """End the round that runs, with all its processes; returns its task, or None."""
        with self.turn:
            self.waiting.clear()
            folder = self.running()
            if folder is None:
                return None
            self.lock.kill()
            self._let_go()
            if folder.status().status == RUNNING:
                folder.change(
                    status=STOPPED,
                    stage="stopped",
                    reason="stopped by a client; nothing was published",
                    ended=time(),
                    seconds_left=0.0,
                )
            self.over = folder.id
            return self.task(folder)

    def _let_go(self) -> None:
        """Wait for the process of a round that has come to its end, or was killed, to let go of the lock."""
        end = time() + PATIENCE
        while self.lock.held() and time() < end:
            if self.process is not None:
                self.process.poll()
            sleep(0.05)

    def wait(self) -> None:
        """Until no round runs."""
        while self.running() is not None:
            sleep(0.2)

    def task(self, folder: RoundFolder) -> dict[str, object]:
        """A round in MONAI Label's words for a background task."""
        status = folder.status()
        told = {
            "id": folder.id,
            "status": status.status,
            "request": {**folder.request(), "model": folder.job().model},
            "start_ts": clock(status.started),
            "details": folder.tail(),
            "stage": status.stage,
            "reason": status.reason,
            "notes": list(status.notes),
            "skipped": dict(status.skipped),
            "seconds_left": status.seconds_left,
            "published": status.published,
        }
        return told | ({"end_ts": clock(status.ended)} if status.ended else {})

    def tasks(self) -> list[dict[str, object]]:
        """All rounds, oldest first."""
        self.running()
        return [self.task(folder) for folder in rounds(self.root)]

    def stats(self, model: str) -> dict[str, object]:
        """Figures of a model's newest round, as the clients show them; `total_time` is empty until it has
        ended.
        """
        self.running()
        mine = [folder for folder in rounds(self.root) if folder.job().model == model]
        if not mine:
            return {"epoch": 0, "total_epochs": 1, "best_metric": 0.0, "start_ts": "", "total_time": ""}
        status = mine[-1].status()
        return {
            "epoch": status.epoch,
            "total_epochs": status.total_epochs,
            "best_metric": status.best_metric,
            "start_ts": int(status.started),
            "current_time": duration(time() - status.started) if not status.ended else "",
            "total_time": duration(status.ended - status.started) if status.ended else "",
            "seconds_left": status.seconds_left,
            "status": status.status,
            "stage": status.stage,
            "reason": status.reason,
            "notes": list(status.notes),
            "trusted": status.trusted,
            "published": status.published,
            "skipped": dict(status.skipped),
            "train": {},
            "eval": {"best": dict(status.metrics), "mean_dice": list(status.history)},
        }

    def _job(self, watcher: VersionWatcher, request: TrainRequest) -> Job:
        watcher.look()
        predictor, published = watcher.served.now, watcher.published
        asked = {name: getattr(request, name) for name in FIELDS if getattr(request, name) is not None}
        processes = 1
        if request.device == "cuda" and request.multi_gpu:
            processes = len(request.gpus) or gpu_count()
        settings = {} if request.archive else dict(self.defaults.get("settings", {}))
        if request.batch is not None:
            settings["batch"] = request.batch * processes
        cases = self._labelled(predictor)
        if not cases and not request.archive:
            kind = "an approved label" if self.approved_only else "a label"
            raise BadSetting(
                f"no case has {kind} of {published.name} yet: "
                f"{'approve' if self.approved_only else 'submit'} at least one, then train"
            )
        own = {
            "processes": processes,
            "device": request.device,
            "coding": self.coding,
            **self.defaults,
            **asked,
            "settings": settings,
        }
        if request.archive:
            own |= {"archive": True, "most_cases": MOST_STUDIES}
        return Job(
            model=published.name,
            served=str(predictor.model.folder.resolve()),
            bundled=str(published.bundled.resolve()),
            models=str(published.path.parent.resolve()),
            root=str(self.root),
            studies=str(self.datastore.cases.studies),
            cases=cases,
            by_hand=self.datastore.cases.choices.all(),
            **own,
        )

    def _labelled(self, predictor: Predictor) -> tuple[Labelled, ...]:
        """Cases with a final label of this model's labels."""
        found = []
        for case in self.datastore.get_labeled_images():
            version = self.datastore.store.counting(case, self.datastore.experts)
            if version.names != predictor.card.labels.names:
                continue
            if self.approved_only and version.state != APPROVED:
                continue
            upload = self.datastore.cases.uploaded(case) if case not in self.datastore.cases.own else None
            found.append(
                Labelled(
                    case,
                    str(version.label),
                    version.sequence,
                    Labelled.name(version.number, self.datastore.cases.choices.of(case)),
                    str(upload or ""),
                    version.record.confirmed,
                    version.series,
                )
            )
        return tuple(found)

    def _died(self, folder: RoundFolder) -> None:
        """Note what became of a round whose process ended without saying so: it may have done so after it had
        published.
        """
        made = folder.job().published.of_round(folder.id)
        if made is None:
            folder.change(
                status=FAILED, stage="failed", reason=self._why(folder), ended=time(), seconds_left=0.0
            )
        else:
            folder.change(
                status=DONE,
                stage="done",
                reason=made.record.reason if made.record is not None else made.problem,
                published=max(0, made.number),
                ended=time(),
                seconds_left=0.0,
            )
        log.error("round %s died: %s", folder.id, folder.status().reason)

    def _why(self, folder: RoundFolder) -> str:
        """What made a process end without saying so itself."""
        lines = folder.tail(200)
        if found := [line for line in lines if line.split(":")[0].endswith(ERRORS) or " ERROR " in line]:
            return found[-1]
        code = (
            self.process.returncode
            if self.process is not None and self.process.pid == self.lock.holder()
            else None
        )
        killed = (
            f"signal {-code}"
            if code is not None and code < 0
            else "from outside, or by the system for want of memory"
        )
        return (
            f"the training process was killed ({killed}); nothing was published, train again to go on "
            f"from its last checkpoint"
        )


class ModelTrainer:
    """A model that learns from the readers' labels.

    Args:
        trainings: all rounds of the server.
        watcher: of its versions.
    """

    def __init__(self, trainings: Trainings, watcher: VersionWatcher) -> None:
        self.description = (
            f"Goes on training {watcher.published.name} with all final labels; old ones are learnt again "
            "beside new ones"
        )
        self.trainings, self.watcher = trainings, watcher

    @property
    def labels(self) -> tuple[str, ...]:
        """What it learns to segment."""
        return self.watcher.served.now.card.labels.names

    def config(self) -> dict[str, object]:
        """What a client may set, with the defaults."""
        devices = (
            ["auto", "cuda", *(f"cuda:{n}" for n in range(gpu_count())), "cpu"]
            if gpu_count()
            else ["auto", "cpu"]
        )
        own = {field.name: field.default for field in fields(Job) if field.name in (*FIELDS, "device")}
        return {**own, "device": devices, "train_batch_size": 2, "multi_gpu": True, "gpus": "all"}

    def stats(self) -> dict[str, object]:
        """Figures of the newest round."""
        return {**self.trainings.stats(self.watcher.published.name), "served_version": self.watcher.number}

    def start(self, request: TrainRequest) -> dict[str, object]:
        """Start a round; arguments and errors as those of `Trainings.start`."""
        return self.trainings.start(self.watcher, request)

    def run(self, request: TrainRequest) -> dict[str, object]:
        """Train and wait for the end."""
        self.start(request)
        self.trainings.wait()
        return self.stats()


def _command(folder: RoundFolder, job: Job, handle: int) -> list[str]:
    """A round as a process, or as one a GPU."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.processes}"]
    launcher = several if job.processes > 1 else []
    worker = "slem_app.adapt.worker" if job.archive else "slem_app.rounds.worker"
    return [sys.executable, *launcher, "-m", worker, str(folder.path), str(handle)]
