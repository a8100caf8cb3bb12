"""Memory of a training with 16 and with 160 cases in the cache: it should not grow with their number.

    python benchmarks/memory.py

The cases are copies of one phantom, as large as a prepared brain. Each training is a process of its own; what
is shown is its largest memory, and what of it belongs to no file: mapped cases are the system's file cache,
which it gives back when it is needed elsewhere.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
import tyro
from page import commit, write_page

from slem_app.finetune.loop import train
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import SegmenterConfig, build
from slem_app.phantom import make
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import Preparation, Volume, prepare
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES

RESULT = Path(__file__).parent / "results" / "memory.md"
NETWORK = SegmenterConfig(
    channels=(8, 16), stem_channels=8, blocks=(1, 1), context_levels=(1,), deep_supervision=0
)


@dataclass(frozen=True)
class Memory:
    """Largest memory of a training by number of cases."""

    cases: tuple[int, ...] = (16, 160)
    """Numbers of cases to compare."""
    steps: int = 80
    """Steps of each training; batch 2, so that 80 visit each of 160 cases once."""
    patch: int = 32
    """Voxels of a patch along each axis."""
    only: Path | None = None
    """Used by the benchmark itself: train on this cache and print the figures."""

    def run(self) -> None:
        """Make the caches, train, write the table."""
        if self.only is not None:
            print(*self.train(self.only))
            return
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for count in self.cases:
                cache = Path(folder) / str(count)
                size = fill(cache, count)
                arguments = [
                    sys.executable,
                    __file__,
                    "--only",
                    str(cache),
                    "--steps",
                    str(self.steps),
                    "--patch",
                    str(self.patch),
                ]
                done = subprocess.run(
                    arguments,
                    capture_output=True,
                    text=True,
                    check=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
                peak, own = map(float, done.stdout.split())
                rows.append(f"| {count} | {size:.0f} | {peak:.0f} | {own:.0f} |")
                print(rows[-1], flush=True)
                shutil.rmtree(cache)
        self.write(rows)

    def train(self, folder: Path) -> tuple[float, float]:
        """Peak resident memory and memory of no file at the end, MB."""
        torch.set_num_threads(1)
        cache = CaseCache(folder)
        settings = FinetuneSettings(steps=self.steps, batch=2, patch=(self.patch,) * 3, save_every=self.steps)
        with tempfile.TemporaryDirectory() as run:
            train(build(NETWORK), cache, cache.ids(), settings, Path(run), progress=False)
        own = next(
            int(line.split()[1])
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("RssAnon")
        )
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, own / 1024

    def write(self, rows: list[str]) -> None:
        lines = [
            "# Memory of a training by number of cases",
            "",
            f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`; {date.today()}, "
            f"commit {commit()}, {platform.machine()}, "
            f"torch {torch.__version__}, one thread.",
            (
                f"{self.steps} steps of 2 patches of {self.patch}^3 voxels, no loader processes; every case "
                f"is a file of its own."
            ),
            "",
            "| cases | cache on disk (MB) | largest resident memory (MB) | of no file, at the end (MB) |",
            "|---|---|---|---|",
            *rows,
        ]
        RESULT.parent.mkdir(exist_ok=True)
        write_page(RESULT, "\n".join(lines))


def fill(folder: Path, count: int) -> float:
    """Write `count` copies of a prepared phantom; MB on disk."""
    phantom = make(1, (80, 96, 72), (2.0, 2.0, 2.0))
    prepared = prepare(
        {n: Volume(i, phantom.grids[n]) for n, i in phantom.images.items()}, BRAIN_SEQUENCES, Preparation()
    )
    masks = BRAIN_LABELS.region_masks(phantom.labels)
    cache = CaseCache(folder)
    cache.add(
        "c000",
        prepared,
        np.stack([resample(m.astype(np.float32), phantom.grid, prepared.grid, 1) for m in masks]),
        "memory",
    )
    for n in range(1, count):
        shutil.copytree(folder / "c000", folder / f"c{n:03d}")
    return sum(path.stat().st_size for path in folder.rglob("*.npy")) / 2**20


if __name__ == "__main__":
    tyro.cli(Memory).run()
