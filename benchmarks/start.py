"""How long until the server answers, and until `slem` says how a command is used or that a model is unknown?

Everything is a process of its own, which begins with nothing loaded. Seconds of a processor (user and system,
of the process and those that it waited for) are given beside those of the clock, since others may use the
machine; `python -c pass` stands beside them for the same reason. Give an older state of the sources to
see both in one run. On a machine that has other work, `nice -n -20` as root shows what a quiet one does:

    git worktree add ../older 4f26672
    nice -n -20 python benchmarks/start.py --before ../older
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import tyro
from page import table, where, write_page

from slem_app import phantom
from slem_app.cli import commands

PROJECT = Path(__file__).parents[1]
PATIENCE = 300.0  # seconds
SERVER = "server, until /info/ answers"


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    clock: float
    """Seconds."""
    processor: float
    """Seconds, user and system."""


@dataclass(frozen=True)
class Start:
    """Measure and write the table."""

    before: Path | None = None
    """An older state of the sources, to be measured beside this one."""
    repeats: int = 3
    """Times that each is started; the table has medians."""
    out: Path = PROJECT / "benchmarks" / "results" / "start.md"
    """Where the table goes."""

    def run(self) -> None:
        trees = {"before": self.before.resolve()} if self.before else {}
        trees["now"] = PROJECT
        found: dict[tuple[str, str], list[Cost]] = defaultdict(list)
        with tempfile.TemporaryDirectory(prefix="slem-start-") as folder:
            studies = Path(folder, "studies")
            phantom.write_nifti(phantom.make(seed=1), studies, "demo-1")
            for _ in range(self.repeats):
                for name, tree in trees.items():
                    for what, words in asked(studies).items():
                        found[what, name].append(command(words, tree))
                    with server(tree, studies) as cost:
                        found[SERVER, name].append(cost)
        print(write_page(self.out, report(found, list(trees))))


def asked(studies: Path) -> dict[str, list[str]]:
    """What is started: the row's name, and what follows `python`."""
    slem = ["-m", "slem_app.cli"]
    rows = {"python -c pass": ["-c", "pass"], "import torch": ["-c", "import torch"]}
    rows["slem --help"] = [*slem, "--help"]
    rows |= {f"slem {name} --help": [*slem, name, "--help"] for name in commands()}
    rows["slem predict --model (unknown)"] = [*slem, "predict", str(studies / "demo-1"), "--model", "slem_x"]
    return rows


def command(words: list[str], tree: Path) -> Cost:
    """A process that ends by itself."""
    start, used = time.perf_counter(), os.times()
    subprocess.run(
        [sys.executable, *words], env=environment(tree), cwd=tree, capture_output=True, check=False
    )
    now = os.times()
    processor = now.children_user - used.children_user + now.children_system - used.children_system
    return Cost(time.perf_counter() - start, processor)


@contextmanager
def server(tree: Path, studies: Path) -> Iterator[Cost]:
    """A server with the bundled models, as `slem serve` starts it; what it took until it answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="slem-start-"))
    words = server_words(tree, studies, folder, port)
    start = time.perf_counter()
    with (folder / "out").open("w") as log:
        process = psutil.Popen(
            [sys.executable, "-m", *words],
            env=environment(tree),
            cwd=tree,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait(process, f"http://127.0.0.1:{port}/info/")
        clock, times = time.perf_counter() - start, process.cpu_times()
        yield Cost(clock, times.user + times.system)
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


def server_words(tree: Path, studies: Path, folder: Path, port: int) -> list[str]:
    """What follows `python -m` to start a server with the bundled models, whose own files lie in `folder`."""
    own, app = tree / "slem_app/serving", ["start_server", "--app", str(tree / "apps/slem")]
    if (own / "__main__.py").is_file():
        words = ["slem_app.serving", "--logs", str(folder)]
    elif (own / "monai").is_dir():  # an older state
        words = ["slem_app.serving.monai", *app]
    else:
        words = ["monailabel.main", *app, "--uvicorn_app", "slem_app.serving.asgi:app"]
    words += ["--studies", str(studies), "--host", "127.0.0.1", "--port", str(port)]
    return [*words, "--conf", "store", str(folder / "store"), "--conf", "device", "cpu"]


def wait(process: psutil.Popen, url: str, patience: float = PATIENCE) -> None:
    """Return once the server answers, within so many seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=PATIENCE).read()
            return
        except urllib.error.URLError:
            time.sleep(0.05)
    raise SystemExit("the server did not start")


def environment(tree: Path) -> dict[str, str]:
    """Python finds the package of that state of the sources."""
    return {**os.environ, "PYTHONPATH": str(tree), "MONAI_LABEL_TRACKING_ENABLED": "false"}


def report(found: dict[tuple[str, str], list[Cost]], trees: list[str]) -> str:
    """The page."""
    head = ["started", *(f"{name}: {kind}" for name in trees for kind in ("processor", "clock"))]
    rows = []
    for what in dict.fromkeys(name for name, _ in found):
        cells = [what]
        for tree in trees:
            costs = found[what, tree]
            cells.append(f"{statistics.median(one.processor for one in costs):.2f} s")
            cells.append(f"{statistics.median(one.clock for one in costs):.2f} s")
        rows.append(cells)
    lines = [
        "# Start",
        "",
        f"- command: `python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`",
        f"- {where()}; load average at the end {os.getloadavg()[0]:.1f}",
        "",
        "Medians. What is measured stands at the top of `benchmarks/start.py`.",
        "",
        *table(head, rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(Start).run()
