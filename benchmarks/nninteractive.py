"""What are a case's other sequences worth to a client of nnInteractive, which sends one?

The unmodified client (`pip install nninteractive-client`) sends one sequence to a real server, once on a
folder that holds the whole case and once on a folder that holds that sequence alone. The server recognises
the volume in both, so geometry, model and clicks are treated alike. A simulated reader clicks into the middle
of the object, then twice into the middle of the largest error.

    python benchmarks/nninteractive.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import requests
from cases import SIX_APART
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession
from scipy import ndimage

from slem_app.evaluate.scores import bootstrap

LEARNT = SIX_APART
"""Of 24 labelled cases; the bundled model has learnt them."""
UNSEEN = ("brats_2013_pat0001_1", "brats_2013_pat0003_1", "brats_2013_pat0005_1")
"""Two sequences each; no version of the model has seen them."""
REGIONS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
ENDINGS = {"t1c": "t1ce", "t2f": "flair"}
CLICKS = 3
PATIENCE = 300.0  # seconds until the server must answer


@dataclass(frozen=True)
class Row:
    """One object on one sequence of one case."""

    case: str
    """Case id."""
    sequence: str
    """The one that the client sends."""
    region: str
    """What is segmented."""
    alone: tuple[float, ...]
    """Dice after 1, 2 ... clicks, from that sequence."""
    siblings: tuple[float, ...]
    """The same from all sequences of the case."""


@contextmanager
def server(studies: Path, threads: int) -> Iterator[str]:
    """A server on a folder; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conf = {"models": "slem_brain,slem_brain_clicks", "score_load": "0", "threads": str(threads)}
    words = [word for key, value in conf.items() for word in ("--conf", key, value)]
    with tempfile.TemporaryDirectory() as logs:
        command = [sys.executable, "-m", "slem_app.serving", "--studies", str(studies), "--logs", logs]
        options = ["--host", "127.0.0.1", "--port", str(port), *words]
        environment = os.environ | {"MONAI_LABEL_SESSION_PATH": f"{logs}/sessions"}
        process = subprocess.Popen(
            [*command, *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
            while not answers(url):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the server on {studies} did not start")
                time.sleep(1.0)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def answers(url: str) -> bool:
    """Whether the server is ready."""
    try:
        return requests.get(f"{url}/info/", timeout=30).ok
    except requests.ConnectionError:
        return False


def segmented(url: str, image: np.ndarray, region: str, truth: np.ndarray) -> tuple[float, ...]:
    """Dice after each click of a reader who knows the truth; all arrays [K, J, I]."""
    found, target = [], np.zeros(image.shape, dtype=np.uint8)
    with nnInteractiveRemoteInferenceSession(f"{url}/nninteractive/{region}", read_timeout=300.0) as client:
        client.set_image(image[None])
        client.set_target_buffer(target)
        for _ in range(CLICKS):
            place = deepest((target > 0) != truth)
            if place is not None:
                client.add_point_interaction(place, bool(truth[tuple(place)]))
            found.append(dice(target > 0, truth))
    return tuple(found)


def deepest(error: np.ndarray) -> list[int] | None:
    """The middle of the largest piece; None where nothing is wrong."""
    pieces, count = ndimage.label(error)
    if count == 0:
        return None
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    box = ndimage.find_objects(largest.astype(np.uint8))[0]
    depth = ndimage.distance_transform_edt(np.pad(largest[box], 1))
    where = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return [int(at) - 1 + part.start for at, part in zip(where, box, strict=True)]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """1 where both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 1.0 if total == 0 else float(2 * np.count_nonzero(one & other) / total)


def volume(folder: Path, ending: str) -> np.ndarray:
    """[K, J, I], as a client that reads by ITK has it."""
    file = next(folder.glob(f"*_{ending}.nii.gz"))
    return np.ascontiguousarray(np.asarray(nibabel.load(file).dataobj).T)


def measure(folders: Sequence[Path], threads: int, work: Path) -> list[Row]:
    """All rows of some cases."""
    scores: dict[tuple[str, str, str, str], tuple[float, ...]] = {}
    for sequence, ending in ENDINGS.items():
        for kind in ("alone", "siblings"):
            studies = work / f"{kind}-{sequence}"
            for folder in folders:
                only = f"*_{ending}.nii.gz" if kind == "alone" else "*.nii.gz"
                (studies / folder.name).mkdir(parents=True, exist_ok=True)
                for file in folder.glob(only):
                    if not file.name.endswith("_seg.nii.gz"):
                        shutil.copyfile(file, studies / folder.name / file.name)
            with server(studies, threads) as url:
                for folder in folders:
                    image, labels = volume(folder, ending), volume(folder, "seg")
                    for region, values in REGIONS.items():
                        truth = np.isin(labels, values)
                        if truth.any():
                            found = segmented(url, image, region, truth)
                            scores[folder.name, sequence, region, kind] = found
                            print(folder.name, sequence, region, kind, *found, flush=True)
    return [
        Row(case, sequence, region, found, scores[case, sequence, region, "siblings"])
        for (case, sequence, region, kind), found in scores.items()
        if kind == "alone"
    ]


def summary(rows: Sequence[Row], title: str) -> list[str]:
    """A table of means, and the gain with its interval; then every case."""
    last = f"{CLICKS} clicks"
    names = ["client sends", "object", "cases"]
    names += [f"{when}: {what}" for when in ("1 click", last) for what in ("alone", "with siblings", "gain")]
    lines = [f"## {title}", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for sequence in (*ENDINGS, "both"):
        for region in (*REGIONS, "mean"):
            some = [
                row for row in rows if sequence in (row.sequence, "both") and region in (row.region, "mean")
            ]
            cells = [sequence, region, str(len({row.case for row in some}))]
            for click in (0, CLICKS - 1):
                cells += columns(some, click)
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Every case, Dice after 1 and {last}:", ""]
    lines += ["| case | client sends | object | alone | with siblings |", "|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (row.case, row.sequence)):
        cells = [", ".join(f"{found[click]:.3f}" for click in (0, -1)) for found in (row.alone, row.siblings)]
        lines.append(f"| {row.case} | {row.sequence} | {row.region} | {' | '.join(cells)} |")
    return [*lines, ""]


def columns(rows: Sequence[Row], click: int) -> list[str]:
    """Means alone and with siblings, and of the gain within a case, points, with its bootstrap interval."""
    gains: dict[str, list[float]] = {}
    for row in rows:
        gains.setdefault(row.case, []).append(100 * (row.siblings[click] - row.alone[click]))
    gain = bootstrap([float(np.mean(one)) for one in gains.values()])
    alone, siblings = ([getattr(row, kind)[click] for row in rows] for kind in ("alone", "siblings"))
    return [
        f"{np.mean(alone):.3f} (sd {np.std(alone):.3f})",
        f"{np.mean(siblings):.3f} (sd {np.std(siblings):.3f})",
        f"{gain['mean']:+.1f} (sd {gain['sd']:.1f}; {gain['low']:+.1f} to {gain['high']:+.1f})",
    ]


def commit() -> str:
    """Of the code that runs."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/nninteractive.md"))
    options = parser.parse_args()
    sets = {
        "Three patients that the model has not seen, with two sequences each": [
            options.data / "brats2013_two" / name for name in UNSEEN
        ],
        "Six cases that the model has learnt": [options.data / "brats" / name for name in LEARNT],
    }
    head = [
        "# nnInteractive's client: one sequence alone, or with its siblings",
        "",
        f"`python benchmarks/nninteractive.py --data ../shared/data`; {datetime.date.today()}, commit "
        f"{commit()}, {platform.machine()}, 2 cores AMD EPYC, 24 GiB, {options.threads} thread(s).",
        "",
        "The bundled slem_brain answers the unmodified client; the server recognises the volume in both "
        "folders. Dice on the image's own grid. A gain is the mean over cases of the difference in a "
        "case, in points of Dice, with a bootstrap 95 % interval over cases.",
        "",
    ]
    rows, lines = [], head
    for title, folders in sets.items():
        with tempfile.TemporaryDirectory() as work:
            found = measure(folders, options.threads, Path(work))
        rows += found
        lines += summary(found, title)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with options.out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["case", "sequence", "region", "clicks", "alone", "siblings"])
        for row in rows:
            for click, (alone, siblings) in enumerate(zip(row.alone, row.siblings, strict=True), 1):
                table.writerow([row.case, row.sequence, row.region, click, f"{alone:.4f}", f"{siblings:.4f}"])


if __name__ == "__main__":
    main()
