"""What is known of a case before a prompt, and what is said to one: by an editor (`editor_answers`), or by a
rule where a model has none (`rule_answers`). `correct` makes changes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from slem_app.prompts import Click, Scribble
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.prepare import Prepared

__all__ = ["NEVER", "Answer", "Answers", "Automatic", "Detail"]

NEVER = -20.0
"""Logit of a place that cannot change."""


@dataclass(frozen=True, eq=False)
class Detail:
    """A case as the editor sees it."""

    images: np.ndarray
    """(M, I, J, K) float16, as `Prepared.images`."""
    present: np.ndarray
    """(M,) bool."""
    grid: Grid
    """At the editor's spacing."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.images.nbytes


@dataclass(frozen=True, eq=False)
class Automatic:
    """The automatic result's probabilities."""

    probabilities: np.ndarray
    """(R, I, J, K) float32."""
    grid: Grid
    """Theirs."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network says to a prompt."""

    logits: np.ndarray
    """(I, J, K) float32: does the prompt's label belong here?"""
    grid: Grid
    """Theirs."""

    def cropped(self, threshold: float) -> Answer | None:
        """The part that reaches a threshold, and one voxel around it; None where nothing does."""
        box = bounding_box(self.logits > threshold)
        if not self.logits[box].size:
            return None
        low = [max(0, s.start - 1) for s in box]
        size = [min(n, s.stop + 1) - a for s, a, n in zip(box, low, self.logits.shape, strict=True)]
        part = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
        return Answer(self.logits[part], self.grid.crop(tuple(low), tuple(size)))


class Answers(Protocol):
    """Who answers prompts."""

    across: bool
    """An answer may also change what shows another label than the one at the prompt: a background click takes
    a false lesion with its core.
    """

    def detail(self, prepared: Prepared) -> Detail:
        """A case as the answers are made from it; the same for every prompt."""

    def answer(
        self,
        array: np.ndarray,
        reference: Grid,
        detail: Detail,
        automatic: Automatic | None,
        entry: Click | Scribble,
        before: Sequence[Click | Scribble],
    ) -> Answer:
        """What is said to a prompt.

        Args:
            array: (I, J, K) uint8 on `reference`, what is shown.
            reference: the reader's grid.
            detail: the case.
            automatic: None where there is no automatic result.
            entry: the prompt; some of it lies on `reference`.
            before: earlier prompts.
        """
