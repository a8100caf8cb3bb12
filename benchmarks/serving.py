"""Does one reader's request block another's? Twenty readers at once on one server: what they wait, what
fails, what memory it takes.

- 10 poll as 3D Slicer and OHIF do, but every second: `/info/`, `/train/?check_if_running=true`, `/`;
- 6 load images as OHIF does: a study's series, the metadata of one, then all its frames, four at a time,
  through `/proxy/dicom`; then they look at it;
- 4 click: the automatic segmentation of a case, then click after click in it, each after a while of thinking.

The server is `apps/slem` on a folder of phantoms in DICOM (four series each, as large as `--shape`), a
process of its own, and so is this program, on the same cores. A request has failed when its status is 400 or
more, but for the 404 by which `/train/` says that nothing runs.

    python benchmarks/serving.py --minutes 10

The soak: does the memory stay flat? The same readers at a low load, for long, on small studies and a model
that was never trained, with caches that are full before minute 10.

    python benchmarks/serving.py --minutes 30 --tiny --poll 10 --look 20 --think 15 --out soak.md
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import requests
import tiny
import tyro
from page import commit, write_page

from slem_app import phantom

PROJECT = Path(__file__).parents[1]
POLLED = ("/info/", "/train/?check_if_running=true", "/")
ROOT = "/proxy/dicom/wado"
EVERY = 5.0  # seconds between two looks at the server's memory
SETTLED = 10  # minutes after which it should rise no more
CACHES = 32  # MiB
SMALL_CACHES = ("--conf", "cache_mb", str(CACHES), "--conf", "memory_mb", str(CACHES))


@dataclass(frozen=True)
class Serving:
    """Measure and write the table."""

    minutes: float = 10.0
    """How long."""
    pollers: int = 10
    """Readers that poll, every second."""
    loaders: int = 6
    """Readers that load images."""
    clickers: int = 4
    """Readers that click."""
    look: float = 5.0
    """Seconds for which a reader looks at a series that was loaded."""
    think: float = 3.0
    """Seconds between two clicks."""
    shape: tuple[int, int, int] = (160, 192, 96)
    """Voxels of a series."""
    studies: int = 6
    """Phantoms."""
    poll: float = 1.0
    """Seconds between two polls."""
    tiny: bool = False
    """Small studies, an untrained model, caches of `CACHES` MiB each."""
    out: Path = PROJECT / "benchmarks" / "results" / "serving.md"
    """Where the table goes."""

    def run(self) -> None:
        """Start the server, let all readers work, write what they saw."""
        shape, spacing = (tiny.SHAPE, tiny.SPACING) if self.tiny else (self.shape, (1.2, 1.2, 1.8))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for number in range(self.studies):
                made = phantom.make(seed=number + 1, shape=shape, spacing=spacing)
                phantom.write_dicom(made, folder / "studies", f"case{number + 1}")
            options = [*tiny.options(folder / "models"), *SMALL_CACHES] if self.tiny else []
            with (folder / "log").open("w") as log:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    port = free.getsockname()[1]
                server = subprocess.Popen(
                    [*command(folder / "studies", port), *options],
                    cwd=PROJECT,
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"PYTHONPATH": str(PROJECT)},
                )
                try:
                    seen = Seen(f"http://127.0.0.1:{port}", time.monotonic() + 60 * self.minutes)
                    wait(seen.url, server)
                    seen.end = time.monotonic() + 60 * self.minutes
                    self.work(seen, psutil.Process(server.pid), shape)
                finally:
                    server.terminate()
                    server.wait()
            traces = (folder / "log").read_text(errors="replace").count("Traceback")
        self.write(seen, traces, shape)

    def work(self, seen: Seen, server: psutil.Process, shape: tuple[int, int, int]) -> None:
        """All readers at once, until the time is over."""
        kinds = [partial(poll, every=self.poll)] * self.pollers
        kinds += [partial(load, look=self.look)] * self.loaders
        kinds += [partial(click, think=self.think, shape=shape)] * self.clickers
        threads = [
            threading.Thread(target=repeat, args=(kind, seen, number), daemon=True)
            for number, kind in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        while time.monotonic() < seen.end:
            seen.memory.append(server.memory_info().rss / 2**20)
            seen.load.append(os.getloadavg()[0])
            time.sleep(EVERY)
        for thread in threads:
            thread.join(120)

    def write(self, seen: Seen, traces: int, shape: tuple[int, int, int]) -> None:
        """The table."""
        rows = [row(name, times) for name, times in sorted(seen.times.items())]
        polls = sorted(
            time for name, times in seen.times.items() if name.startswith("poll") for time in times
        )
        third = max(1, len(seen.memory) // 3)
        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        load = f"load average {statistics.median(seen.load):.1f} (median), {max(seen.load):.1f} at most"
        memory = [
            statistics.median(part)
            for part in (
                seen.memory[:third],
                seen.memory[third : 2 * third] or seen.memory,
                seen.memory[-third:],
            )
        ]
        who = f"{self.pollers} polling, {self.loaders} loading images, {self.clickers} clicking"
        kinds = ": " + "; ".join(sorted(set(seen.errors))[:5]) if seen.errors else ""
        thirds, peak = ", ".join(f"{part:.0f}" for part in memory), max(seen.memory)
        words = (
            f" --tiny --poll {self.poll:g} --look {self.look:g} --think {self.think:g}" if self.tiny else ""
        )
        text = f"""# Twenty readers at once{", for long" if self.tiny else ""}

- command: `python benchmarks/serving.py --minutes {self.minutes:g}{words}`
- date: {datetime.datetime.now(tz=datetime.timezone.utc):%Y-%m-%d}, commit {commit()}
- machine: {machine}, shared with other work: {load}
- {who}, for {self.minutes:g} minutes
- {self.studies} phantoms of four series, {"x".join(map(str, shape))} voxels

How each is defined stands at the top of `benchmarks/serving.py`. Seconds as the client sees them.

| request | n | median | p95 | most |
|---|---|---|---|---|
{chr(10).join(rows)}

- errors: {len(seen.errors)}{kinds}; tracebacks in the server's log: {traces}
- status polls, all together: p95 {1000 * at(polls, 0.95):.0f} ms (wanted: at most 200 ms)
- resident memory of the server, median of each third of the time: {thirds} MiB; at most {peak:.0f} MiB
{flatness(seen.memory)}"""
        print(write_page(self.out, text))


@dataclass
class Seen:
    """What all readers saw."""

    url: str
    """The server."""
    end: float
    """When they stop."""
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Kind of request -> seconds."""
    errors: list[str] = field(default_factory=list)
    """What failed."""
    memory: list[float] = field(default_factory=list)
    """MiB of the server."""
    load: list[float] = field(default_factory=list)
    """Load averages of the machine."""

    def ask(
        self, web: requests.Session, what: str, method: str, path: str, **fields: object
    ) -> requests.Response | None:
        """A request, timed; None where it failed."""
        start = time.perf_counter()
        try:
            answer = web.request(method, self.url + path, timeout=300, **fields)
        except requests.RequestException as error:
            self.errors.append(f"{method} {what}: {type(error).__name__}")
            return None
        self.times[what].append(time.perf_counter() - start)
        if answer.status_code >= 400 and not (answer.status_code == 404 and path.startswith("/train/")):
            self.errors.append(f"{method} {what}: {answer.status_code} {answer.text[:120]}")
            return None
        return answer


def flatness(memory: Sequence[float]) -> str:
    """By how much the memory rises from minute 10 on, as text; '' for a shorter measurement.

    Args:
        memory: MiB, every `EVERY` seconds.
    """
    each = int(60 / EVERY)
    minutes = [statistics.median(memory[at : at + each]) for at in range(0, len(memory) - each + 1, each)]
    if len(minutes) <= SETTLED:
        return ""
    later = minutes[SETTLED:]
    rise = 100 * (max(later) / later[0] - 1)
    told = ", ".join(f"{number + 1}: {minutes[number]:.0f}" for number in range(0, len(minutes), 2))
    return (
        f"- median of minute N, MiB: {told}\n"
        f"- over minute {SETTLED}: the most from there to the end {rise:+.1f} % (wanted: at most 5 %), "
        f"the last minute {100 * (later[-1] / later[0] - 1):+.1f} %\n"
    )


def repeat(kind, seen: Seen, number: int) -> None:
    """One reader."""
    chance = random.Random(number)
    time.sleep(chance.random() * 2)
    while time.monotonic() < seen.end:
        kind(seen, chance)


def poll(seen: Seen, chance: random.Random, every: float) -> None:
    """Ask how things are, once."""
    with requests.Session() as web:
        for path in POLLED:
            seen.ask(web, f"poll {path.partition('?')[0]}", "GET", path)
            time.sleep(every)


def load(seen: Seen, chance: random.Random, look: float) -> None:
    """Load one series as a viewer does, and look at it."""
    with requests.Session() as web, ThreadPoolExecutor(4) as pool:
        studies = seen.ask(web, "load: studies", "GET", f"{ROOT}/studies?limit=100")
        if studies is None:
            return
        study = chance.choice(uids(studies, "0020000D"))
        series = seen.ask(web, "load: series", "GET", f"{ROOT}/studies/{study}/series?includefield=all")
        if series is None:
            return
        where = f"{ROOT}/studies/{study}/series/{chance.choice(uids(series, '0020000E'))}"
        metadata = seen.ask(web, "load: metadata", "GET", f"{where}/metadata")
        if metadata is not None:
            frames = [f"{where}/instances/{uid}/frames/1" for uid in uids(metadata, "00080018")]
            list(pool.map(lambda path: seen.ask(web, "load: frame", "GET", path), frames))
    time.sleep(look)


def click(seen: Seen, chance: random.Random, think: float, shape: tuple[int, int, int]) -> None:
    """Segment a case, then correct it by a few clicks."""
    reader, case, points = f"reader{chance.random()}", f"case{chance.randint(1, 6)}", []
    with requests.Session() as web:
        params = {"client_id": reader, "result_extension": ".nrrd", "result_dtype": "uint8"}
        seen.ask(
            web,
            "click: automatic",
            "POST",
            f"/infer/slem_brain?image={case}",
            data={"params": json.dumps(params)},
        )
        for _ in range(5):
            time.sleep(think)
            if time.monotonic() > seen.end:
                return
            points.append([chance.randint(n // 4, 3 * n // 4) for n in shape])
            fields = {
                **params,
                "label": "edema",
                "edema": points,
                "necrosis": [],
                "enhancing tumor": [],
                "background": [],
            }
            seen.ask(
                web,
                "click: click",
                "POST",
                f"/infer/slem_brain_clicks?image={case}",
                data={"params": json.dumps(fields)},
            )


def uids(answer: requests.Response, tag: str) -> list[str]:
    return [one[tag]["Value"][0] for one in answer.json()]


def command(studies: Path, port: int) -> list[str]:
    """The server, as `slem serve` starts it."""
    start = [
        sys.executable,
        "-m",
        "slem_app.serving",
        "--studies",
        str(studies),
        "--logs",
        str(studies.parent / "logs"),
    ]
    return [
        *start,
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]


def wait(url: str, server: subprocess.Popen) -> None:
    """Until the server answers."""
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit("the server did not start")
        with suppress(requests.ConnectionError):
            if requests.get(f"{url}/info/", timeout=60).ok:
                return
        time.sleep(0.5)


def at(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] if times else float("nan")


def row(name: str, times: list[float]) -> str:
    return f"| {name} | {len(times)} | {at(times, 0.5):.3f} | {at(times, 0.95):.3f} | {max(times):.3f} |"


if __name__ == "__main__":
    tyro.cli(Serving).run()
