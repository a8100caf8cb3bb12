"""Corrections by number: sample `n` of seed `s` is always the same, so a resumed run sees what one run would.

A sample is a view of a case, what is shown in it, what is wanted, and a first prompt into an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from slem_app.errors import BadStudy
from slem_app.finetune.editing.cutouts import Cutout, cut_out
from slem_app.finetune.editing.distort import distort, region, smooth
from slem_app.finetune.editing.errors import Aim, aim_at
from slem_app.finetune.editing.sessions import Session, pointed_out
from slem_app.finetune.editing.settings import EditorSettings
from slem_app.finetune.editing.starts import StartCase, Starts
from slem_app.labels import LabelSet
from slem_app.predict.editing import Pointed
from slem_app.regions import PostProcess, decide

__all__ = ["EditingSample", "EditingSamples"]

STREAM = 9001
EARLIER = 3  # prompts that may lie in the view beforehand
SOFT = {"distorted": 0.6, "region": 0.6, "swapped": 0.3}
"""Share of samples, by kind, whose automatic result is like what is shown."""
BESIDE = 10  # voxels by which a view's middle may miss what it was drawn for


class EditingSample(NamedTuple):
    """One view; V voxels along each axis."""

    images: torch.Tensor
    """(M, V, V, V) float32, varied; zero where a sequence is missing."""
    present: torch.Tensor
    """(M,) bool."""
    logits: torch.Tensor
    """(R, V, V, V) float32 of the automatic result."""
    known: torch.Tensor
    """() bool; False: there is no automatic result."""
    shown: torch.Tensor
    """(V, V, V) uint8."""
    wanted: torch.Tensor
    """(V, V, V) uint8."""
    free: torch.Tensor
    """() bool: errors at which nobody points could not be known."""
    named: torch.Tensor
    """() bool: the labels' names may be told."""
    spacing: torch.Tensor
    """() float32, mm a voxel."""
    earlier: torch.Tensor
    """(EARLIER, 4) int64: voxel and value of earlier clicks; value -1: none."""
    newest: torch.Tensor
    """(V, V, V) bool: where the first prompt lies."""
    value: torch.Tensor
    """() int64: its label."""
    piece: torch.Tensor
    """(V, V, V) bool: the error at which it points."""
    number: torch.Tensor
    """() int64."""


class EditingSamples(Dataset):
    """`len` samples of some cases; each case is visited once per round, in an order shuffled by the seed.

    Raises:
        BadStudy: no case.
    """

    def __init__(
        self, starts: Starts, ids: Sequence[str], labels: LabelSet, spacing: float, settings: EditorSettings
    ) -> None:
        if not ids:
            raise BadStudy("there is no case to train the editor on")
        self.starts, self.ids, self.labels, self.spacing = starts, tuple(ids), labels, spacing
        self.settings = settings
        self.kinds = tuple(settings.kinds)

    def __len__(self) -> int:
        return self.settings.steps * self.settings.batch

    def case(self, number: int) -> str:
        """The case that sample `number` is of."""
        turn, place = divmod(number, len(self.ids))
        return self.ids[np.random.default_rng([self.settings.seed, turn]).permutation(len(self.ids))[place]]

    def __getitem__(self, number: int) -> EditingSample:
        rng = np.random.default_rng([self.settings.seed, STREAM, number])
        case = self.starts.load(self.case(number))
        while True:
            found = self._drawn(case, rng, number)
            if found is not None:
                return found

    def _drawn(self, case: StartCase, rng: np.random.Generator, number: int) -> EditingSample | None:
        """One try; None where it shows no error that is worth a click."""
        settings = self.settings
        if case.session is not None and settings.replayed and rng.random() < settings.replayed:
            return self._replayed(case, case.session, rng, number)
        kind = str(rng.choice(self.kinds, p=[settings.kinds[k] for k in self.kinds]))
        version = int(rng.integers(len(case.probabilities)))
        scale = float(np.exp(rng.uniform(*np.log(settings.scale))))
        middle = self._middle(case, version, kind, rng)
        view = cut_out(case, version, middle, settings.view, scale, rng, case.truth)
        if view is None:
            return None
        probabilities: np.ndarray | None = view.probabilities
        pair = self._pair(kind, view.images[case.present], view.probabilities, view.maps[0], rng)
        if pair is None:
            return None
        shown, wanted = pair
        named = bool(rng.random() >= settings.hidden)
        if not named and rng.random() < 0.3:  # any lesion
            shown, wanted, probabilities = (shown > 0).astype(np.uint8), (wanted > 0).astype(np.uint8), None
        aim = aim_at(shown, wanted, rng)
        if aim is None:
            return None
        known = kind != "empty" and probabilities is not None and rng.random() >= settings.unknown
        if known and rng.random() < SOFT.get(kind, 0.0):
            probabilities = _softened(shown, self.labels, rng)
        images, present = _varied(view.images, case.present, settings, rng)
        return self._sample(
            _Pair(shown, wanted, kind in ("swapped", "region"), named),
            (images, present),
            probabilities if known else None,
            scale,
            _earlier(shown, wanted, rng),
            (_prompt(aim, settings.painted, rng), aim.value, aim.piece),
            number,
        )

    def _replayed(
        self, case: StartCase, session: Session, rng: np.random.Generator, number: int
    ) -> EditingSample | None:
        """What a reader saw before one of their prompts, and that prompt; None where the view misses it."""
        settings, turn = self.settings, int(rng.choice(session.useful))
        prompt = session.prompts[turn]
        scale = float(np.exp(rng.uniform(*np.log(settings.scale))))
        middle = prompt.voxels[rng.integers(len(prompt.voxels))] + rng.integers(-BESIDE, BESIDE + 1, 3)
        view = cut_out(case, 0, middle, settings.view, scale, rng, case.truth, session.before(turn))
        if view is None:
            return None
        wanted, shown = view.maps
        newest = Pointed(view.place(prompt.voxels), prompt.value)
        piece = pointed_out(shown, wanted, newest)
        if not piece.any():
            return None
        place = np.zeros(piece.shape, dtype=bool)
        place[tuple(newest.voxels.T)] = True
        known, named = rng.random() >= settings.unknown, bool(rng.random() >= settings.hidden)
        return self._sample(
            _Pair(shown, wanted, False, named),
            _varied(view.images, case.present, settings, rng),
            view.probabilities if known else None,
            scale,
            _before(view, session.prompts[:turn]),
            (place, prompt.value, piece),
            number,
        )

    def _sample(
        self,
        pair: _Pair,
        seen: tuple[np.ndarray, np.ndarray],
        probabilities: np.ndarray | None,
        scale: float,
        earlier: np.ndarray,
        prompt: tuple[np.ndarray, int, np.ndarray],
        number: int,
    ) -> EditingSample:
        """All of it as tensors; `seen` are images and which are there, `prompt` place, value and error."""
        images, present = seen
        newest, value, piece = prompt
        return EditingSample(
            torch.from_numpy(images),
            torch.from_numpy(present),
            _logits(probabilities, len(self.labels.regions), self.settings.view),
            torch.tensor(probabilities is not None),
            torch.from_numpy(pair.shown),
            torch.from_numpy(pair.wanted),
            torch.tensor(pair.free),
            torch.tensor(pair.named),
            torch.tensor(scale * self.spacing, dtype=torch.float32),
            torch.from_numpy(earlier),
            torch.from_numpy(newest),
            torch.tensor(value),
            torch.from_numpy(piece),
            torch.tensor(number),
        )

    def _middle(self, case: StartCase, version: int, kind: str, rng: np.random.Generator) -> np.ndarray:
        source = case.inside if len(case.inside) and kind != "region" else case.around
        if kind == "automatic" and len(case.errors[version]):
            source = case.errors[version]
        if kind == "region" and len(case.inside) and rng.random() < 0.5:
            source = case.inside
        return source[rng.integers(len(source))] + rng.integers(-BESIDE, BESIDE + 1, 3)

    def _pair(
        self,
        kind: str,
        seen: np.ndarray,
        probabilities: np.ndarray,
        truth: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """What is shown and what is wanted."""
        automatic = decide(probabilities, self.labels, PostProcess(), 1.0)
        if kind == "automatic":
            return automatic, truth
        if kind == "distorted":
            return distort(truth, seen, rng), truth
        if kind == "empty":
            return np.zeros_like(truth), truth
        if kind == "swapped":
            which = rng.random()
            shown = truth if which < 0.5 else automatic if which < 0.8 else distort(truth, seen, rng)
            return shown.copy(), distort(truth, seen, rng)
        shown = truth.copy() if rng.random() < 0.7 else distort(truth, seen, rng)
        wanted = self._relabelled(shown, seen, rng)
        return None if wanted is None else (shown, wanted)

    def _relabelled(self, shown: np.ndarray, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """`shown` with another label in a piece of like intensity."""
        edge = shown.shape[0] // 4
        places = np.argwhere(np.asarray(seen.any(axis=0))[edge:-edge, edge:-edge, edge:-edge])
        if not len(places):
            return None
        seed = places[rng.integers(len(places))] + edge
        piece = region(seen, seed, rng.uniform(4, 18), rng.uniform(0.4, 1.5), rng)
        here = int(shown[tuple(seed)])
        if rng.random() < 0.8:
            piece &= shown == here
        if np.count_nonzero(piece) < 40:
            return None
        wanted = shown.copy()
        wanted[piece] = rng.choice([v for v in range(len(self.labels.labels) + 1) if v != here])
        return wanted


@dataclass(frozen=True, eq=False)
class _Pair:
    """What is shown and what is wanted, and what the network may know of it."""

    shown: np.ndarray
    """(V, V, V) uint8."""
    wanted: np.ndarray
    """(V, V, V) uint8."""
    free: bool
    """As `EditingSample.free`."""
    named: bool
    """As `EditingSample.named`."""


def _softened(shown: np.ndarray, labels: LabelSet, rng: np.random.Generator) -> np.ndarray:
    """(R, V, V, V) probabilities of a network that would show this."""
    masks = torch.from_numpy(labels.region_masks(shown).astype(np.float32))[None]
    soft = F.avg_pool3d(masks, 5, 1, 2)[0].numpy()
    odds = (soft - 0.5) * rng.uniform(6, 14) + smooth(rng, len(soft), shown.shape) * rng.uniform(0, 1.5)
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def _logits(probabilities: np.ndarray | None, regions: int, size: int) -> torch.Tensor:
    if probabilities is None:
        return torch.zeros(regions, size, size, size)
    known = np.clip(probabilities, 1e-4, 1 - 1e-4)
    return torch.from_numpy(np.log(known / (1 - known)).astype(np.float32))


def _varied(
    images: np.ndarray, present: np.ndarray, settings: EditorSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Images of another scanner, some sequences left out."""
    kept = present.copy()
    if rng.random() >= settings.keep_all:
        kept &= rng.random(len(present)) < 0.5
    if not kept.any():
        kept[rng.choice(np.flatnonzero(present))] = True
    fields = smooth(rng, len(images), images.shape[1:]) * rng.uniform(0, 0.25)
    varied = np.zeros_like(images)
    for slot in np.flatnonzero(kept):
        one = rng.uniform(0.75, 1.3) * images[slot] + rng.uniform(-0.3, 0.3) + fields[slot]
        if rng.random() < 0.3:
            one += rng.uniform(0, 0.25) * rng.standard_normal(one.shape, dtype=np.float32)
        varied[slot] = np.where(images[slot] != 0, one, 0)
    return varied, kept


def _earlier(shown: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(EARLIER, 4): clicks of before, where all is right and a border is near."""
    found = np.full((EARLIER, 4), -1, dtype=np.int64)
    if rng.random() >= 0.25:
        return found
    right = np.argwhere((shown == wanted) & (wanted > 0))
    for n in range(int(rng.integers(1, EARLIER + 1)) if len(right) else 0):
        voxel = right[rng.integers(len(right))]
        found[n] = (*voxel, wanted[tuple(voxel)])
    return found


def _before(view: Cutout, prompts: Sequence[Pointed]) -> np.ndarray:
    """(EARLIER, 4): the latest prompts of before that lie in a view, each by the middle one of its voxels."""
    found = np.full((EARLIER, 4), -1, dtype=np.int64)
    there = [(view.place(one.voxels[len(one.voxels) // 2][None]), one.value) for one in prompts]
    for n, (place, value) in enumerate([one for one in there if len(one[0])][-EARLIER:]):
        found[n] = (*place[0], value)
    return found


def _prompt(aim: Aim, painted: float, rng: np.random.Generator) -> np.ndarray:
    """(V, V, V) bool: a click, a filled outline in one plane, or a stroke."""
    newest = np.zeros(aim.piece.shape, dtype=bool)
    newest[aim.voxel] = True
    if rng.random() >= painted:
        return newest
    axis = int(rng.integers(3))
    plane = tuple(slice(v, v + 1) if a == axis else slice(None) for a, v in enumerate(aim.voxel))
    shape = np.zeros_like(newest)
    shape[plane] = aim.piece[plane]
    if rng.random() < 0.5:  # a stroke: only a strip of it
        other = (axis + 1 + int(rng.integers(2))) % 3
        strip = tuple(
            slice(max(0, v - 1), v + 2) if a == other else slice(None) for a, v in enumerate(aim.voxel)
        )
        inside = np.zeros_like(newest)
        inside[strip] = True
        shape &= inside
    return shape | newest
