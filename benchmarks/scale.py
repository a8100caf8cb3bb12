"""Past one machine's usual: very many studies listed, and an archive segmented by processes that are killed.

    python -m benchmarks.scale listing --count 10000 100000
    python -m benchmarks.scale kills --cases 500 --kills 100

The first measures what a server does with its list of cases: first start, restart, filter, next case. The
second makes drafts of all cases while processes are killed, and compares them with those of a run that nobody
disturbs.

Studies are made up (`many_studies.py`), the network was never trained. Listing is asked without HTTP. Times
are given twice: by the clock, and as seconds of this process's own CPU time, which other work on the machine
disturbs less.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import tyro

from benchmarks.many_studies import many_dicom, many_nifti, settled
from benchmarks.page import table, where, write_page

RESULTS = Path(__file__).parent / "results"
MODEL = "slem_brain"


@dataclass
class Watch:
    """Times of what was done."""

    rows: list[tuple[str, ...]] = field(default_factory=list)
    """Studies, what was done, ms by the clock, ms of CPU time, memory."""

    @contextmanager
    def timed(self, studies: str, what: str) -> Iterator[None]:
        """Note how long a block takes."""
        clock, cpu = time.perf_counter(), time.process_time()
        yield
        took, spent = time.perf_counter() - clock, time.process_time() - cpu
        self.rows.append((studies, what, f"{1000 * took:.0f}", f"{1000 * spent:.0f}", f"{resident():.0f}"))
        print(*self.rows[-1], sep=" | ", flush=True)


def resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True)
class Listing:
    """How long a server's lists take with very many studies."""

    count: tuple[int, ...] = (10_000, 100_000)
    """Studies in NIfTI."""
    dicom: tuple[int, ...] = (10_000,)
    """Studies in DICOM, each a series of fourteen files."""
    folder: Path | None = None
    """Where the studies are made, or were made before; default: a temporary folder."""
    out: Path = RESULTS / "scale_listing.md"
    """Where the table goes."""

    def run(self) -> None:
        """All sizes, each with a fresh index and with one that is there."""
        watch = Watch()
        with tempfile.TemporaryDirectory() as temporary:
            root = self.folder or Path(temporary)
            for kind, counts in (("NIfTI", self.count), ("DICOM", self.dicom)):
                for count in counts:
                    studies = root / f"{kind.lower()}{count}"
                    if not studies.exists():
                        (many_nifti if kind == "NIfTI" else many_dicom)(studies, count)
                        settled(studies)
                    measure(studies, Path(temporary) / f"store-{kind}-{count}", f"{count:,} {kind}", watch)
        head = ("studies", "what", "ms", "ms of CPU", "MiB of the process")
        text = f"# Lists of very many studies\n\n- command: {command_line()}\n"
        text += f"- {where()}, load {os.getloadavg()[0]:.1f}\n\n"
        write_page(self.out, text + "\n".join(table(head, watch.rows)))


def measure(studies: Path, store: Path, name: str, watch: Watch) -> None:
    """What a server does with its list of cases, first and after a restart."""
    from slem_app.serving.pages.worklist import WorklistQuery

    for start in ("first start", "restart"):
        with watch.timed(name, start):
            serving, worklist, chooser = served(studies, store)
        cases = serving.cases
        with watch.timed(name, "all folders looked at again, in the background"):
            cases._list()
        with watch.timed(name, "list of ids"):
            cases.known()
        with watch.timed(name, "open a case"):
            cases.grouping(cases.listed[len(cases.listed) // 2])
        worklist.page(WorklistQuery())
        with watch.timed(name, "worklist, a page"):
            worklist.page(WorklistQuery())
        with watch.timed(name, "worklist, find by text"):
            worklist.page(WorklistQuery(text="00777"))
        for turn in ("next case", "next case again"):
            with watch.timed(name, turn):
                chooser()


def served(studies: Path, store: Path) -> tuple[SimpleNamespace, object, Callable[[], object]]:
    """A server's rooms over some studies, without a network: itself, its worklist, what chooses the next
    case.
    """
    from slem_app.serving.cases.catalogue import Cases
    from slem_app.serving.labels.datastore import CaseDatastore
    from slem_app.serving.learning.case_scores import Scores
    from slem_app.serving.learning.leases import Leases
    from slem_app.serving.learning.next_case import Chooser
    from slem_app.serving.learning.request_types import NextCaseRequest
    from slem_app.serving.pages.thumbnails import Thumbnails
    from slem_app.serving.pages.worklist import Worklist
    from slem_app.studies.header_index import HeaderIndex
    from slem_app.weights import BRAIN_LABELS, load_card, model_folder

    cases = Cases(studies, store / "uploads", index=HeaderIndex(store / "index/headers.sqlite"))
    datastore = CaseDatastore(cases, store, {MODEL: BRAIN_LABELS})
    scores = Scores(store / "scores", datastore, lambda: ())
    chooser = Chooser(scores, Leases(store / "leases.json", 30), seed=0)
    serving = SimpleNamespace(
        cases=cases, datastore=datastore, chooser=chooser, cards={MODEL: load_card(model_folder(MODEL))}
    )
    worklist = Worklist(serving, Thumbnails(cases, datastore))  # type: ignore[arg-type]
    return serving, worklist, lambda: chooser.next(NextCaseRequest(), datastore)


@dataclass(frozen=True)
class Kills:
    """Drafts of all cases by processes that are killed at random, compared with a run in peace."""

    cases: int = 500
    """Cases, each of its own phantom's voxels."""
    kills: int = 100
    """Of random processes, by SIGKILL."""
    processes: int = 2
    """That work at once, each a command `slem predict --all` of its own: driver and worker."""
    out: Path = RESULTS / "scale_kills.md"
    """Where the table goes."""

    def run(self) -> None:
        """Both runs, and the comparison."""
        forks = multiprocessing.get_context("forkserver")
        forks.set_forkserver_preload(
            ["slem_app.cli.predict_all", "slem_app.cli", "slem_app.store.case_labels"]
        )
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            archive(root, self.cases)
            seconds = {}
            for name, kills in (("undisturbed", 0), ("killed", self.kills)):
                begun = time.monotonic()
                done = self.drafts(forks, root, root / name, kills)
                seconds[name] = time.monotonic() - begun
            self.write(root, done, seconds)

    def drafts(self, forks: BaseContext, root: Path, store: Path, kills: int) -> int:
        """All drafts in a store; how many kills there were."""
        chance, done, made, wait = random.Random(0), 0, 0, 0
        running = [start(forks, root, store) for _ in range(self.processes)]
        most = max(1, 2 * self.cases // max(1, kills) - 1)  # cases between two kills: they last to the end
        while made < self.cases:
            made = sum(1 for _ in store.glob("labels/*/original/[0-9]*"))
            if done < kills and made >= wait:
                time.sleep(chance.uniform(0, 0.3))
                number = chance.randrange(self.processes)
                os.kill(running[number].pid, signal.SIGKILL)
                running[number].join()
                running[number] = start(forks, root, store)
                done, wait = done + 1, made + chance.randint(1, most)
            for number, process in enumerate(running):
                if not process.is_alive() and made < self.cases:
                    running[number] = start(forks, root, store)
            time.sleep(0.02)
        for process in running:
            process.join()
        return done

    def write(self, root: Path, kills: int, seconds: dict[str, float]) -> None:
        """The table."""
        whole, killed = ({case: results(root / name, case) for case in names(self.cases)} for name in seconds)
        lost = sum(not found for found in killed.values())
        twice = sum(len(found) > 1 for found in killed.values())
        other = sum(found != whole[case] for case, found in killed.items())
        left = len([*(root / "killed").rglob(".new-*"), *(root / "killed").rglob("*.part")])
        rows = [
            ("cases", str(self.cases)),
            ("processes at once", str(self.processes)),
            ("kills (SIGKILL)", str(kills)),
            ("cases without a result", f"**{lost}**"),
            ("cases with two results", f"**{twice}**"),
            ("results that differ from the undisturbed run, byte for byte", f"**{other}**"),
            ("half-written files left (the next call sweeps them)", str(left)),
            ("different results among all cases", str(len({str(found) for found in whole.values()}))),
            ("seconds undisturbed, with kills", ", ".join(f"{one:.0f}" for one in seconds.values())),
        ]
        text = f"# An archive, while processes are killed\n\n- command: {command_line()}\n- {where()}\n\n"
        print(write_page(self.out, text + "\n".join(table(("", ""), rows))))


def command_line() -> str:
    """As it was given, in Markdown."""
    return f"`python -m benchmarks.scale {' '.join(sys.argv[1:])}`"


def names(count: int) -> list[str]:
    """Of the cases."""
    return [f"p{number:04}" for number in range(count)]


def archive(root: Path, count: int) -> None:
    """Made-up cases that all differ, and a model that was never trained."""
    from benchmarks.tiny import untrained  # with torch, which the other commands do without
    from slem_app import phantom

    for number, name in enumerate(names(count)):
        head = phantom.make(seed=number, shape=(20, 24, 20), spacing=(7.0,) * 3)
        phantom.write_nifti(head, root / "studies", name, labels=False)
    untrained(root / "models/small", "small", 7.0, 4, prior=0.5)


def start(forks: BaseContext, root: Path, store: Path) -> BaseProcess:
    """One command, in a process that has imported the program."""
    process = forks.Process(target=command, args=(root, store))  # type: ignore[attr-defined]
    process.start()
    return process


def command(root: Path, store: Path) -> None:
    """`slem predict --all`."""
    import torch

    from slem_app.cli import main

    torch.set_num_threads(1)
    with (root / "log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        words = ["predict", str(root / "studies"), "--all", "--model", str(root / "models/small")]
        sys.exit(main([*words, "--store", str(store), "--device", "cpu", "--processes", "1"]))


def results(store: Path, case: str) -> list[str]:
    """Hashes of all versions of a case's draft."""
    paths = sorted(store.glob(f"labels/{case}/original/[0-9]*/label.nii.gz"))
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


if __name__ == "__main__":
    listing, kills = (tyro.conf.subcommand(name) for name in ("listing", "kills"))
    tyro.cli(Annotated[Listing, listing] | Annotated[Kills, kills]).run()  # type: ignore[call-overload]
