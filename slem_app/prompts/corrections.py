"""What a reader did to a segmentation before they saved it: what was shown at first, and the prompts in their
order. One small file keeps it beside the label that came of it; a learning round trains the editor on it.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slem_app.errors import BadPrompt, BadVolume
from slem_app.prompts.checks import check_reach
from slem_app.prompts.prompts import Click, Mask
from slem_app.prompts.scribble import Scribble
from slem_app.types import Grid

__all__ = ["CORRECTIONS_FILE", "Corrections"]

CORRECTIONS_FILE = "corrections.npz"


@dataclass(frozen=True, eq=False)
class Corrections:
    """The start and the prompts behind a label.

    Raises:
        BadPrompt: no prompt, or one that lies outside the image.

    Example:
        >>> grid = Grid((4, 4, 4), np.eye(4))
        >>> shown = Mask(np.zeros((4, 4, 4), np.uint8), grid)
        >>> Corrections(shown, (Click.on(grid, (1, 2, 3), "edema"),)).labels
        ('edema',)
    """

    start: Mask
    """What the reader saw before the first prompt, on the grid of the displayed image."""
    entries: tuple[Click | Scribble, ...]
    """In the order in which they came, at least one."""

    def __post_init__(self) -> None:
        if not self.entries:
            raise BadPrompt("corrections without a prompt say nothing: keep them from the first click on")
        for entry in self.entries:
            if not len(entry.voxels(self.start.grid)):
                raise BadPrompt(
                    f"a prompt of {entry.label or 'background'!r} lies outside the image {self.start.grid}: "
                    f"keep it with the segmentation that it corrects"
                )

    @property
    def labels(self) -> tuple[str, ...]:
        """Label of each prompt, BACKGROUND among them."""
        return tuple(entry.label for entry in self.entries)

    def save(self, path: Path) -> None:
        """Write them as one compressed file, some tens of KB; raises what the disk raises."""
        grid = self.start.grid
        voxels = [entry.voxels(grid) for entry in self.entries]
        within = [_within(entry) for entry in self.entries]
        np.savez_compressed(
            path,
            allow_pickle=False,
            start=self.start.array,
            affine=grid.affine,
            labels=np.array(self.labels),
            clicks=np.array([isinstance(entry, Click) for entry in self.entries]),
            sizes=np.array([len(one) for one in voxels], dtype=np.int32),
            voxels=np.concatenate(voxels).astype(np.int32),
            reaches=np.array([entry.reach for entry in self.entries]),
            outlined=np.array([len(one) for one in within], dtype=np.int32),
            within=grid.to_index(np.concatenate(within)).round().astype(np.int32),
        )

    @classmethod
    def read(cls, path: Path) -> Corrections:
        """From a file that `save` has written.

        Raises:
            BadVolume: it cannot be read, or holds something else.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                start, affine = kept["start"].astype(np.uint8), kept["affine"].astype(float)
                grid = Grid(start.shape, affine)
                each = np.split(kept["voxels"].astype(int), np.cumsum(kept["sizes"])[:-1])
                within = np.split(kept["within"].astype(int), np.cumsum(kept["outlined"])[:-1])
                reaches = kept.get("reaches", np.zeros(len(each))).tolist()  # older files have none
                told = zip(kept["labels"].tolist(), kept["clicks"].tolist(), each, within, strict=True)
                entries = (_entry(grid, *one) for one in told)
                reached = tuple(
                    replace(entry, reach=check_reach(reach, "a prompt"))
                    for entry, reach in zip(entries, reaches, strict=True)
                )
                return cls(Mask(start, grid), reached)
        except (OSError, EOFError, ValueError, IndexError, KeyError, zipfile.BadZipFile, BadPrompt) as error:
            raise BadVolume(
                f"the corrections in {path} cannot be read ({error}): the label beside them is not affected"
            ) from error


def _within(entry: Click | Scribble) -> np.ndarray:
    """(n, 3) RAS mm of what a lasso encloses; nothing of any other prompt."""
    if isinstance(entry, Click) or entry.within is None:
        return np.zeros((0, 3))
    return entry.grid.to_world(np.argwhere(entry.within))


def _entry(grid: Grid, label: str, click: bool, voxels: np.ndarray, within: np.ndarray) -> Click | Scribble:
    """A prompt from its voxels on the image."""
    if click:
        return Click.on(grid, voxels[0].tolist(), label)
    painted, inside = np.zeros(grid.shape, dtype=bool), np.zeros(grid.shape, dtype=bool)
    painted[tuple(voxels.T)] = True
    inside[tuple(within.T)] = True
    return Scribble.of(label, painted, grid, inside if len(within) else None)
