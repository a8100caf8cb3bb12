"""What `slem predict --all` does: a draft for every case that awaits one, by one process or several, going on
where it was stopped. Any number of these commands may be at work on one store at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from slem_app.cli.predict_cluster import Crew
from slem_app.cli.predict_maker import Maker
from slem_app.cli.predict_worker import Desk, Worker
from slem_app.cluster import Cluster
from slem_app.devices import gpu_count
from slem_app.files import atomic_file, import_path
from slem_app.predict import Predictor
from slem_app.store.archive_table import write_table
from slem_app.store.drafts import Drafts
from slem_app.store.work_queue import Counts, WorkQueue
from slem_app.training import device_of_this_process, end_with_launcher
from slem_app.weights import Model, find, load_model
from slem_app.weights.card import CARD_FILE
from slem_app.weights.published import Published

__all__ = ["Archive", "processes_for", "queue_of", "served_model"]

LOOK = 1.0  # seconds between looks at how far the run is
SHARE = 50  # and so many times what a look takes
RESTARTS = 3  # of one process, without any case being made meanwhile
PAUSE = 1.0  # seconds before a process that died is started again


def processes_for(wanted: int, device: str) -> int:
    """How many processes: as many as wanted, by default one a GPU."""
    if wanted:
        return wanted
    return max(1, gpu_count()) if device in ("auto", "cuda") else 1


def queue_of(drafts: Drafts) -> Path:
    """The file that says who makes which of these drafts."""
    return drafts.labels.root / "batch" / "work" / f"{drafts.tag}-{drafts.sha256[:16]}.sqlite"


@dataclass(frozen=True, eq=False)
class Archive:
    """The drafts of one run, and how they are made."""

    drafts: Drafts
    """Which."""
    model: Model
    """What makes them."""
    device: str = "auto"
    """As `device_of_this_process` takes it."""
    precision: str = "auto"
    """As `Predictor` takes it."""
    register: bool = False
    """Move the sequences of a case onto each other first."""
    report: Path | None = None
    """File for the progress."""
    table: Path | None = None
    """File for the table of the archive."""
    worst: str = ""
    """The step of `trust.STEPS` from which on a result becomes no draft; empty: all become one."""
    cluster: str = ""
    """The cluster whose processes make them, as `Cluster` takes it; empty: this machine alone."""

    def make(self, limit: int, processes: int, arguments: Sequence[str]) -> int:
        """Make them.

        Args:
            limit: cases at most, 0: all.
            processes: that work at once on this machine; in a cluster 0: one for each of its GPUs, or
                machines.
            arguments: this command's, for the processes that it starts.

        Returns:
            The exit code: 0, or 1 if a case could not be made; its reason is printed.

        Raises:
            BadSetting: no such device, precision or cluster, or a table that cannot be written.
            StorageFailed: the disk refused.
            WorkerLost: the cluster's processes are lost again and again.
        """
        cluster = Cluster(self.cluster) if self.cluster else None
        if cluster is None and processes == 1:
            device_of_this_process(self.device)
        queue, run = WorkQueue(queue_of(self.drafts)), uuid.uuid4().hex
        queue.fill(run, self.drafts.left()[: limit or None])
        with Progress(queue, run, self.report) as progress:
            if cluster is not None:
                self.work_on(cluster, self.desk(queue, run, progress.look), processes)
            elif processes == 1:
                self.work(queue, run, progress.look)
            elif not supervise([*arguments, "--worker-of", run], processes, progress):
                return 2
        counts = queue.counts(run)
        progress.write(counts, True)
        self._tell(counts)
        if self.table is not None:
            write_table(self.table, self.drafts, counts)
        return 1 if counts.quarantined else 0

    def work(self, queue: WorkQueue, run: str, told: Callable[[], object] = lambda: None) -> None:
        """This process's share of a run."""
        end_with_launcher()
        predictor = Predictor(self.model, device_of_this_process(self.device), self.precision)
        maker = Maker(predictor, self.register, self.drafts.tag)
        Worker(self.desk(queue, run, told), maker).work()

    def work_on(self, cluster: Cluster, desk: Desk, processes: int) -> None:
        """Have a cluster do a run, and leave it."""
        options = (self.model, self.device, self.precision, self.register, self.drafts.tag)
        gpu = cluster.has_gpus and self.device != "cpu"
        try:
            Crew(cluster, desk, options, processes or cluster.size, gpu).work()
        finally:
            cluster.close()

    def desk(self, queue: WorkQueue, run: str, told: Callable[[], object]) -> Desk:
        """What gives out the cases of a run."""
        return Desk(queue, run, self.drafts, self.model.card, self.worst, told)

    def _tell(self, counts: Counts) -> None:
        """Print what became of the cases."""
        drafts = self.drafts
        for case, reason in sorted(counts.quarantined.items()):
            print(f"left out {case}: {reason}")
        for case, reason in sorted(counts.held.items()):
            print(f"held back {case}: {reason}")
        if counts.foreign:
            some = ", ".join(counts.foreign[:5]) + (", ..." if len(counts.foreign) > 5 else "")
            print(
                f"{len(counts.foreign)} cases have none of the sequences of {drafts.model} and are left to "
                f"other models: {some}"
            )
        by = (
            f"; made by {len(counts.by)} processes: {', '.join(map(str, counts.by))}" if counts.by[1:] else ""
        )
        print(
            f"{counts.made} drafts by {drafts.model} {drafts.version} in {drafts.labels.root}, "
            f"tag {drafts.tag}{by}"
        )


class Progress:
    """How far a run is, as a bar and, for whoever asked, as a file that is always whole.

    Args:
        queue: of the run.
        run: its name.
        file: where it is written; None: nowhere.
    """

    def __init__(self, queue: WorkQueue, run: str, file: Path | None) -> None:
        self.queue, self.run, self.file = queue, run, file
        self.begun, self.next_look = time.monotonic(), 0.0
        self.bar: tqdm | None = None

    def __enter__(self) -> Progress:
        counts = self.queue.counts(self.run)
        self.bar = tqdm(total=counts.total, desc="drafts", unit="case")
        self.write(counts, False)
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.n = self.queue.counts(self.run).ended
            self.bar.close()

    def look(self) -> Counts | None:
        """Tell it, if that was not done a moment ago."""
        begun = time.monotonic()
        if begun < self.next_look:
            return None
        counts = self.queue.counts(self.run)
        took = time.monotonic() - begun
        self.next_look = time.monotonic() + max(LOOK, SHARE * took)  # it takes 0.3 s with 100,000 cases
        if self.bar is not None:
            self.bar.n = counts.ended
            self.bar.refresh()
        self.write(counts, False)
        return counts

    def write(self, counts: Counts, ended: bool) -> None:
        """Write the file."""
        if self.file is None:
            return
        seconds = time.monotonic() - self.begun
        left = seconds / counts.ended * (counts.total - counts.ended) if counts.ended else None
        table = {
            "total": counts.total,
            "done": counts.ended,
            "skipped": counts.quarantined,
            "held_back": counts.held,
            "ended": ended,
            "in_hand": counts.leased,
            "seconds": round(seconds, 1),
            "seconds_left": None if left is None else round(left, 1),
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.file, durable=False) as file:
            file.write(json.dumps(table).encode())


def supervise(arguments: Sequence[str], processes: int, progress: Progress) -> bool:
    """Run the same command in several processes until each of them has ended well; one that is killed is
    started again, unless that happens again and again while no case is made.

    Returns:
        False where a process ended with an error, which it has told.
    """
    running = {number: start(arguments, number, processes) for number in range(processes)}
    deaths, made, failed = 0, 0, False
    try:
        while running:
            counts = progress.look()
            if counts is not None and counts.ended > made:
                deaths, made = 0, counts.ended
            for number, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[number]
                if code < 0 and deaths < RESTARTS * processes:
                    deaths += 1
                    time.sleep(PAUSE * (deaths - 1))
                    running[number] = start(arguments, number, processes)
                elif code != 0:
                    failed = True
            time.sleep(0.05)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return not failed


def start(arguments: Sequence[str], number: int, processes: int) -> subprocess.Popen:
    """One of several processes; it has the GPU of its number, and ends with this one."""
    env = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        **os.environ,
        "LOCAL_RANK": str(number),
        "PYTHONPATH": import_path(),
    }
    return subprocess.Popen([sys.executable, "-m", "slem_app.cli", *arguments], env=env)


def served_model(name: str, store: Path) -> Model:
    """The model as the server of a store serves it: the published version of a name, or what lies in a
    folder.

    Raises:
        NotFound, BadCard, BadWeights: no such model, or one that cannot be used.
    """
    if (Path(name) / CARD_FILE).is_file():
        return load_model(name)
    loaded = Published(store / "models", name, find(name)).load()
    if loaded.note:
        print(loaded.note)
    return loaded.model
