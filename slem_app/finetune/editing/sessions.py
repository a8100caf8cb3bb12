"""What a reader corrected, as the editor's training sees it: the label map before each of their prompts, on
the grid of the case.

Only the start and the prompts are kept with a label. What was shown in between is made again by an editor, as
serving does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from slem_app.labels import LabelSet
from slem_app.predict.answers import Automatic, Detail
from slem_app.predict.correct import Corrector
from slem_app.predict.editing import Pointed
from slem_app.predict.grids import moved
from slem_app.prompts import Corrections, map_value

__all__ = ["Session", "pointed_out", "replayed"]

SHOWN_FILE, PROMPTS_FILE = "shown.npy", "prompts.npz"
MOST = 40  # prompts of one label that are made again, the first ones
BESIDE = 2  # voxels by which a prompt may miss the error that it is meant for


@dataclass(frozen=True, eq=False)
class Session:
    """A start and the prompts that followed."""

    shown: np.ndarray
    """(I, J, K) uint8, before the first prompt."""
    prompts: tuple[Pointed, ...]
    """In their order."""
    changed: tuple[np.ndarray, ...]
    """For each prompt (n,) flat indices of the voxels that took its value."""
    useful: tuple[int, ...]
    """Numbers of the prompts that point at an error, as the final label says."""

    def before(self, number: int) -> np.ndarray:
        """(I, J, K) uint8: what the reader saw when they placed prompt `number`."""
        shown = np.array(self.shown)
        for prompt, where in zip(self.prompts[:number], self.changed, strict=False):
            shown.reshape(-1)[where] = prompt.value
        return shown

    def save(self, folder: Path) -> None:
        """Write two files into a folder; raises what the disk raises."""
        np.save(folder / SHOWN_FILE, np.ascontiguousarray(self.shown))
        np.savez(
            folder / PROMPTS_FILE,
            allow_pickle=False,
            values=np.array([one.value for one in self.prompts], dtype=np.uint8),
            voxels=np.concatenate([one.voxels for one in self.prompts]).astype(np.int32),
            sizes=np.array([len(one.voxels) for one in self.prompts], dtype=np.int32),
            changed=np.concatenate(self.changed).astype(np.int64),
            changes=np.array([len(one) for one in self.changed], dtype=np.int32),
            useful=np.array(self.useful, dtype=np.int32),
        )

    @classmethod
    def load(cls, folder: Path) -> Session | None:
        """What `save` has written; None where it has not."""
        if not (folder / PROMPTS_FILE).is_file():
            return None
        with np.load(folder / PROMPTS_FILE, allow_pickle=False) as kept:
            voxels = np.split(kept["voxels"], np.cumsum(kept["sizes"])[:-1])
            changed = np.split(kept["changed"], np.cumsum(kept["changes"])[:-1])
            values, useful = kept["values"].tolist(), kept["useful"].tolist()
        prompts = tuple(Pointed(one, value) for one, value in zip(voxels, values, strict=True))
        return cls(np.load(folder / SHOWN_FILE, mmap_mode="r"), prompts, tuple(changed), tuple(useful))


def replayed(
    corrections: Corrections,
    corrector: Corrector,
    detail: Detail,
    automatic: Automatic,
    labels: LabelSet,
    truth: np.ndarray,
) -> Session | None:
    """A reader's corrections made again on the grid of a case.

    Args:
        corrections: start and prompts.
        corrector: answers the prompts.
        detail: the case, on the grid of the session.
        automatic: the model's result.
        labels: of the model.
        truth: (I, J, K) the final label on that grid.

    Returns:
        None where no prompt points at anything that the final label says otherwise.
    """
    grid = detail.grid
    shown = moved(corrections.start.array, corrections.start.grid, grid, order=0).astype(np.uint8)
    entries = [entry for entry in corrections.entries if len(entry.voxels(grid))][:MOST]
    now, prompts, changed, useful = shown.copy(), [], [], []
    for number, entry in enumerate(entries):
        prompt = Pointed(entry.voxels(grid), map_value(entry.label, labels))
        if pointed_out(now, truth, prompt).any():
            useful.append(number)
        before = now.copy()
        answer = corrector.answers.answer(now, grid, detail, automatic, entry, entries[:number])
        corrector.follow(now, grid, answer, entry, entries[:number], None)
        prompts.append(prompt)
        changed.append(np.flatnonzero(now != before))
    return Session(shown, tuple(prompts), tuple(changed), tuple(useful)) if useful else None


def pointed_out(shown: np.ndarray, wanted: np.ndarray, prompt: Pointed) -> np.ndarray:
    """(I, J, K) bool: the pieces of error, of the prompt's label, in which a prompt lies or which it touches.

    Args:
        shown: (I, J, K) label map.
        wanted: likewise.
        prompt: in its voxels.
    """
    wrong = (shown != wanted) & (wanted == prompt.value)
    found = np.zeros(wrong.shape, dtype=bool)
    if not _near(wrong, prompt.voxels).any():
        return found
    pieces, _ = ndimage.label(wrong)
    touched = np.setdiff1d(_near(pieces, prompt.voxels), [0])
    return np.isin(pieces, touched)


def _near(values: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """(n,) values at some voxels and around them."""
    steps = np.indices((2 * BESIDE + 1,) * 3).reshape(3, -1).T - BESIDE
    near = (voxels[:, None] + steps).reshape(-1, 3)
    near = near[((near >= 0) & (near < np.array(values.shape))).all(axis=1)]
    return values[tuple(near.T)]
