"""Trains what names sequences by their looks, and tells how often it is right on what it has not seen.

    python -m benchmarks.train_names OUT [--publish pretrained/slem_names]

Reads SLEM_DATA. Learns from 18 gliomas of `brats` (not `SIX_APART`) and from twelve label maps of
`head_labels`, whose brains are rendered in the four sequences and in five other contrasts; other contrasts
are made of the real images, too. Tested on the six apart, `brats2013_two`, `unlabelled`, `open_ms` and the
whole head of `raw_glioma`. The boxes are kept in OUT, so a second call begins at once. Two minutes of a core.
"""

from __future__ import annotations

import argparse
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.cases import SIX_APART
from slem_app.grouping import group
from slem_app.phantom.heads import HeadMap, label_maps, read_map, signals
from slem_app.phantom.heads.contrast import SEQUENCES
from slem_app.studies import open_source
from slem_app.types import triple
from slem_app.volumes.coarse import coarse
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.levels import Levels, Volume
from slem_app.volumes.looks import CLASSES, LooksCard, LooksNetwork, save_looks_network
from slem_app.volumes.looks.network import BLOCKS, BOX, box_around, in_blocks, looks_input
from slem_app.volumes.read import read_all

FOLDERS = ("raw_glioma", "open_ms", "brats2013_two", "unlabelled", "brats")
LEARNT_MAPS, HEADS = 12, 14
ROUNDS, MIXTURES = 6, 110  # times that each real image is varied; other contrasts made of real images
STEPS, RATE, SHRINK = 600, 1e-2, 3e-3  # of the descent; weight of the squared weights
ENOUGH = 3  # images that a block of a mean image is made of at least
OTHER = {  # mean signal on proton density, ADC, susceptibility, time of flight, diffusion
    "air": (0.02, 0.02, 0.02, 0.02, 0.02),
    "white": (0.78, 0.42, 0.72, 0.50, 0.62),
    "grey": (0.95, 0.48, 0.82, 0.55, 0.80),
    "deep grey": (0.88, 0.45, 0.62, 0.52, 0.70),
    "csf": (1.00, 1.60, 1.00, 0.25, 0.10),
    "blood": (0.50, 0.90, 0.15, 2.50, 0.30),
    "cord": (0.80, 0.45, 0.70, 0.50, 0.60),
    "muscle": (0.60, 0.70, 0.40, 0.50, 0.20),
    "fat": (1.00, 0.10, 0.50, 0.60, 0.10),
    "skin": (0.80, 0.30, 0.50, 0.50, 0.20),
    "bone": (0.15, 0.10, 0.10, 0.10, 0.05),
    "marrow": (0.60, 0.20, 0.30, 0.40, 0.10),
    "eye": (1.00, 1.60, 1.00, 0.30, 0.10),
    "mucosa": (0.90, 1.00, 0.50, 0.60, 0.40),
}
KINDS = ("pd", "adc", "swi", "tof", "dwi")
ALL_KINDS = (*SEQUENCES, *KINDS)


@dataclass(frozen=True, eq=False)
class Seen:
    """One image in the box around its brain."""

    folder: str
    """Where it comes from; `made`: from a label map."""
    case: str
    """Its case, or label map."""
    name: str
    """Sequence, or kind of another image."""
    image: np.ndarray
    """(I, J, K) float16."""
    mask: np.ndarray
    """(I, J, K) bool."""

    @property
    def label(self) -> int:
        """Index into `CLASSES`."""
        return CLASSES.index(self.name) if self.name in CLASSES else CLASSES.index("other")


def real(data: Path, folder: str) -> Iterator[Seen]:
    """Every image of a folder of studies."""
    source = open_source(data / folder)
    for id in source.ids():
        for name, volume in read_all(group(source.study(id)).sequences).items():
            seen = coarse(volume, Levels.of(volume.array, name), name, head=True)
            yield _boxed(folder, id, name, volume, seen.brain, seen.grid)


def made(head: HeadMap, number: int) -> Iterator[Seen]:
    """A label map's brain in each sequence and each other kind."""
    box = tuple(slice(max(0, one.start - 4), one.stop + 4) for one in bounding_box(head.brain))
    brain, codes = head.brain[box], head.codes[box]
    grid = head.grid.crop(triple(one.start for one in box), triple(brain.shape))
    for kind, name in enumerate((*SEQUENCES, *KINDS)):
        rng = np.random.default_rng([number, kind, 0])
        if name in SEQUENCES:
            means, deviations = signals(rng, head.tissues, name)
        else:
            factor = {tissue: np.exp(0.12 * rng.standard_normal()) for tissue in sorted(set(head.tissues))}
            column = KINDS.index(name)
            means = np.array([OTHER[one][column] * factor[one] for one in head.tissues], np.float32)
            deviations = (0.05 * np.exp(0.4 * rng.standard_normal(len(means)))).astype(np.float32)
        texture = rng.standard_normal(codes.shape, dtype=np.float32)
        image = np.maximum(means[codes] + deviations[codes] * texture, 0)
        error = int(rng.integers(-2, 3))
        change = ndimage.binary_dilation if error > 0 else ndimage.binary_erosion
        cut = change(brain, iterations=abs(error)) if error else brain
        yield _boxed("made", head.name, name, Volume(300 * image, grid), cut, grid)


def _boxed(folder: str, case: str, name: str, volume: Volume, brain: np.ndarray, grid) -> Seen:
    image, mask = box_around(volume.array, volume.grid, brain, grid)
    return Seen(folder, case, name, (image * (1000 / max(float(image.max()), 1e-6))).astype(np.float16), mask)


def everything(data: Path, out: Path) -> list[Seen]:
    """All boxes, made once."""
    kept = out / "boxes.pkl"
    if not kept.is_file():
        found = [one for folder in FOLDERS for one in real(data, folder)]
        for number, path in enumerate(label_maps(data / "head_labels")[:HEADS]):
            found += made(read_map(path), number)
        kept.write_bytes(pickle.dumps(found))
    return pickle.loads(kept.read_bytes())


def varied(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An input as another scanner, another mask and another field of view would have made it."""
    image = image.astype(np.float32)
    if rng.random() < 0.6:  # thick slices
        width = [0.0, 0.0, 0.0]
        width[int(rng.choice([0, 1, 2, 2, 2]))] = rng.uniform(0.4, 1.1)
        image = ndimage.gaussian_filter(image, width)
    if rng.random() < 0.2:
        mask = ndimage.binary_erosion(mask, iterations=int(rng.integers(1, 3)))
    if rng.random() < 0.2 and (missing := int(rng.integers(0, 14))):
        mask = mask.copy()
        mask[:, :, -missing:] = False
    level = max(float(np.median(image[mask])), 1e-3) if mask.any() else 1.0
    image = np.maximum(image, 0) / level * np.exp(rng.uniform(0, 1.5) * _field(rng))
    image = image ** np.exp(rng.normal(0, 0.18))
    image += rng.uniform(0, 0.08) * rng.standard_normal(BOX, dtype=np.float32)
    if rng.random() < 0.5:
        image, mask = image[::-1], mask[::-1]
    steps = tuple(rng.integers(-3, 4, 3))
    found = looks_input(np.roll(image, steps, (0, 1, 2)), np.roll(mask, steps, (0, 1, 2)))
    return np.zeros((2, *BOX), np.float32) if found is None else found


def _field(rng: np.random.Generator) -> np.ndarray:
    """A smooth receive field."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in BOX), indexing="ij", sparse=True)
    forms = (x, y, z, x * y, y * z, x * z, x * x, y * y, z * z)
    weights = rng.normal(0, 0.12, len(forms)).astype(np.float32)
    return sum(weight * form for weight, form in zip(weights, forms, strict=True))


class Samples:
    """Other contrasts, made of real cases.

    Args:
        real: images of the cases.
    """

    def __init__(self, real: Sequence[Seen]) -> None:
        self.cases: dict[str, dict[str, Seen]] = {}
        for one in real:
            self.cases.setdefault(one.case, {})[one.name] = one

    def mixture(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Another contrast made of a real case: a subtraction, like proton density, inverted, flat."""
        case = self.cases[list(self.cases)[rng.integers(len(self.cases))]]
        even = {}
        for name, one in case.items():
            image = np.maximum(one.image.astype(np.float32), 0)
            even[name] = image / max(float(np.median(image[one.mask])), 1e-3)
        mask = case["t1n"].mask & case["t2w"].mask
        kind = int(rng.integers(4))
        if kind == 0:
            return np.maximum(even["t1c"] - even["t1n"], 0) + 0.02, mask
        if kind == 1:
            return even["t2w"] ** rng.uniform(0.3, 0.6) * even["t1n"] ** rng.uniform(0.3, 0.7), mask
        if kind == 2:
            return np.maximum(2.2 - even["t1n"], 0) * even["t2w"] ** 0.3, mask
        flat = even["t2f"] ** rng.uniform(0.2, 0.5) / even["t2w"].clip(0.3) ** rng.uniform(0.2, 0.5)
        return ndimage.gaussian_filter(flat, 0.5), mask


def mean_images(network: LooksNetwork, real: Sequence[Seen], made: Sequence[Seen]) -> None:
    """What the images that are learnt from look like on average, kind by kind, into a network."""
    means, known = network.get_buffer("means"), network.get_buffer("known")
    for place, name in enumerate(ALL_KINDS):
        total, count = np.zeros(BLOCKS, np.float32), np.zeros(BLOCKS, np.float32)
        for one in real if name in SEQUENCES else made:
            if one.name == name:
                seen = looks_input(one.image.astype(np.float32), one.mask)
                blocks, there = in_blocks(seen[0], one.mask)
                total += np.where(there, blocks, 0)
                count += there
        means[place] = torch.from_numpy(total / np.maximum(count, 1))
        known[place] = torch.from_numpy((count >= ENOUGH).astype(np.float32))


def described(network: LooksNetwork, real: Sequence[Seen], made: Sequence[Seen]) -> tuple:
    """(N, F) numbers and (N,) classes of what is learnt from, varied."""
    samples, numbers, labels = Samples(real), [], []
    for sort, images, rounds in ((0, real, ROUNDS), (50, made, ROUNDS // 3)):
        for round in range(rounds):
            for place, one in enumerate(images):
                rng = np.random.default_rng([sort + round, place])
                numbers.append(network.numbers(varied(one.image, one.mask, rng)))
                labels.append(one.label)
    for place in range(MIXTURES):
        rng = np.random.default_rng([99, place])
        numbers.append(network.numbers(varied(*samples.mixture(rng), rng)))
        labels.append(CLASSES.index("other"))
    return torch.from_numpy(np.stack(numbers)), torch.tensor(labels)


def train(real: Sequence[Seen], made: Sequence[Seen]) -> LooksNetwork:
    """From nothing: mean images, then one linear layer. Made T1 after contrast are left out: without a tumour
    or vessels they look like those before it.
    """
    torch.manual_seed(0)
    network = LooksNetwork(len(ALL_KINDS))
    made = [one for one in made if one.name != "t1c"]
    mean_images(network, real, made)
    numbers, labels = described(network, real, made)
    network.get_buffer("middle").copy_(numbers.mean(dim=0))
    network.get_buffer("scale").copy_(numbers.std(dim=0) + 1e-6)
    weight = 1 / torch.bincount(labels).float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0)
    for _ in range(STEPS):
        loss = torch.nn.functional.cross_entropy(network(numbers), labels, weight=weight)
        loss = loss + SHRINK * network.head.weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def report(network: LooksNetwork, tested: Sequence[Seen]) -> None:
    """A table by folder: how many are right, and how many of those that are sure are wrong; as they are, and
    varied (each twice).
    """
    print("| images | number | right | at .90: named | of these wrong | at .97: named | of these wrong |")
    print(f"|{'---|' * 7}")
    wrong = []
    for folder in dict.fromkeys(one.folder for one in tested):
        mine = [one for one in tested if one.folder == folder]
        plain = [(one, network.shares(looks_input(one.image.astype(np.float32), one.mask))) for one in mine]
        other = [
            (one, network.shares(varied(one.image, one.mask, np.random.default_rng([7, turn]))))
            for one in mine
            for turn in (1, 2)
        ]
        for what, rows in ((folder, plain), (f"{folder}, varied", other)):
            cells = [sum(int(share.argmax() == one.label) for one, share in rows)]
            for least in (0.9, 0.97):
                sure = [(one, share) for one, share in rows if share.max() >= least]
                cells += [len(sure), sum(int(share.argmax() != one.label) for one, share in sure)]
            print(f"| {what} | {len(rows)} | {' | '.join(map(str, cells))} |", flush=True)
        wrong += [
            f"{one.folder}/{one.case} {one.name}: {CLASSES[share.argmax()]} {share.max():.2f}"
            for one, share in plain
            if share.argmax() != one.label
        ]
    print("\nWrong as they are: " + "; ".join(wrong))


def main() -> None:
    """Make the boxes, train, test, publish."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--publish", type=Path, help="folder for weights and card")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    found = everything(
        Path(os.environ.get("SLEM_DATA", Path(__file__).parents[2] / "shared/data")), chosen.out
    )
    learnt = [one for one in found if one.folder == "brats" and one.case not in SIX_APART]
    heads = list(dict.fromkeys(one.case for one in found if one.folder == "made"))
    drawn = [one for one in found if one.case in heads[:LEARNT_MAPS]]
    network = train(learnt, drawn)
    known = {id(one) for one in (*learnt, *drawn)}
    report(network, [one for one in found if id(one) not in known])
    if chosen.publish:
        print(replace(save_looks_network(chosen.publish, card_of(), network), data=""))


def card_of() -> LooksCard:
    """What is told of the weights; figures are written by hand."""
    return LooksCard(
        name="slem_names",
        version="1",
        description="Names a sequence by the brain's looks: T1 before or after contrast, T2, FLAIR, or "
        "another MR image of a head. Settles what names and headers leave open.",
        kinds=ALL_KINDS,
        settles=0.9,
        data="72 images of 18 glioma cases, 14 of BraTS 2018 and 4 of BraTS 2021; 12 whole heads as label "
        "maps (SynthSeg's training maps, Billot 2023), rendered in nine contrasts by "
        "benchmarks/train_names.py.",
        terms="BraTS 2018 and 2021: research use with citation (Menze 2015, Bakas 2017 and 2018, Baid 2021); "
        "no redistribution of the images. The label maps: Apache-2.0. The weights follow the first.",
        training="benchmarks/train_names.py, a minute of one core, seed 0.",
        figures={},
    )


if __name__ == "__main__":
    main()
