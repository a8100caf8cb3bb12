"""Work by the processes of a Ray cluster: an archive whose processes and driver are killed, and the clicks of
many readers while processes are killed.

    python -m benchmarks.scale_cluster archive --cases 500 --kills 100
    python -m benchmarks.scale_cluster clicks --readers 40 --minutes 10
    python -m benchmarks.scale_cluster front

The first two compare every result with that of one process in peace, byte for byte or voxel for voxel. The
third measures what the process beside the store does for each case, and what it hands over. Cases are made up
and the network was never trained. `--cluster ADDRESS` uses a cluster that runs already.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from benchmarks.many_studies import many_dicom, many_nifti, settled
from benchmarks.page import table, where, write_page
from benchmarks.scale import archive, names, results

if TYPE_CHECKING:
    from slem_app.predict import Prediction

RESULTS = Path(__file__).parent / "results"
CLICKS = 6  # of each reader on each case


def note() -> str:
    """How the page was made."""
    words = " ".join(sys.argv[1:])
    return (
        f"- command: `python -m benchmarks.scale_cluster {words}`\n"
        f"- {where()}; load {os.getloadavg()[0]:.1f}\n"
    )


def processes(name: str) -> list[int]:
    """Processes of Ray that hold objects of a class, by its name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(f"ray::{name}".encode()):
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


@dataclass(frozen=True)
class Archive:
    """Drafts of all cases while processes, and now and then the driver, are killed at random moments."""

    cases: int = 500
    """Cases, each of its own phantom's voxels."""
    kills: int = 100
    """By SIGKILL."""
    drivers: float = 0.2
    """Share of the kills that are the driver's."""
    processes: int = 2
    """Of the cluster."""
    cluster: str = "local"
    """As `slem predict` takes it."""
    most_seconds: float = 540.0
    """For the part with kills; then no more are made, and what is left is done in peace."""
    out: Path = RESULTS / "scale_cluster_archive.md"
    """Where the table goes."""

    def run(self) -> None:
        """Both runs, and the comparison."""
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            archive(root, self.cases)
            seconds = {}
            begun = time.monotonic()
            self._command(root, "undisturbed", "--processes", "1").wait()
            seconds["one process here"] = time.monotonic() - begun
            begun = time.monotonic()
            killed = self._disturbed(root)
            seconds["cluster, with kills"] = time.monotonic() - begun
            self._write(root, killed, seconds)

    def _command(self, root: Path, store: str, *more: str) -> subprocess.Popen:
        words = ["predict", str(root / "studies"), "--all", "--model", str(root / "models/small")]
        words += ["--store", str(root / store), "--device", "cpu", *more]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (root / "log").open("a") as log:
            command = [sys.executable, "-m", "slem_app.cli", *words]
            return subprocess.Popen(command, stdout=log, stderr=log, env=env)

    def _disturbed(self, root: Path) -> dict[str, int]:
        """The run with kills; how many of each kind there were."""
        chance, killed = random.Random(0), {"process": 0, "driver": 0}
        store, end = root / "killed", time.monotonic() + self.most_seconds

        def start() -> subprocess.Popen:
            more = ("--cluster", self.cluster, "--processes", str(self.processes))
            return self._command(root, "killed", *more)

        def made() -> int:
            return sum(1 for _ in store.glob("labels/*/original/[0-9]*"))

        driver, wanted = start(), 0
        most = max(1, 2 * self.cases // max(1, self.kills) - 1)  # cases between two kills
        while made() < self.cases:
            if driver.poll() is not None:
                driver = start()
            if made() >= wanted and sum(killed.values()) < self.kills and time.monotonic() < end:
                victims = processes("RemoteMaker")
                time.sleep(chance.uniform(0, 0.5))
                if chance.random() < self.drivers:
                    driver.kill()
                    driver.wait()
                    killed["driver"] += 1
                elif victims:
                    killed["process"] += kill(chance.choice(victims))
                wanted = made() + chance.randint(1, most)
            time.sleep(0.1)
        driver.wait()
        return killed

    def _write(self, root: Path, killed: dict[str, int], seconds: dict[str, float]) -> None:
        found = {
            name: {case: results(root / name, case) for case in names(self.cases)}
            for name in ("undisturbed", "killed")
        }
        pairs = [(found["undisturbed"][case], found["killed"][case]) for case in names(self.cases)]
        rows = [
            ("cases", str(self.cases)),
            ("processes of the cluster", str(self.processes)),
            ("processes killed (SIGKILL)", str(killed["process"])),
            ("drivers killed (SIGKILL)", str(killed["driver"])),
            ("cases without a result", f"**{sum(not there for _, there in pairs)}**"),
            ("cases with two results", f"**{sum(len(there) > 1 for _, there in pairs)}**"),
            ("results that differ from one process in peace, byte for byte", _differ(pairs)),
            ("different results among all cases", str(len({str(here) for here, _ in pairs}))),
            *((f"seconds, {name}", f"{value:.0f}") for name, value in seconds.items()),
        ]
        text = f"# An archive by a cluster, while processes are killed\n\n{note()}\n"
        print(write_page(self.out, text + "\n".join(table(("", ""), rows))))


def _differ(pairs: list[tuple[list[str], list[str]]]) -> str:
    return f"**{sum(here != there for here, there in pairs)}**"


def kill(process: int) -> int:
    """Kill a process; 0 where it had just ended."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


@dataclass
class Seen:
    """What the readers saw."""

    milliseconds: list[float] = field(default_factory=list)
    """Of each further click."""
    wrong: int = 0
    """Answers with other voxels than expected."""
    errors: list[str] = field(default_factory=list)
    """Errors that reached a reader."""


@dataclass(frozen=True)
class Clicks:
    """Readers who click while processes are killed. Without HTTP: as the threads of a server call."""

    readers: int = 40
    """At once."""
    cases: int = 8
    """Between them."""
    minutes: float = 10.0
    """How long."""
    every: float = 60.0
    """Seconds between two kills."""
    think: float = 2.0
    """Seconds that a reader looks before the next click."""
    processes: int = 2
    """Of the cluster."""
    cluster: str = "local"
    """As `slem serve` takes it."""
    shape: tuple[int, int, int] = (64, 72, 56)
    """Voxels of an image."""
    out: Path = RESULTS / "scale_cluster_clicks.md"
    """Where the table goes."""

    def run(self) -> None:
        """Clicks here one after the other, the same by the cluster, then all readers."""
        import torch

        from slem_app.cluster import Cluster
        from slem_app.serving.models.byte_cache import ByteCache
        from slem_app.serving.models.cluster_compute import ClusterCompute, Processes
        from slem_app.serving.models.compute import Caches, LocalCompute
        from slem_app.serving.models.compute_process import ProcessSettings

        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as temporary:
            room = Room(Path(temporary), self.cases, self.shape)
            local = LocalCompute(Caches.of_size(512, 1024))
            here = [room.play(local, "x", number) for number in range(self.cases)]
            cluster = Cluster(self.cluster)
            own = ProcessSettings("cpu", 1, 512, 1024, False)
            far = Processes(cluster, self.processes, False, own)
            starts: ByteCache = ByteCache(2**30, lambda start: start.nbytes)
            compute = ClusterCompute(far, starts, LocalCompute(Caches.of_size(512, 1024)))
            alone = [room.play(compute, "x", number) for number in range(self.cases)]
            wrong = sum(a[0] != b[0] for a, b in zip(here, alone, strict=True))
            seen, kills = self._all(room, compute, [hashes for hashes, _ in here])
            cluster.close()
        self._write(here, alone, wrong, seen, kills)

    def _all(self, room: Room, compute: object, expected: list[list[str]]) -> tuple[Seen, int]:
        """All readers at once; what they saw, and how many processes were killed."""
        seen, chance, kills = Seen(), random.Random(0), 0
        end, guard = time.monotonic() + 60 * self.minutes, threading.Lock()

        def read(reader: int) -> None:
            turn = reader
            while time.monotonic() < end:
                number = turn % self.cases
                try:
                    hashes, times = room.play(compute, f"reader{reader}-{turn}", number, self.think)
                except Exception as error:  # noqa: BLE001  # counted, whatever it is
                    with guard:
                        seen.errors.append(repr(error))
                    continue
                with guard:
                    seen.wrong += sum(a != b for a, b in zip(hashes, expected[number], strict=True))
                    seen.milliseconds += times
                turn += 1

        with ThreadPoolExecutor(self.readers) as pool:
            running = [pool.submit(read, reader) for reader in range(self.readers)]
            while time.monotonic() < end:
                time.sleep(min(self.every, max(0.0, end - time.monotonic())))
                victims = processes("ComputeProcess")
                if victims and time.monotonic() < end:
                    kills += kill(chance.choice(victims))
            for one in running:
                one.result()
        return seen, kills

    def _write(
        self,
        here: list[tuple[list[str], list[float]]],
        alone: list[tuple[list[str], list[float]]],
        wrong: int,
        seen: Seen,
        kills: int,
    ) -> None:
        near, far = ([ms for _, times in part for ms in times] for part in (here, alone))
        shape = "x".join(map(str, self.shape))
        rows = [
            (f"a further click here, {shape} voxels, median ms", f"{statistics.median(near):.0f}"),
            ("the same by the cluster, nobody else there, median ms", f"{statistics.median(far):.0f}"),
            ("cases whose clicks gave other voxels", f"**{wrong}**"),
            ("readers at once, cases, processes", f"{self.readers}, {self.cases}, {self.processes}"),
            ("minutes", f"{self.minutes:g}"),
            ("processes killed (SIGKILL)", str(kills)),
            ("answers", str(len(seen.milliseconds))),
            ("errors that reached a reader", f"**{len(seen.errors)}**"),
            ("answers with a wrong voxel", f"**{seen.wrong}**"),
        ]
        if seen.milliseconds:
            p50, p95 = np.percentile(seen.milliseconds, (50, 95))
            rows += [("a further click, all readers, median and p95, ms", f"{p50:.0f}, {p95:.0f}")]
        text = f"# Clicks by a cluster, while processes are killed\n\n{note()}\n"
        print(write_page(self.out, text + "\n".join(table(("", ""), rows))))
        for error in seen.errors[:5]:
            print(error)


@dataclass(frozen=True)
class Front:
    """Work for each case in the process beside the store, with results of real size. Needs no Ray."""

    cases: int = 100
    """Of each kind, NIfTI and DICOM."""
    shape: tuple[int, int, int] = (240, 240, 155)
    """Voxels of a result."""
    slices: int = 155
    """Files of a DICOM series."""
    out: Path = RESULTS / "scale_cluster_front.md"
    """Where the table goes."""

    def run(self) -> None:
        """Both kinds."""
        rows = []
        with tempfile.TemporaryDirectory() as temporary:
            for kind in ("NIfTI", "DICOM"):
                studies = Path(temporary) / kind
                if kind == "NIfTI":
                    many_nifti(studies, self.cases)
                else:
                    many_dicom(studies, self.cases, sequences=4, slices=self.slices)
                settled(studies)
                rows += self._measured(kind, studies, Path(temporary) / f"store-{kind}")
        rows += self._click()
        head = ("what", "ms of CPU", "bytes handed over")
        text = f"# What a cluster asks of the process beside the store\n\n{note()}\n"
        print(write_page(self.out, text + "\n".join(table(head, rows))))

    def _prediction(self) -> Prediction:
        """A result of real size: a ball in a box."""
        from slem_app.predict import Prediction
        from slem_app.types import Grid
        from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES

        array = np.zeros(self.shape, np.uint8, order="F")
        i, j, k = np.ogrid[: self.shape[0], : self.shape[1], : self.shape[2]]
        far = (i - 100) ** 2 + (j - 110) ** 2 + (k - 80) ** 2
        for value, radius in ((2, 40), (3, 25), (1, 15)):
            array[far < radius**2] = value
        return Prediction(array, Grid(self.shape, np.eye(4)), BRAIN_LABELS, BRAIN_SEQUENCES, ())

    def _measured(self, kind: str, studies: Path, store: Path) -> list[tuple[str, str, str]]:
        from slem_app.cli.predict_all import queue_of
        from slem_app.cli.predict_maker import Made
        from slem_app.cli.predict_worker import Desk
        from slem_app.store.case_labels import CaseLabels
        from slem_app.store.drafts import Draft, Drafts
        from slem_app.store.work_queue import WorkQueue
        from slem_app.studies.header_index import INDEX_FILE, INDEX_FOLDER, HeaderIndex
        from slem_app.weights import load_card, model_folder

        index = HeaderIndex(store / INDEX_FOLDER / INDEX_FILE)
        drafts = Drafts(CaseLabels(str(studies), store, index=index), "tiny", "1", "ab")
        queue = WorkQueue(queue_of(drafts))
        queue.fill("run", drafts.left())
        desk = Desk(queue, "run", drafts, load_card(model_folder("slem_brain")))
        taken, kept, asked, sent = Spent(), Spent(), 0, 0
        result = self._prediction()
        while True:
            with taken:
                task = desk.take()
            if task is None:
                break
            asked += len(pickle.dumps(task.grouping))
            draft = Draft.of(result, task.grouping, next(iter(task.grouping.sequences)), {})
            sent += len(pickle.dumps(draft))
            with kept:
                desk.keep(task, Made(draft, 0.0))
        return [
            (
                f"{kind}: lease a case and read its headers",
                taken.each(self.cases),
                f"{asked // self.cases:,}",
            ),
            (f"{kind}: keep a draft", kept.each(self.cases), f"{sent // self.cases:,}"),
        ]

    def _click(self) -> list[tuple[str, str, str]]:
        """A correction, there and back: what the reader sees goes with it."""
        shown, packing = self._prediction(), Spent()
        for _ in range(20):
            with packing:
                parts: list[pickle.PickleBuffer] = []
                packed = pickle.dumps(shown, protocol=5, buffer_callback=parts.append)
                size = len(packed) + sum(part.raw().nbytes for part in parts)
                copies = [bytearray(part.raw()) for part in parts]
                pickle.loads(packed, buffers=copies)
        return [
            ("a click: pack, copy and unpack what the reader sees, one way", packing.each(20), f"{size:,}")
        ]


class Spent:
    """CPU time of the blocks in which it is."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.begun = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self.begun

    def each(self, count: int) -> str:
        """Milliseconds of each of so many."""
        return f"{1000 * self.seconds / count:.1f}"


class Room:
    """Made-up cases and a model that follows clicks.

    Args:
        folder: for all of it.
        count: how many cases.
        shape: voxels of an image.
    """

    def __init__(self, folder: Path, count: int, shape: tuple[int, int, int]) -> None:
        from benchmarks.tiny import options
        from slem_app import phantom
        from slem_app.predict import Predictor
        from slem_app.serving.cases.catalogue import Cases
        from slem_app.serving.models.versions import ServedVersions
        from slem_app.weights import load_model

        spacing = (160.0 / shape[0],) * 3
        for number, name in enumerate(names(count)):
            head = phantom.make(seed=number, shape=shape, spacing=spacing)
            phantom.write_nifti(head, folder / "studies", name, labels=False)
        options(folder / "models")
        self.served = ServedVersions(Predictor(load_model(folder / "models/slem_brain"), "cpu"))
        self.cases, self.folder, self.shape = Cases(str(folder / "studies"), folder / "up"), folder, shape

    def play(
        self, compute: object, reader: str, number: int, think: float = 0.0
    ) -> tuple[list[str], list[float]]:
        """One reader's clicks on a case: a hash of the voxels after each, ms of each but the first."""
        from slem_app.serving.models.history import EditHistory
        from slem_app.serving.models.inference import InferRequest
        from slem_app.serving.models.interactive import InteractiveTask
        from slem_app.serving.models.segment import SegmentationTask

        automatic = SegmentationTask(self.served, compute, self.folder)  # type: ignore[arg-type]
        task = InteractiveTask(automatic, EditHistory(2**30))
        chance, case = random.Random(number), self.cases.find(names(self.cases_count)[number])
        clicks: dict[str, list[list[int]]] = {"edema": [], "background": []}
        hashes, times = [], []
        for turn in range(CLICKS):
            voxel = [chance.randrange(size // 3, 2 * size // 3) for size in self.shape]
            clicks["edema" if turn % 2 == 0 else "background"].append(voxel)
            begun = time.perf_counter()
            answer = task(
                case, InferRequest("slem_brain", case.id, client_id=reader, reply=None, points=clicks)
            )
            times.append(1000 * (time.perf_counter() - begun))
            hashes.append(sha256(np.asfortranarray(answer.prediction.array).tobytes("F")).hexdigest())
            time.sleep(think)
        return hashes, times[1:]

    @property
    def cases_count(self) -> int:
        """How many cases there are."""
        return len(self.cases.ids())


if __name__ == "__main__":
    one, two, three = (tyro.conf.subcommand(name) for name in ("archive", "clicks", "front"))
    tyro.cli(  # type: ignore[call-overload]
        Annotated[Archive, one] | Annotated[Clicks, two] | Annotated[Front, three]
    ).run()
