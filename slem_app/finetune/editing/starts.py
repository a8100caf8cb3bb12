"""Cases as the editor's training reads them: images at the editor's spacing, the truth, and automatic results
of many kinds of badness (`disturb`). A training needs these files alone, and no reader of images.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from slem_app.errors import NotFound
from slem_app.finetune.editing.sessions import Session
from slem_app.labels import LabelSet
from slem_app.regions import PostProcess, decide
from slem_app.volumes.prepare import Prepared

__all__ = ["StartCase", "Starts"]

ANCHORS = 5000  # voxels of each kind that are remembered as middles of views


@dataclass(frozen=True, eq=False)
class StartCase:
    """One case, its large arrays memory-mapped."""

    id: str
    """Case name."""
    images: np.ndarray
    """(M, I, J, K) float16."""
    present: np.ndarray
    """(M,) bool."""
    truth: np.ndarray
    """(I, J, K) uint8 label values."""
    probabilities: np.ndarray
    """(V, R, I, J, K) uint8, 255 = 1: the automatic pass, then disturbed ones."""
    inside: np.ndarray
    """(n, 3) voxels that the truth labels."""
    around: np.ndarray
    """(n, 3) voxels of the organ."""
    errors: tuple[np.ndarray, ...]
    """For each of the V, (n, 3) voxels in which it errs; n may be 0."""
    session: Session | None
    """What a reader corrected in it; None: not known."""


class Starts:
    """A folder of such cases; a half-written one is never read."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def ids(self) -> tuple[str, ...]:
        """Names of the cases."""
        found = (path.parent.name for path in self.folder.glob("*/case.json"))
        return tuple(sorted(unquote(name) for name in found if not name.startswith(".")))

    def note(self) -> dict[str, Any]:
        """What `add` noted of the model: 'model', 'labels', 'sequences'."""
        first = next(iter(self.ids()), None)
        if first is None:
            raise NotFound(f"no case in {self.folder}: make some first")
        return json.loads((self._place(first) / "case.json").read_text())

    def has(self, case: str, key: str = "") -> bool:
        """Whether a case is there and was made from what `key` stands for; `add` notes it as 'key'."""
        try:
            note = json.loads((self._place(case) / "case.json").read_text())
        except (OSError, ValueError):  # not there, or spoilt by a power failure: to be made again
            return False
        return note.get("key", "") == key

    def keep(self, cases: Collection[str]) -> None:
        """Take away all cases but these."""
        for case in set(self.ids()) - set(cases):
            shutil.rmtree(self._place(case), ignore_errors=True)

    def add(
        self,
        case: str,
        images: Prepared,
        truth: np.ndarray,
        probabilities: np.ndarray,
        note: dict,
        labels: LabelSet,
        session: Session | None = None,
    ) -> None:
        """Write a case, in place of an older one.

        Args:
            case: its name.
            images: prepared at the editor's spacing.
            truth: (I, J, K) label values on that grid.
            probabilities: (V, R, I, J, K) uint8.
            note: for the record.
            labels: the model's.
            session: what a reader corrected in it.
        """
        rng = np.random.default_rng(0)
        part = self.folder / f".{self._place(case).name}.{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        np.save(part / "images.npy", images.images.astype(np.float16))
        np.save(part / "present.npy", images.present)
        np.save(part / "truth.npy", truth)
        np.save(part / "probabilities.npy", probabilities)
        wrong = [
            decide(p.astype(np.float32) / 255, labels, PostProcess(), 1.0) != truth for p in probabilities
        ]
        anchors = {f"error{v}": _some(mask, rng) for v, mask in enumerate(wrong)}
        here = (images.images[images.present] != 0).any(axis=0)
        anchors |= {"inside": _some(truth > 0, rng), "around": _some(here, rng)}
        np.savez(part / "anchors.npz", allow_pickle=False, **anchors)
        if session is not None:
            session.save(part)
        (part / "case.json").write_text(json.dumps(note))
        shutil.rmtree(self._place(case), ignore_errors=True)
        part.rename(self._place(case))

    def load(self, case: str) -> StartCase:
        """A case by its name.

        Raises:
            NotFound: it is not there.
        """
        try:
            made = (self._place(case) / "case.json").stat().st_mtime_ns
        except OSError as error:
            raise NotFound(f"no case {case!r} in {self.folder}: make it first") from error
        return _load(case, self._place(case), made)

    def _place(self, case: str) -> Path:
        """The folder of a case, whatever its name holds."""
        return self.folder / quote(case, safe=" ()+,=@")


@lru_cache(maxsize=256)
def _load(case: str, folder: Path, made: int) -> StartCase:
    """The case in a folder; `made` tells it from one that lay there before."""
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "truth", "probabilities")]
    with np.load(folder / "anchors.npz") as anchors:
        errors = tuple(anchors[f"error{v}"] for v in range(len(arrays[2])))
        inside, around = anchors["inside"], anchors["around"]
    present = np.load(folder / "present.npy")
    session = Session.load(folder)
    return StartCase(case, arrays[0], present, arrays[1], arrays[2], inside, around, errors, session)


def _some(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, 3) up to ANCHORS voxels of a mask."""
    flat = np.flatnonzero(mask)
    chosen = flat if len(flat) <= ANCHORS else rng.choice(flat, ANCHORS, replace=False)
    return np.stack(np.unravel_index(chosen, mask.shape), axis=1).astype(np.int16)
