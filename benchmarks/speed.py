"""How long does a reader wait for a segmentation, where does the time go, and how does that compare with
MONAI Label's own pipeline?

Both servers are started as `monailabel.main start_server`, asked over HTTP as 3D Slicer asks, for the same
cases, one after the other:

- ours: `apps/slem` on a studies folder;
- stock: MONAI Label's own inference task with the transforms and the network of its DeepEdit sample app
  (`benchmarks/stock_app`), its input as large as ours, the four sequences of a case stacked into one file,
  since a stock server sends one file a case.

Steps, in seconds: read (files to arrays), prepare (to the network's input), network, restore (to the image's
grid), write (the result file), transfer (all that the client waits beyond these: HTTP, the case list, sending
the file). `outside` is everything but the network.

    python benchmarks/speed.py --studies DIR
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import requests
import tyro
from page import commit, write_page
from requests_toolbelt.multipart.decoder import MultipartDecoder

from slem_app.grouping import Grouping, group
from slem_app.studies import open_source
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import prepare
from slem_app.volumes.read import read
from slem_app.weights import Card, find, load_card

PROJECT = Path(__file__).parents[1]
STEPS = ("read", "prepare", "network", "restore", "write", "transfer")
STOCK_MULTIPLE = (32, 32, 16)  # what the stock network's strides need
ASKED = {"result_extension": ".nrrd", "result_dtype": "uint8"}  # as the module of 3D Slicer asks
PATIENCE = 300.0


@dataclass(frozen=True)
class Speed:
    """Measure and write the table."""

    studies: Path = Path(os.environ.get("SLEM_DATA", PROJECT.parent / "shared" / "data")) / "brats"
    """Folder of cases."""
    others: int = 3
    """Further cases asked for after the first one: a running server, a case it has not seen."""
    repeats: int = 3
    """Times that the first case is asked for again."""
    model: str = "slem_brain"
    """Model to serve."""
    threads: int = 0
    """CPU threads of either server; 0: as they choose."""
    stock: bool = True
    """Measure MONAI Label's own pipeline too."""
    out: Path = PROJECT / "benchmarks" / "results" / "speed.md"
    """Where the table goes."""

    def run(self) -> None:
        source = open_source(self.studies)
        ids = source.ids()[: 1 + self.others]
        card = load_card(find(self.model))
        with tempfile.TemporaryDirectory(prefix="slem-speed-") as folder:
            work = Path(folder)
            tables = [self.ours(ids, work)]
            if self.stock:
                groupings = [group(source.study(one)) for one in ids]
                tables.append(self.theirs(groupings, card, work))
        self.out.parent.mkdir(parents=True, exist_ok=True)
        print(write_page(self.out, report(tables, card, self.threads)))

    def ours(self, ids: Sequence[str], work: Path) -> Table:
        conf = {
            "models": self.model,
            "store": str(work / "store"),
            "device": "cpu",
            "threads": str(self.threads),
        }
        with serving(
            PROJECT / "apps" / "slem", self.studies, conf, work / "ours.log", self.threads
        ) as server:
            return measure("SLeM Label", server, self.model, ids, self.repeats)

    def theirs(self, groupings: Sequence[Grouping], card: Card, work: Path) -> Table:
        studies = work / "stock_studies"
        studies.mkdir()
        sizes = [stack(grouping, card, studies / f"{grouping.study.id}.nii.gz") for grouping in groupings]
        size = [
            -(-int(np.median([s[axis] for s in sizes])) // step) * step
            for axis, step in enumerate(STOCK_MULTIPLE)
        ]
        # the server writes into it
        app = shutil.copytree(PROJECT / "benchmarks" / "stock_app", work / "stock_app")
        ids = [grouping.study.id for grouping in groupings]
        with serving(
            app, studies, {"size": ",".join(map(str, size))}, work / "stock.log", self.threads
        ) as server:
            name = f"MONAI Label's pipeline, DynUNet on {'x'.join(map(str, size))}"
            return measure(name, server, "stock", ids, self.repeats)


@dataclass(frozen=True)
class Table:
    """What was measured on one server."""

    name: str
    """Of the server."""
    ready: float
    """s from start to the first answer."""
    memory: float
    """MiB resident after the requests, the server and its children."""
    peak: float
    """MiB resident at most."""
    rows: Mapping[str, Sequence[Mapping[str, float]]]
    """Kind of request -> steps of each."""


class Server:
    """A running MONAI Label server."""

    def __init__(self, process: psutil.Popen, url: str, ready: float) -> None:
        self.process, self.url, self.ready = process, url, ready

    def memory(self) -> tuple[float, float]:
        """MiB resident now and at most, of the process and its children."""
        now = peak = 0.0
        for one in [self.process, *self.process.children(recursive=True)]:
            now += one.memory_info().rss / 2**20
            status = Path(f"/proc/{one.pid}/status")
            if status.is_file():
                peak += next(
                    int(line.split()[1]) / 1024
                    for line in status.read_text().splitlines()
                    if line.startswith("VmHWM")
                )
        return now, peak

    def infer(self, model: str, case: str) -> dict[str, float]:
        """Ask for one case; seconds by step, with `total` and `outside`."""
        start = time.perf_counter()
        answer = requests.post(
            f"{self.url}/infer/{model}",
            params={"image": case, "output": "all"},
            data={"params": json.dumps(ASKED)},
            timeout=PATIENCE,
        )
        total = time.perf_counter() - start
        if not answer.ok:
            raise SystemExit(f"the server refused {case}: {answer.status_code} {answer.text}")
        parts = {
            part.headers[b"Content-Disposition"]: part
            for part in MultipartDecoder.from_response(answer).parts
        }
        reply = json.loads(next(part.text for head, part in parts.items() if b'name="params"' in head))
        size = next(len(part.content) for head, part in parts.items() if b'name="image"' in head)
        steps = split(reply["latencies"])
        steps["transfer"] = total - sum(steps.values())
        return {**steps, "total": total, "outside": total - steps["network"], "bytes": float(size)}


def split(latencies: Mapping[str, object]) -> dict[str, float]:
    """The steps of either server's own account."""
    if "infer" not in latencies:
        return {step: float(latencies[step]) for step in STEPS if step in latencies}
    load = float(latencies["transform"]["pre"].get("LoadImaged", 0.0))
    return {
        "read": load,
        "prepare": float(latencies["pre"]) - load,
        "network": float(latencies["infer"]),
        "restore": float(latencies["invert"]) + float(latencies["post"]),
        "write": float(latencies["write"]),
    }


@contextmanager
def serving(app: Path, studies: Path, conf: Mapping[str, str], log: Path, threads: int) -> Iterator[Server]:
    """Start a server, wait until it answers, stop it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pairs = [part for key, value in conf.items() for part in ("--conf", key, value)]
    command = [
        sys.executable,
        "-m",
        "monailabel.main",
        "start_server",
        "--app",
        str(app),
        "--studies",
        str(studies.resolve()),
    ]
    settings = {
        "PYTHONPATH": str(PROJECT),
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    }
    if threads:
        settings |= {"OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    with log.open("wb") as output:
        process = psutil.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), *pairs],
            env={**os.environ, **settings},
            cwd=PROJECT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait(process, url, log)
        yield Server(process, url, time.perf_counter() - start)
    finally:
        try:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        except psutil.NoSuchProcess:
            pass  # it ended by itself
        except psutil.TimeoutExpired:
            process.kill()


def wait(process: psutil.Popen, url: str, log: Path) -> None:
    """Return once the server answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended while starting:\n{log.read_text()[-3000:]}")
        try:
            if requests.get(f"{url}/info/", timeout=PATIENCE).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise SystemExit(
        f"the server at {url} did not answer within {PATIENCE:.0f} s:\n{log.read_text()[-3000:]}"
    )


def measure(name: str, server: Server, model: str, ids: Sequence[str], repeats: int) -> Table:
    """Ask a server for the first case, for others, and for the first again."""
    rows = {
        "first request": [server.infer(model, ids[0])],
        "another case": [server.infer(model, case) for case in ids[1:]],
        "the same case again": [server.infer(model, ids[0]) for _ in range(repeats)],
    }
    now, peak = server.memory()
    return Table(name, server.ready, now, peak, {kind: found for kind, found in rows.items() if found})


def stack(grouping: Grouping, card: Card, path: Path) -> tuple[int, int, int]:
    """Write the sequences of a case as one 4D file on the reference's grid; the size of our network's input
    for it.
    """
    volumes = {name: read(series) for name, series in grouping.sequences.items() if name in card.sequences}
    grid = grouping.sequences[grouping.reference(card.reference_order)].grid
    arrays = [resample(volumes[name].array, volumes[name].grid, grid, order=1) for name in card.sequences]
    nib.save(nib.Nifti1Image(np.stack(arrays, axis=-1).astype(np.int16), grid.affine), path)
    return prepare(volumes, card.sequences, card.preparation, grid).grid.shape


def report(tables: Sequence[Table], card: Card, threads: int) -> str:
    """The page with the tables."""
    packages = ("torch", "monai", "monailabel")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    lines = [
        "# Speed of a request",
        "",
        f"- command: `python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`",
        f"- date: {datetime.date.today().isoformat()}, commit {commit()}",
        (
            f"- machine: {machine()}; threads: {threads or 'as chosen by torch'}; load average at the end "
            f"{os.getloadavg()[0]:.1f}"
        ),
        f"- versions: {versions}; model {card.name} {card.version}",
        "",
        (
            "Seconds as the client sees them, median over the requests of a row. How each step is "
            "defined stands at the top of `benchmarks/speed.py`."
        ),
        "",
        f"| server | request | n | total | outside the network | {' | '.join(STEPS)} | result |",
        f"|---|---|---|---|---|{'---|' * len(STEPS)}---|",
    ]
    for table in tables:
        for kind, found in table.rows.items():
            middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
            cells = " | ".join(f"{middle[step]:.2f}" for step in STEPS)
            lines.append(
                f"| {table.name} | {kind} | {len(found)} | **{middle['total']:.2f}** | "
                f"{middle['outside']:.2f} | {cells} | {middle['bytes'] / 2**20:.1f} MiB |"
            )
    lines += ["", "| server | ready after | resident memory | at most |", "|---|---|---|---|"]
    lines += [f"| {t.name} | {t.ready:.1f} s | {t.memory:.0f} MiB | {t.peak:.0f} MiB |" for t in tables]
    if len(tables) == 2:
        lines += ["", *ratios(*tables)]
    return "\n".join(lines) + "\n"


def ratios(ours: Table, theirs: Table) -> list[str]:
    """How many times as long the second server takes."""
    lines = [f"{theirs.name}, as a multiple of {ours.name}:", ""]
    for kind in ours.rows:
        pairs = [
            [statistics.median(one[key] for one in table.rows[kind]) for table in (ours, theirs)]
            for key in ("total", "outside")
        ]
        lines.append(
            f"- {kind}: {pairs[0][1] / pairs[0][0]:.1f} x in all, {pairs[1][1] / pairs[1][0]:.1f} x "
            f"outside the network"
        )
    return lines


def machine() -> str:
    """Processor, cores and memory."""
    info = Path("/proc/cpuinfo")
    model = (
        next(
            (
                line.partition(":")[2].strip()
                for line in info.read_text().splitlines()
                if line.startswith("model name")
            ),
            "",
        )
        if info.is_file()
        else ""
    )
    return (
        f"{model or platform.processor()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    )


if __name__ == "__main__":
    tyro.cli(Speed).run()
