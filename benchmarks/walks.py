"""Which files of the package a request passes: a server whose functions are written down while it answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import psutil
from start import server_words, wait

__all__ = ["Walk", "walked"]

CASE = "demo-1"
PATIENCE = 1800.0  # seconds
TIMES = 2

# For every process of Python that finds it on its path: the files in which a function has run, a set that is
# emptied by SIGUSR1 and written to SLEM_WALK by SIGUSR2.
FOLLOWER = """
import json, os, signal, sys, threading
seen = {}
def follow(frame, event, argument):
    if event == "call" and frame.f_code.co_flags & 1:  # a function: not a module's or a class's body
        seen.setdefault(frame.f_code.co_filename, None)
def write(number=None, frame=None):
    with open(os.environ["SLEM_WALK"] + ".new", "w") as file:
        json.dump(list(seen), file)
    os.replace(os.environ["SLEM_WALK"] + ".new", os.environ["SLEM_WALK"])
if os.environ.get("SLEM_WALK"):
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.clear())
    signal.signal(signal.SIGUSR2, write)
    threading.setprofile(follow)
    sys.setprofile(follow)
"""


@dataclass(frozen=True)
class Walk:
    """One thing that was done."""

    files: tuple[str, ...]
    """Files of the package, in the order in which they were first entered."""


def walked(tree: Path) -> dict[str, Walk]:
    """Do four things with the sources of a tree, and say which files they passed.

    Raises:
        SystemExit: the server did not start, or did not answer a request.
    """
    with tempfile.TemporaryDirectory(prefix="slem-walk-") as name:
        place = Path(name)
        (place / "sitecustomize.py").write_text(FOLLOWER)
        slem(tree, place, "demo", str(place / "studies"), "--cases", "1", "--shape", "64", "72", "56")
        with served(tree, place) as (address, process):
            image = sent(f"{address}/datastore/image?image={CASE}")
            (place / "image.nii.gz").write_bytes(image)
            grid = nibabel.load(place / "image.nii.gz")
            label = np.zeros(grid.shape, np.uint8)
            label[20:30, 20:30, 20:30] = 1
            nibabel.save(nibabel.Nifti1Image(label, grid.affine), place / "label.nii.gz")
            things: dict[str, Callable[[], object]] = {
                "an image by its id": lambda: sent(f"{address}/datastore/image?image={CASE}"),
                "a click": lambda: clicked(address),
                "a saved label": lambda: saved(address, (place / "label.nii.gz").read_bytes()),
            }
            found = {
                thing: Walk(both(tree, [followed(process, place, do) for _ in range(TIMES)]))
                for thing, do in things.items()
            }
        return found | {"a case by `slem predict`": Walk(both(tree, [predicted(tree, place)]))}


def both(tree: Path, runs: list[list[str]]) -> tuple[str, ...]:
    """The package's files that were in every run."""
    inside = f"{tree / 'slem_app'}/"
    mine = [[name.removeprefix(inside) for name in run if name.startswith(inside)] for run in runs]
    return tuple(name for name in mine[-1] if all(name in run for run in mine))


def followed(process: psutil.Process, place: Path, do: Callable[[], object]) -> list[str]:
    """The files in which a function ran meanwhile."""
    told = place / "walk.json"
    told.unlink(missing_ok=True)
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)
    do()
    process.send_signal(signal.SIGUSR2)
    end = time.monotonic() + PATIENCE
    while not told.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return json.loads(told.read_text())


def predicted(tree: Path, place: Path) -> list[str]:
    """The files that `slem predict` passes, from its start to its end."""
    told = place / "walk.json"
    told.unlink(missing_ok=True)
    code = "import sitecustomize; from slem_app.cli import main; "
    words = ["predict", str(place / "studies" / CASE), "-o", str(place / "out"), "--device", "cpu"]
    code += f"main({words}); sitecustomize.write()"
    run([sys.executable, "-c", code], tree, place)
    return [name for name in json.loads(told.read_text()) if "<" not in name]


def slem(tree: Path, place: Path, *words: str) -> None:
    """A command, which is not followed."""
    run([sys.executable, "-m", "slem_app.cli", *words], tree, place, follow=False)


def run(words: list[str], tree: Path, place: Path, follow: bool = True) -> None:
    """A process that ends by itself."""
    done = subprocess.run(
        words, env=environment(tree, place, follow), cwd=place, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{words} failed: {done.stderr or done.stdout}")


@contextmanager
def served(tree: Path, place: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server, and the process that answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*server_words(tree, place / "studies", place, port), "--conf", "score_load", "0"]
    with (place / "serve.txt").open("w") as log:
        process = psutil.Popen(
            [sys.executable, "-m", *words],
            env=environment(tree, place),
            cwd=place,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait(process, f"http://127.0.0.1:{port}/info/", PATIENCE)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(60)


def clicked(address: str) -> bytes:
    """One click inside, on the result of the one before it."""
    form = {"params": json.dumps({"WT": [[24, 24, 24]], "result_extension": ".nrrd"})}
    query = urllib.parse.urlencode({"image": CASE, "output": "json"})
    return sent(f"{address}/infer/slem_brain?{query}", urllib.parse.urlencode(form).encode())


def saved(address: str, label: bytes) -> bytes:
    """A label, as a client saves it."""
    border = "slem-walk"
    body = (
        f'--{border}\r\nContent-Disposition: form-data; name="label"; filename="{CASE}.nii.gz"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    body += label + f"\r\n--{border}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={border}"}
    return sent(f"{address}/datastore/label?image={CASE}", body, "PUT", kind)


def sent(
    url: str, body: bytes | None = None, method: str | None = None, headers: dict[str, str] | None = None
) -> bytes:
    """The answer to a request."""
    asked = urllib.request.Request(url, body, headers or {}, method=method)
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        return answer.read()


def environment(tree: Path, place: Path, follow: bool = True) -> dict[str, str]:
    """Python finds the package of that tree, and the follower."""
    told = {"SLEM_WALK": str(place / "walk.json")} if follow else {}
    path = {"PYTHONPATH": os.pathsep.join([str(place), str(tree)]), "XDG_CACHE_HOME": str(place / "cache")}
    return {**os.environ, **path, **told, "MONAI_LABEL_TRACKING_ENABLED": "false"}
