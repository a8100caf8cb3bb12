"""Clicks, scribbles, a box and a mask, in world millimetres, so that they mean the same on every grid of a
case.

Invariants: everything is immutable, `Prompts` keeps the order in which its entries came, and where two
entries contradict each other in one voxel the later one holds. A prompt is made from voxel indices of the
image that the reader LOOKS AT, with that image's grid; whatever is wrong with it (outside, not whole, unknown
label) is refused there, so a `Prompts` is always usable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from slem_app.errors import BadPrompt
from slem_app.labels import LabelSet
from slem_app.prompts.checks import check_label, size_of, whole_index
from slem_app.prompts.scribble import Scribble
from slem_app.types import Grid, triple

__all__ = ["BACKGROUND", "Box", "Click", "Mask", "Prompts"]

BACKGROUND = ""
"""The label of a click or scribble that says: nothing is here."""


@dataclass(frozen=True)
class Click:
    """One point and what is there.

    Example:
        >>> Click.on(Grid((4, 4, 4), np.diag([-2.0, -2.0, 2.0, 1.0])), (1, 0, 3), "edema").world
        (-2.0, 0.0, 6.0)
    """

    label: str
    """Name of a label, or BACKGROUND."""
    world: tuple[float, float, float]
    """RAS mm."""
    reach: float = 0.0
    """How far the answer to it goes: -1 less, 0 as it comes, 1 more (`check_reach`)."""

    @property
    def plain(self) -> Click:
        """The same with the reach of every new click: by it, clicks are told apart."""
        return replace(self, reach=0.0) if self.reach else self

    @classmethod
    def on(
        cls, grid: Grid, index: Sequence[float], label: str, labels: LabelSet | None = None, what: str = ""
    ) -> Click:
        """A click on the displayed image.

        Args:
            grid: of the displayed image.
            index: its voxel, I, J, K.
            label: name, or BACKGROUND.
            labels: the model's, to check the name.
            what: how to name the click in an error; default: by its label.

        Raises:
            BadPrompt: not three whole numbers, outside the image, or an unknown label.
        """
        what = what or (f"the click of {label!r}" if label else "the background click")
        if labels is not None and label:
            check_label(label, labels, what)
        voxel = whole_index(index, what, grid)
        if any(not 0 <= v < n for v, n in zip(voxel, grid.shape)):
            raise BadPrompt(
                f"{what} at {list(voxel)} lies outside the image of {size_of(grid)} voxels (indices 0 to "
                f"{', '.join(str(n - 1) for n in grid.shape)}): "
                "place it again; does it belong to another image?"
            )
        return cls(label, triple(float(x) for x in grid.to_world(np.array(voxel))))

    def voxel(self, grid: Grid) -> tuple[int, int, int] | None:
        """The voxel of `grid` that holds the click, or None where the grid does not reach it."""
        index = np.floor(grid.to_index(np.array(self.world)) + 0.5).astype(int)
        return triple(int(v) for v in index) if (index >= 0).all() and (index < grid.shape).all() else None

    def voxels(self, grid: Grid) -> np.ndarray:
        """(1, 3) the same as an array, or (0, 3) where the grid does not reach it."""
        voxel = self.voxel(grid)
        return np.array([] if voxel is None else [voxel], dtype=int).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Box:
    """Where labels may be; a box of whole voxels of the displayed image, so it turns with an
    oblique image.
    """

    grid: Grid
    """Its voxels."""
    labels: tuple[str, ...] = ()
    """The labels that are kept inside; empty: every label."""

    @classmethod
    def on(
        cls, grid: Grid, first: Sequence[float], second: Sequence[float], labels: Sequence[str] = ()
    ) -> Box:
        """The box between two voxels of the displayed image, both included, in any order; what leaves the
        image is cut off.

        Raises:
            BadPrompt: not whole numbers, or wholly outside the image.
        """
        ends = np.sort(
            np.array(
                [
                    whole_index(first, "a corner of the box", grid),
                    whole_index(second, "a corner of the box", grid),
                ]
            ),
            axis=0,
        )
        low, high = np.maximum(ends[0], 0), np.minimum(ends[1], np.array(grid.shape) - 1)
        if (low > high).any():
            raise BadPrompt(
                f"the box {ends[0].tolist()} to {ends[1].tolist()} lies outside the image of "
                f"{size_of(grid)} "
                f"voxels: draw it again on this image"
            )
        return cls(grid.crop(tuple(low), tuple(high - low + 1)), tuple(labels))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and self.labels == other.labels and self.grid.same_as(other.grid, 1e-6)

    def __hash__(self) -> int:
        return hash((self.grid.shape, self.labels))

    def limits(self, label: str) -> bool:
        """True when `label` may not lie outside."""
        return bool(label) and (not self.labels or label in self.labels)

    def allows(self, entry: Click | Scribble) -> bool:
        """False where a prompt asks for a label in a place from which the box bars it."""
        return not self.limits(entry.label) or bool(self.holds(np.atleast_2d(np.array(entry.world))).all())

    def holds(self, world: np.ndarray) -> np.ndarray:
        """(...) bool for positions (..., 3) in RAS mm."""
        index = self.grid.to_index(world)
        inside = (index >= -0.5 - 1e-6) & (index <= np.array(self.grid.shape) - 0.5 + 1e-6)
        return np.asarray(inside.all(axis=-1))

    def inside(self, grid: Grid) -> np.ndarray:
        """(I, J, K) bool on `grid`: voxels whose centre lies in the box."""
        matrix = self.grid.inverse @ grid.affine  # index of grid -> index of the box
        result = np.ones(grid.shape, dtype=bool)
        for axis, size in enumerate(self.grid.shape):
            index = matrix[axis, 3]
            for along in range(3):
                if (
                    abs(matrix[axis, along]) * grid.shape[along] > 1e-6
                ):  # where the axes agree this stays one-dimensional
                    step = np.arange(grid.shape[along]) * matrix[axis, along]
                    index = index + step.reshape([-1 if a == along else 1 for a in range(3)])
            result &= (index >= -0.5 - 1e-6) & (index <= size - 0.5 + 1e-6)
        return result


@dataclass(frozen=True, eq=False)
class Mask:
    """An existing segmentation to start from."""

    array: np.ndarray
    """(I, J, K) uint8, the model's label values."""
    grid: Grid
    """Where it lies."""

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise BadPrompt(
                f"the segmentation has {self.array.shape} voxels, its grid {size_of(self.grid)}: send both "
                f"from one image"
            )


@dataclass(frozen=True)
class Prompts:
    """All that a reader has said about one image.

    Raises:
        BadPrompt: a click in a place from which the box bars its label.

    Example:
        >>> both = Prompts().with_click(Click("edema", (0, 0, 0))).with_click(Click(BACKGROUND, (9, 0, 0)))
        >>> len(both.clicks), both.without(both.clicks[0]).clicks[0].label
        (2, '')
    """

    entries: tuple[Click | Scribble, ...] = ()
    """In the order in which they came."""
    box: Box | None = None
    """Where labels may be; None: anywhere."""
    mask: Mask | None = None
    """The segmentation to start from; None: the automatic one."""

    def __post_init__(self) -> None:
        if self.box is None:
            return
        for entry in self.entries:
            if not self.box.allows(entry):
                kind = "click" if isinstance(entry, Click) else "scribble"
                raise BadPrompt(
                    f"a {kind} of {entry.label!r} lies outside the box that limits this label: "
                    f"enlarge the "
                    f"box or remove the {kind}"
                )

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in their order."""
        return tuple(e for e in self.entries if isinstance(e, Click))

    @property
    def scribbles(self) -> tuple[Scribble, ...]:
        """The scribbles in their order."""
        return tuple(e for e in self.entries if isinstance(e, Scribble))

    def with_click(self, click: Click) -> Prompts:
        """This and one more click."""
        return replace(self, entries=(*self.entries, click))

    def with_scribble(self, scribble: Scribble) -> Prompts:
        """This and one more scribble."""
        return replace(self, entries=(*self.entries, scribble))

    def with_box(self, box: Box | None) -> Prompts:
        """This with another box, or with none."""
        return replace(self, box=box)

    def with_mask(self, mask: Mask | None) -> Prompts:
        """This with another start."""
        return replace(self, mask=mask)

    def without(self, entry: Click | Scribble) -> Prompts:
        """This less the latest entry equal to `entry`.

        Raises:
            BadPrompt: there is none.
        """
        for n in reversed(range(len(self.entries))):
            if self.entries[n] == entry:
                return replace(self, entries=self.entries[:n] + self.entries[n + 1 :])
        raise BadPrompt(
            f"there is no such {type(entry).__name__.lower()} of {entry.label or 'background'!r} to remove"
        )

    def since(self, earlier: Prompts) -> tuple[Click | Scribble, ...] | None:
        """The entries that came on top of `earlier`; None if `earlier` has one that is gone, or another mask
        to start from.
        """
        left: Counter[Click | Scribble] = Counter(earlier.entries)
        more: list[Click | Scribble] = []
        for entry in self.entries:
            if left[entry] > 0:
                left[entry] -= 1
            else:
                more.append(entry)
        return None if self.mask is not earlier.mask or left.total() else tuple(more)

    def ordered_like(self, earlier: Prompts) -> Prompts:
        """The same entries, those that `earlier` knows (with whatever reach) first and in its order: clients
        send clicks by label, without their order.
        """
        mine: dict[Click | Scribble, list[Click | Scribble]] = {}
        for entry in reversed(self.entries):
            mine.setdefault(entry.plain, []).append(entry)
        first = [mine[entry.plain].pop() for entry in earlier.entries if mine.get(entry.plain)]
        return replace(self, entries=(*first, *(self.since(Prompts(tuple(first), mask=self.mask)) or ())))

    def other_reach(self, earlier: Prompts) -> tuple[Click | Scribble, ...]:
        """The entries that differ from those of `earlier` by their reach, where nothing else differs; empty
        where something does.
        """
        same = self.box == earlier.box and self.mask is earlier.mask
        both = tuple(zip(self.entries, earlier.entries, strict=False))
        if not same or len(self.entries) != len(earlier.entries) or any(a.plain != b.plain for a, b in both):
            return ()
        return tuple(a for a, b in both if a != b)

    def check(self, labels: LabelSet) -> None:
        """Refuse labels that the model does not have.

        Raises:
            BadPrompt: an unknown label.
        """
        for entry in self.entries:
            if entry.label:
                check_label(entry.label, labels, f"a {type(entry).__name__.lower()}")
        for name in self.box.labels if self.box else ():
            check_label(name, labels, "the box")
