"""Is a label that was acknowledged ever lost? The server is killed (SIGKILL) again and again while clients
save.

Each client submits labels of one case, one after the other, and notes those that the server acknowledged.
After a random moment the server is killed, started again on the same store, and asked for all versions: every
acknowledged one must be there, readable and whole, and nothing half written may be left. The last kill is
followed by a look as well.

Each server is a process of its own, forked from one that has imported the program and done nothing else
(`multiprocessing`, forkserver), so that a start takes a second. Its model was never trained.

    python benchmarks/kills.py --kills 100 --clients 3
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import multiprocessing
import os
import platform
import random
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import nibabel
import numpy as np
import requests
import tiny
import tyro
from page import commit, write_page
from serving import PROJECT, command

from slem_app import phantom

HEAD = phantom.make(seed=1, shape=tiny.SHAPE, spacing=tiny.SPACING)
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["slem_app.serving.__main__"])


@dataclass
class Seen:
    """What became of the labels."""

    acknowledged: dict[str, list[int]] = field(default_factory=dict)
    """Client -> numbers of its labels that the server said it has."""
    lost: int = 0
    """Of these, those that were not there afterwards."""
    spoilt: int = 0
    """Versions that could not be read, or that hold something else."""
    left: int = 0
    """Half-written files that a start has left."""
    torn: int = 0
    """Saves under way at a kill."""
    starts: list[float] = field(default_factory=list)
    """Seconds from a start to the first answer."""


@dataclass(frozen=True)
class Kills:
    """Kill, start again, look, and write the table."""

    kills: int = 100
    """How often."""
    clients: int = 3
    """Who save at once."""
    longest: float = 3.0
    """Seconds of saving before a kill, at most."""
    out: Path = PROJECT / "benchmarks" / "results" / "kills.md"
    """Where the table goes."""

    def run(self) -> None:
        """All kills."""
        chance, seen = random.Random(0), Seen({f"client{number}": [] for number in range(self.clients)})
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            phantom.write_nifti(HEAD, folder / "studies", "A", labels=False)
            for _ in range(self.kills):
                server, url = self.start(folder, seen)
                self.look(folder, url, seen)
                self.save_and_kill(server, url, chance.uniform(0.1, self.longest), seen)
            server, url = self.start(folder, seen)
            self.look(folder, url, seen)
            server.terminate()
            server.join()
        self.write(seen)

    def start(self, folder: Path, seen: Seen) -> tuple[BaseProcess, str]:
        """The server on the same store."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        begin = time.monotonic()
        words = command(folder / "studies", port)[3:]  # behind `python -m slem_app.serving`
        options = [*tiny.options(folder / "models"), "--conf", "score_load", "0"]
        server = FORKS.Process(target=serve, args=([*words, *options], folder / "log"))
        server.start()
        url = f"http://127.0.0.1:{port}"
        wait_for(url, server)
        seen.starts.append(time.monotonic() - begin)
        return server, url

    def save_and_kill(self, server: BaseProcess, url: str, seconds: float, seen: Seen) -> None:
        """Let the clients save for a while, then kill the server."""
        threads = [
            threading.Thread(target=save_until_it_dies, args=(url, name, done, seen))
            for name, done in seen.acknowledged.items()
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        server.kill()
        server.join()
        for thread in threads:
            thread.join()

    def look(self, folder: Path, url: str, seen: Seen) -> None:
        """Compare the store with what was acknowledged."""
        there: dict[str, set[int]] = {name: set() for name in seen.acknowledged}
        for one in requests.get(f"{url}/slem/labels", timeout=300).json():
            path = folder / f"studies/.slem/labels/A/{one['tag']}/{one['version']:06}/label.nii.gz"
            name, number = told(path)
            if name in there:
                there[name].add(number)
            else:
                seen.spoilt += 1
        for name, numbers in seen.acknowledged.items():
            seen.lost += len(set(numbers) - there[name])
            seen.acknowledged[name] = [number for number in numbers if number in there[name]]
        store = folder / "studies/.slem"
        seen.left += len([*store.rglob(".new-*"), *store.rglob(".*.part")])

    def write(self, seen: Seen) -> None:
        """The table."""
        total = sum(len(numbers) for numbers in seen.acknowledged.values()) + seen.lost
        starts = sorted(seen.starts)
        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        start = f"{starts[len(starts) // 2]:.1f}, {starts[-1]:.1f}"
        text = f"""# Killed while saving

- command: `python benchmarks/kills.py --kills {self.kills} --clients {self.clients}`
- date: {datetime.datetime.now(tz=datetime.timezone.utc):%Y-%m-%d}, commit {commit()}
- machine: {machine}, load average {os.getloadavg()[0]:.1f} at the end

What is done stands at the top of `benchmarks/kills.py`.

| | |
|---|---|
| kills (SIGKILL) | {self.kills} |
| clients that saved at once | {self.clients} |
| labels that were acknowledged | {total} |
| of these lost | **{seen.lost}** |
| versions that are spoilt or half written | **{seen.spoilt}** |
| half-written files left after a start | **{seen.left}** |
| saves under way at a kill | {seen.torn} |
| seconds from a start to the first answer, median and most | {start} |
"""
        print(write_page(self.out, text))


def serve(arguments: list[str], log: Path) -> None:
    """The server, in a process that has imported it."""
    from slem_app.serving.__main__ import main

    with log.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.chdir(PROJECT)
    main(arguments)


def wait_for(url: str, server: BaseProcess) -> None:
    """Until the server answers."""
    for _ in range(1200):
        if not server.is_alive():
            raise SystemExit("the server did not start")
        with suppress(requests.RequestException):
            if requests.get(f"{url}/healthz", timeout=60).ok:
                return
        time.sleep(0.1)
    raise SystemExit("the server does not answer")


def save_until_it_dies(url: str, name: str, done: list[int], seen: Seen) -> None:
    """Submit labels that say whose they are, until the server answers no more."""
    number = max(done, default=0) + 1000 - max(done, default=0) % 1000  # never one that may have been saved
    while True:
        number += 1
        file = gzip.compress(nibabel.Nifti1Image(made(name, number), HEAD.grid.affine).to_bytes(), 1)
        try:
            answer = requests.put(
                f"{url}/datastore/label?image=A",
                data={"params": f'{{"client_id": "{name}"}}'},
                files={"label": ("label.nii.gz", file)},
                timeout=60,
            )
        except requests.RequestException:
            seen.torn += 1
            return
        if answer.status_code != 200:
            raise SystemExit(f"a save failed: {answer.status_code} {answer.text[:300]}")
        done.append(number)


def made(name: str, number: int) -> np.ndarray:
    """(I, J, K) noise of the values 0 to 3 that belongs to a client and a number."""
    seed = int(hashlib.sha256(f"{name} {number}".encode()).hexdigest()[:8], 16)
    label = np.random.default_rng(seed).integers(0, 4, HEAD.grid.shape, dtype=np.uint8)
    digits = [number // 4**place % 4 for place in range(12)]
    label[0, 0, :13] = [*digits, int(name.removeprefix("client")) % 4]
    return label


def told(path: Path) -> tuple[str, int]:
    """Whose label a file holds, and its number; ('', 0) where that is not the whole truth."""
    try:
        label = np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError):
        return "", 0
    number = sum(int(digit) * 4**place for place, digit in enumerate(label[0, 0, :12]))
    name = f"client{int(label[0, 0, 12])}"
    return (name, number) if np.array_equal(label, made(name, number)) else ("", 0)


if __name__ == "__main__":
    tyro.cli(Kills).run()
