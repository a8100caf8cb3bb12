"""How long after a click on Train does the training begin? From `POST /train/` to the first optimizer step,
on two cores, and what the time goes to.

    python -m benchmarks.training_start -o benchmarks/results

A real server (as `slem serve` starts it) with three labelled phantoms of full size and the bundled model. The
second and later rounds find their cases prepared. Beside it the part that a process pays which loads MONAI
Label before it trains, as the stock server does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import requests

from benchmarks.page import table, where, write_page
from slem_app import phantom
from slem_app.cli.serve import Serve, environment, wait_until_ready
from slem_app.formats import write_nifti
from slem_app.rounds.job import latest_round
from slem_app.rounds.lock import Lock
from slem_app.weights import BRAIN_LABELS

CASES = 3
REQUEST = {"device": "cpu", "max_epochs": 1, "epoch_steps": 50}
STAGES = {
    "process": "the process runs and looks at the cases",
    "begins": "the cases are prepared, training begins",
    "step": "first step done",
}
STOCK = "import monailabel.interfaces.utils.app, monailabel.tasks.train.basic_train"


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server on labelled phantoms; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    heads = {f"case{n}": phantom.make(seed=n) for n in range(1, CASES + 1)}
    for name, head in heads.items():
        phantom.write_nifti(head, folder / "studies", name)
        write_nifti(head.labels, head.grid, BRAIN_LABELS, folder / f"{name}.nii.gz")
    serve = Serve(
        studies=str(folder / "studies"),
        port=port,
        store=folder / "store",
        conf={"models": "slem_brain", "score_load": "0"},
    )
    with (
        (folder / "log.txt").open("w") as log,
        subprocess.Popen(
            serve.command(str(folder / "studies")), env=environment(), stdout=log, stderr=log
        ) as process,
    ):
        try:
            wait_until_ready(process, serve.url, log=folder / "log.txt")
            for name in heads:
                file = {"label": (f"{name}.nii.gz", (folder / f"{name}.nii.gz").read_bytes())}
                requests.put(
                    f"{serve.url}/datastore/label", params={"image": name}, files=file, timeout=60
                ).raise_for_status()
            yield serve.url
        finally:
            process.terminate()
            process.wait()


def one_round(url: str, root: Path) -> dict[str, tuple[float, float]]:
    """Seconds from the request to each of STAGES, by the clock and of processor time; the round is then
    stopped.
    """
    begin, seen = time.monotonic(), {}
    requests.post(f"{url}/train/slem_brain", json=REQUEST, timeout=60).raise_for_status()
    after = {"preparing": "process", "training": "begins"}
    order, process = latest_round(root), psutil.Process(Lock(root).holder())
    while "step" not in seen:
        if order.status().status != "RUNNING":
            raise SystemExit(f"the round has ended: {order.status().reason}")
        spent = process.cpu_times()
        now = (time.monotonic() - begin, spent.user + spent.system)
        if (stage := after.get(order.status().stage)) and stage not in seen:
            seen[stage] = now
        if any(len(path.read_text().splitlines()) > 1 for path in (root / "work").glob("*/losses.csv")):
            seen["step"] = now
        time.sleep(0.01)
    requests.delete(f"{url}/train/", timeout=60).raise_for_status()
    shutil.rmtree(root / "work")
    print({stage: told(pair) for stage, pair in seen.items()}, flush=True)
    return seen


def stock() -> tuple[float, float]:
    """The same for a new process that loads MONAI Label."""
    begin = time.monotonic()
    process = psutil.Popen(
        [sys.executable, "-c", STOCK], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    spent = process.cpu_times()
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            spent = process.cpu_times()
        time.sleep(0.02)
    return time.monotonic() - begin, spent.user + spent.system


def median(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Of both."""
    return statistics.median(one for one, _ in pairs), statistics.median(two for _, two in pairs)


def told(pair: tuple[float, float]) -> str:
    """By the clock (processor time)."""
    return f"{pair[0]:.1f} ({pair[1]:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, server(Path(place)) as url:
        found = [one_round(url, Path(place) / "store" / "training") for _ in range(options.rounds)]
    loading = stock()
    later = found[1:]
    rows = [
        (text, told(found[0][key]), told(median([one[key] for one in later]))) for key, text in STAGES.items()
    ]
    rows.append(
        (
            (
                "beside it: a process that only loads MONAI Label, as the stock server's training does "
                "before it builds its app"
            ),
            "",
            told(loading),
        )
    )
    text = [
        "# From a click on Train to the first step",
        "",
        (
            f"Seconds after `POST /train/slem_brain`; {CASES} labelled phantoms of 240x240x155 voxels in "
            f"four sequences, `slem_brain`; a step is one patch pair."
        ),
        f"First round, and the median of {len(later)} later ones, which find their cases prepared.",
        (
            f"{where()}; niceness {os.getpriority(os.PRIO_PROCESS, 0)}, load average at the end "
            f"{os.getloadavg()[0]:.1f};"
        ),
        f"`python -m benchmarks.training_start --rounds {options.rounds}`.",
        "",
        (
            "Seconds by the clock, which depend on what else the machine does, and in brackets processor "
            "time, which on two idle cores is the most that it takes."
        ),
        "",
        *table(("", "first round", "later"), rows),
        "",
    ]
    print(write_page(options.out / "training_start.md", "\n".join(text)))


if __name__ == "__main__":
    main()
