"""How well brain masks fit: on heads made from label maps that no mask network of ours was trained on.

    python benchmarks/brain_mask.py --maps FOLDER --heads 3 --networks pretrained/slem_brainmask [MORE ...]

Every head is made in four sequences. Dice to the brain of the label map, and seconds of one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from slem_app.phantom.heads import HeadSettings, label_maps, make_head, read_map
from slem_app.types import Grid
from slem_app.volumes.brainmask.find import brain_probability, one_piece
from slem_app.volumes.brainmask.weights import read_card
from slem_app.volumes.geometry import resample
from slem_app.volumes.levels import Volume

HELD_OUT = 3
SETTINGS = HeadSettings(spacing=1.5, field=(195.0, 240.0, 225.0), shift=0.0, turn=0.0)


def dice(mine: np.ndarray, right: np.ndarray) -> float:
    return float(2 * np.count_nonzero(mine & right) / (np.count_nonzero(mine) + np.count_nonzero(right)))


def measure(volume: Volume, brain: np.ndarray, grid: Grid, folder: Path) -> tuple[float, float]:
    """Dice inside the sequence's field of view, and seconds of the process."""
    begin = time.process_time()
    share, place = brain_probability(volume, "a made head", folder)
    mask = one_piece(share > 0.5)
    seconds = time.process_time() - begin
    found = resample(mask.astype(np.float32), place, grid, order=1) > 0.5
    seen = resample(np.ones(volume.array.shape, np.float32), volume.grid, grid, order=0) > 0
    return dice(found & seen, brain & seen), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--networks", type=Path, nargs="+", required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| head | sequence | network | Dice | seconds |\n|---|---|---|---|---|")
    kept: dict[str, list[float]] = {}
    for number, path in enumerate(label_maps(given.maps)[-HELD_OUT:][: given.heads]):
        head = make_head(read_map(path), (100, number), SETTINGS)
        for sequence, volume in head.images.items():
            for folder in given.networks:
                name = read_card(folder).name
                score, seconds = measure(volume, head.brain, head.grid, folder)
                kept.setdefault(name, []).append(score)
                print(f"| {head.name} | {sequence} | {name} | {score:.3f} | {seconds:.1f} |", flush=True)
    for name, scores in kept.items():
        print(f"{name}: mean {np.mean(scores):.3f}, sd {np.std(scores):.3f}, least {min(scores):.3f}")


if __name__ == "__main__":
    main()
