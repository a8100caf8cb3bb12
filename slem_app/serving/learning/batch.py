"""Drafts for all cases on a client's request: `slem predict --all` as a process of its own, told in MONAI
Label's words.

    <store>/batch/lock, <store>/batch/runs/ID/order.json + progress.json + log.txt (+ stopped)

The server starts the process, reads its small progress file when a client asks, and can end it. So nothing
here waits for the network, a batch goes on when the server stops, a server that starts finds it, and what was
interrupted goes on with the next request, because drafts that are there count.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import sleep, time
from typing import Any

from slem_app.devices import device_or_cpu, gpu_count
from slem_app.errors import BadSetting, NotFound, StorageFailed
from slem_app.files import atomic_file
from slem_app.rounds.job import DONE, FAILED, RUNNING, STOPPED, last_lines
from slem_app.rounds.lock import Lock
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.learning.process import spawn
from slem_app.serving.learning.request_types import BatchRequest
from slem_app.serving.values import clock
from slem_app.store.case_labels import CaseLabels
from slem_app.store.drafts import Drafts
from slem_app.weights import Model

__all__ = ["Batches"]

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds that a killed batch may take to let go of the lock
KEPT = 20  # batches whose folders are kept
NICE = 5  # on a processor: readers come first
CUDA = "cuda"


@dataclass(frozen=True)
class BatchRun:
    """The folder of one batch."""

    path: Path
    """Where it lies."""

    @property
    def order(self) -> dict[str, Any]:
        """The request, the time when it came, and which drafts are made."""
        return _read(self.path / "order.json")

    @property
    def progress(self) -> dict[str, Any]:
        """`total`, `done`, `skipped`, `ended`, as the process last wrote it."""
        return {"total": 0, "done": 0, "skipped": {}, "ended": False, **_read(self.path / "progress.json")}

    @property
    def log(self) -> Path:
        """What the process said."""
        return self.path / "log.txt"

    @property
    def stopped(self) -> Path:
        """There where a client has stopped it."""
        return self.path / "stopped"


class Batches:
    """All batches of one server.

    Args:
        datastore: whose cases are segmented.
        served: the model of a name, as it is served now.
        coding: of the studies, where it must be declared.
        device: the server's, where a request names none that is here.
        register: register the sequences of a case first, as the server does.
    """

    def __init__(
        self,
        datastore: CaseDatastore,
        served: Callable[[str], Model],
        coding: str | None = None,
        device: str = "auto",
        register: bool = False,
    ) -> None:
        self.datastore, self.served, self.coding, self.device, self.register = (
            datastore,
            served,
            coding,
            device,
            register,
        )
        self.root = datastore.root / "batch"
        self.lock, self.turn = Lock(self.root, "a batch"), threading.RLock()
        self.process: subprocess.Popen | None = None

    def start(self, model: str, request: BatchRequest) -> dict[str, object]:
        """Start a batch; returns the task as clients know it.

        Args:
            model: name of a served model.
            request: which cases, and how.

        Raises:
            Busy: one is running.
            NotFound: no such model or case.
            BadSetting: a tag or a choice of images that cannot be.
            StorageFailed: the disk refused.
        """
        with self.turn:
            self.running()
            command = self._command(model, request)
            order = {"model": model, "request": dict(request.fields), "started": time()}
            handle = self.lock.take()
            try:
                run = self._folder(order)
                command += ["--report", str(run.path / "progress.json")]
                self.process = spawn(command, run.log, handle, request.gpus)
                self.lock.name(handle, self.process.pid)
            finally:
                os.close(handle)  # the process holds it now
        log.info("batch %s of %s started: process %d", run.path.name, model, self.process.pid)
        return self.task(run)

    def running(self) -> BatchRun | None:
        """The batch that runs, or None."""
        with self.turn:
            if self.process is not None:
                self.process.poll()  # else it stays as a zombie
            known = self.runs()
            return known[-1] if known and self.lock.held() else None

    def stop(self) -> dict[str, object] | None:
        """End the batch that runs, with all its processes; returns its task, or None. Drafts that are made
        stay.
        """
        with self.turn:
            run = self.running()
            if run is None:
                return None
            run.stopped.touch()
            self.lock.kill()
            end = time() + PATIENCE
            while self.lock.held() and time() < end:
                if self.process is not None:
                    self.process.poll()
                sleep(0.05)
            return self.task(run)

    def wait(self) -> None:
        """Until no batch runs."""
        while self.running() is not None:
            sleep(0.1)

    def result(self, model: str, request: BatchRequest) -> dict[str, dict[str, str]]:
        """Make the drafts and wait for the end: case -> its draft, {} where it could not be made; as MONAI
        Label answers `run_sync`.
        """
        tag = request.label_tag
        before = {
            case: len(self.datastore.store.versions(case, tag)) for case in self.datastore.list_images()
        }
        self.start(model, request)
        self.wait()
        made = {
            case: {"label": case, "tag": tag}
            for case, count in before.items()
            if len(self.datastore.store.versions(case, tag)) > count
        }
        return made | {case: {} for case in self.runs()[-1].progress["skipped"]}

    def runs(self) -> list[BatchRun]:
        """All that are known, oldest first."""
        there = self.root / "runs"
        return (
            [BatchRun(path) for path in sorted(there.iterdir()) if (path / "order.json").is_file()]
            if there.is_dir()
            else []
        )

    def task(self, run: BatchRun) -> dict[str, object]:
        """A batch in MONAI Label's words for a background task."""
        order, progress = run.order, run.progress
        status, reason = self._status(run, progress)
        ended = run.stopped if status == STOPPED else run.log
        told = {
            "id": run.path.name,
            "status": status,
            "request": {**order["request"], "model": order["model"]},
            "start_ts": clock(order["started"]),
            "details": last_lines(run.log),
            "reason": reason,
            "total": progress["total"],
            "done": progress["done"],
            "skipped": progress["skipped"],
        }
        return told | (
            {"end_ts": clock(ended.stat().st_mtime)} if status != RUNNING and ended.exists() else {}
        )

    def _status(self, run: BatchRun, progress: Mapping[str, Any]) -> tuple[str, str]:
        if (now := self.running()) is not None and now.path == run.path:
            return RUNNING, ""
        if run.stopped.exists():
            return (
                STOPPED,
                "stopped by a client; the drafts that were made are there, the same request goes on",
            )
        if progress["ended"]:
            return DONE, f"{len(progress['skipped'])} cases could not be segmented" if progress[
                "skipped"
            ] else ""
        said = last_lines(run.log)
        return FAILED, said[
            -1
        ] if said else "the process was killed; the drafts that were made are there, the same request goes on"

    def _command(self, model: str, request: BatchRequest) -> list[str]:
        """`slem predict --all` as the request wants it."""
        served = self.served(model)
        ids = [self.datastore.cases.split(one)[0] for one in request.ids]
        if odd := [one for one in ids if one.startswith("-")]:
            raise BadSetting(f"case {odd[0]!r} cannot be named alone, its id begins with a hyphen")
        card, labels = served.card, CaseLabels("", self.datastore.root)
        # says what is wrong with the request
        Drafts(labels, card.name, card.version, card.sha256, request.label_tag, request.images)
        device = request.device or device_or_cpu(self.device)
        options = {
            "--model": str(served.folder.resolve()),
            "--store": str(self.datastore.root),
            "--tag": request.label_tag,
            "--images": request.images,
            "--device": device,
            "--processes": str(_processes(request, device)),
            "--limit": str(request.limit),
            **({"--coding": self.coding} if self.coding else {}),
        }
        given = [word for option in options.items() for word in option]
        nice = ["nice", "-n", str(NICE)] if device == "cpu" and shutil.which("nice") else []
        predict = [sys.executable, "-m", "slem_app.cli", "predict", str(self.datastore.cases.studies)]
        return [*nice, *predict, *ids, "--all", *given, *(["--register"] if self.register else [])]

    def _folder(self, order: Mapping[str, Any]) -> BatchRun:
        # their order is that of their names
        path = self.root / "runs" / f"{datetime.now().strftime('%Y%m%d-%H%M%S-%f')}-{uuid.uuid4().hex[:4]}"
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise StorageFailed(
                f"{path} cannot be made: {error.strerror or error}: free some space, then ask again"
            ) from error
        with atomic_file(path / "order.json") as file:
            file.write(json.dumps(order, indent=1, default=str).encode())
        for old in self.runs()[:-KEPT]:
            shutil.rmtree(old.path, ignore_errors=True)
        return BatchRun(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NotFound(f"{path} cannot be read: {error}") from error


def _processes(request: BatchRequest, device: str) -> int:
    """One a GPU, where several are wanted."""
    if device != CUDA or not request.multi_gpu:
        return 1
    return len(request.gpus) or gpu_count()
