"""How long does a click wait where many ask at once? Thirty clients on one server, some click, most ask for
automatic segmentations one after the other.

The same load is put on one or several source trees in turn (`--trees before=DIR after=DIR`), again and again
in one run, so that what else the machine does meets all of them. Each clicking reader has a case of their
own; first clicks, until one is answered, which includes the automatic segmentation, are told apart.

    git worktree add /tmp/before COMMIT
    python benchmarks/click_queue.py --trees before=/tmp/before after=.
"""

from __future__ import annotations

import datetime
import itertools
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
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests
import tiny
import tyro
from page import commit, write_page
from serving import PROJECT, Seen, at, command, repeat, wait

from slem_app import phantom


@dataclass(frozen=True)
class ClickQueue:
    """Measure and write the table."""

    trees: tuple[str, ...] = ("after=.",)
    """NAME=FOLDER of each source tree."""
    minutes: float = 2.0
    """Of load for each tree and turn, at most 10."""
    rounds: int = 2
    """How often each tree has its turn."""
    clickers: int = 10
    """Readers that click."""
    askers: int = 20
    """Readers that ask for automatic segmentations."""
    others: int = 30
    """Cases that they ask about, one after the other, so that what is in memory does not answer them."""
    think: float = 3.0
    """Seconds between two clicks."""
    shape: tuple[int, int, int] = (160, 192, 96)
    """Voxels of a series."""
    tiny: bool = False
    """Small studies and an untrained model, so that it takes minutes."""
    out: Path = PROJECT / "benchmarks" / "results" / "click_queue.md"
    """Where the table goes."""

    def run(self) -> None:
        """All turns."""
        times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        errors: dict[str, list[str]] = defaultdict(list)
        load: list[float] = []
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for number in range(self.clickers + self.others):
                shape, spacing = self.size()
                made = phantom.make(seed=number + 1, shape=shape, spacing=spacing)
                phantom.write_nifti(made, folder / "studies", f"case{number}", labels=False)
            for turn in range(self.rounds):
                for name, tree in (one.split("=", 1) for one in self.trees):
                    seen = self.turn(folder, Path(tree).resolve(), turn)
                    for what, seconds in seen.times.items():
                        times[name][what] += seconds
                    errors[name] += seen.errors
                    load.append(os.getloadavg()[0])
        self.write(times, errors, load)

    def size(self) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """Voxels of a series, and their mm."""
        return (tiny.SHAPE, tiny.SPACING) if self.tiny else (self.shape, (1.2, 1.2, 1.8))

    def turn(self, folder: Path, tree: Path, number: int) -> Seen:
        """The load on one tree."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        start = command(folder / "studies", port)
        if not (tree / "slem_app/serving/__main__.py").is_file():  # an older one
            start = [sys.executable, "-m", "slem_app.serving.monai", "start_server", "--app", "apps/slem"]
            start += ["--host", "127.0.0.1", "--port", str(port), "--studies", str(folder / "studies")]
        conf = ["--conf", "store", str(folder / f"store-{tree.name}-{number}"), "--conf", "score_load", "0"]
        if self.tiny:
            conf += tiny.options(folder / "models")
        with (folder / "log").open("a") as log:
            env = os.environ | {"PYTHONPATH": str(tree)}
            server = subprocess.Popen([*start, *conf], cwd=tree, stdout=log, stderr=log, env=env)
            try:
                seen = Seen(f"http://127.0.0.1:{port}", time.monotonic())
                wait(seen.url, server)
                seen.end = time.monotonic() + 60 * min(self.minutes, 10.0)
                self.work(seen)
            finally:
                server.terminate()
                server.wait()
        return seen

    def work(self, seen: Seen) -> None:
        """All readers at once, until the time is over."""
        threads = [
            threading.Thread(target=click, args=(seen, number, self.think, self.size()[0]), daemon=True)
            for number in range(self.clickers)
        ]
        ask = partial(self.ask, itertools.count())
        threads += [
            threading.Thread(target=repeat, args=(ask, seen, number), daemon=True)
            for number in range(self.askers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60 * self.minutes + 300)

    def ask(self, numbers: Iterator[int], seen: Seen, chance: random.Random) -> None:
        """One automatic segmentation, of the next case."""
        params = json.dumps({"client_id": f"asker{chance.random()}", "result_extension": ".nrrd"})
        case = f"case{self.clickers + next(numbers) % self.others}"
        with requests.Session() as web:
            seen.ask(web, "automatic", "POST", f"/infer/slem_brain?image={case}", data={"params": params})

    def write(self, times: dict, errors: dict, load: list[float]) -> None:
        """The table, and how many times shorter clicks wait than in the first tree."""
        rows = [
            f"| {name} | {what} | {len(found[what])} | {at(found[what], 0.5):.2f} "
            f"| {at(found[what], 0.95):.2f} | {max(found[what]):.2f} |"
            for name, found in times.items()
            for what in ("click", "first click", "automatic")
            if found[what]
        ]
        names = list(times)
        ratio = at(times[names[0]]["click"], 0.95) / max(1e-9, at(times[names[-1]]["click"], 0.95))
        failed = {name: found for name, found in errors.items() if found}
        told = "; ".join(f"{name} {len(found)}: {sorted(set(found))[:2]}" for name, found in failed.items())
        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        how = f"--trees {' '.join(self.trees)} --minutes {self.minutes:g} --rounds {self.rounds}"
        how += " --tiny" if self.tiny else ""
        size = "x".join(map(str, self.size()[0]))
        mean_load = f"{statistics.median(load):.1f}"
        text = f"""# What a click waits under the load of thirty readers

- command: `python benchmarks/click_queue.py {how}`
- date: {datetime.datetime.now(tz=datetime.timezone.utc):%Y-%m-%d}, commit {commit()}
- machine: {machine}, shared with other work: load average {mean_load}
- {self.clickers} readers click, {self.askers} ask for automatic segmentations as fast as they get answers
- phantoms of four series, {size} voxels: {self.clickers} for those who click, {self.others} for the others

Seconds as the client sees them; the trees in turn, {self.rounds} times.

| tree | request | n | median | p95 | most |
|---|---|---|---|---|---|
{chr(10).join(rows)}

- p95 of a click: {names[0]} is {ratio:.1f} times {names[-1]}
- requests that failed: {told or "none"}
"""
        print(write_page(self.out, text))


def click(seen: Seen, number: int, think: float, shape: tuple[int, int, int]) -> None:
    """One reader: click after click in a case of their own, each sent with those before it, as viewers do."""
    chance, points, begun = random.Random(number), [], False
    params = {"client_id": f"clicker{number}", "result_extension": ".nrrd", "result_dtype": "uint8"}
    with requests.Session() as web:
        while time.monotonic() < seen.end:
            points = [*points, [chance.randint(n // 4, 3 * n // 4) for n in shape]]
            others = {"necrosis": [], "enhancing tumor": [], "background": []}
            fields = json.dumps({**params, "label": "edema", "edema": points, **others})
            what = "click" if begun else "first click"
            where = f"/infer/slem_brain_clicks?image=case{number}"
            begun = seen.ask(web, what, "POST", where, data={"params": fields}) is not None or begun
            time.sleep(think)


if __name__ == "__main__":
    tyro.cli(ClickQueue).run()
