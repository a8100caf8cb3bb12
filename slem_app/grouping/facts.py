"""What is known of one series before any rule is asked: the words its texts say, its header, its plane and
its voxel size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from slem_app.errors import BadVolume, NotFound
from slem_app.grouping.rules import HeaderTest, Rules
from slem_app.studies import Series
from slem_app.types import Grid

__all__ = ["Facts", "look_at", "normalised", "shortened"]

CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")  # InPhase, but not regtoFLAIR
PUNCTUATION = re.compile(r"[_\-.,:;()\[\]{}\s]+")
# AXT1POST, sT1W, t2f
# BRAINSTRYKERT1SAG, Et1setra: in the midst of a long word only before what may follow a weighting
INSIDE = re.compile(r"(?<=[a-z])(t[12])(?=(?:w|ax|sag|cor|tra|se|mpr)[a-z0-9]*)")
GLUED = re.compile(r"(?<![a-z0-9])(s|wip|axial|ax|tra|sag|cor|[23]d|gd|ce|post|pre)?(t[12])(?![0-9])")
PLANES = ("sagittal", "coronal", "axial")  # by the world axis that runs across the slices


def normalised(text: str, rules: Rules) -> str:
    """A text as the rules read it, see the head of rules.yaml.

    Example:
        >>> from slem_app.grouping import load_rules
        >>> normalised("sT1W_3D-TFE+C", load_rules())
        's t1 w 3d tfe +c'
    """
    text = CAMEL.sub(" ", text).lower()
    for phrase in rules.ignore:
        text = phrase.sub(" ", text)
    text = PUNCTUATION.sub(" ", text.replace("+", " +"))
    text = INSIDE.sub(r" \1 ", text)
    return " ".join(GLUED.sub(lambda found: f" {found[1] or ''} {found[2]} ", text).split())


def shortened(text: str, length: int = 48) -> str:
    """`text` in quotation marks, cut to `length` characters."""
    return repr(text if len(text) <= length else f"{text[: length - 3]}...")


@dataclass(frozen=True)
class Facts:
    """One series, looked at."""

    series: Series
    """The series."""
    texts: Mapping[str, str]
    """Field -> its normalised text, of the texts that were asked."""
    said: Mapping[str, tuple[str, str]]
    """Word -> (the field that says it, how it is written there)."""
    telling: bool
    """Whether a telling word was said."""

    @cached_property
    def _grid(self) -> Grid | None:
        try:
            grid = self.series.grid
        except (BadVolume, NotFound):
            return None
        return grid if np.isfinite(grid.affine).all() and grid.voxel_volume > 0 else None

    def value(self, field: str) -> Any:
        """A header field, or 'plane', 'thickness' (mm across the slices), 'pixel' (mm within), 'slices'; None
        if unknown.
        """
        if field not in ("plane", "thickness", "pixel", "slices"):
            found = self.series.header.get(field)
            return tuple(found) if isinstance(found, list) else found
        return self._from_header(field) if self._grid is None else self._from_grid(self._grid, field)

    def _from_grid(self, grid: Grid, field: str) -> Any:
        spacing = grid.spacing
        across = int(np.argmax(spacing)) if spacing.max() > 1.3 * spacing.min() else 2
        if field == "plane":
            return PLANES[int(np.argmax(np.abs(grid.axes[:, across])))]
        if field == "thickness":
            return float(spacing[across])
        return grid.shape[across] if field == "slices" else float(np.delete(spacing, across).max())

    def _from_header(self, field: str) -> Any:
        header = self.series.header
        if field == "slices":
            return header.get("NumberOfSlices")
        if field == "thickness":
            return header.get("SpacingBetweenSlices") or header.get("SliceThickness")
        if field == "pixel":
            spacing = header.get("PixelSpacing")
            return max(map(float, spacing)) if spacing else None
        directions = header.get("ImageOrientationPatient")
        if not directions:
            return None
        numbers = np.array(directions, dtype=np.float64)
        return PLANES[int(np.argmax(np.abs(np.cross(numbers[:3], numbers[3:]))))]

    def passes(self, tests: tuple[HeaderTest, ...]) -> bool:
        """Whether every header test passes."""
        return all(test.passes(self.value(test.field)) for test in tests)

    def quote(self, words: tuple[str, ...]) -> str:
        """Which text says these words, for people."""
        fields = dict.fromkeys(self.said[word][0] for word in words)
        parts = []
        for field in fields:
            ways = ", ".join(repr(self.said[word][1]) for word in words if self.said[word][0] == field)
            source = self.series.name if field == "name" else str(self.series.header.get(field))
            parts.append(f"{field} {shortened(source)} says {ways}")
        return " and ".join(parts)


def look_at(series: Series, rules: Rules) -> Facts:
    """Read the series' texts, up to the first that says a telling word or something excluded.

    Raises:
        BadVolume: its header cannot be read.
    """
    texts: dict[str, str] = {}
    said: dict[str, tuple[str, str]] = {}
    telling = False
    for field in rules.texts:
        raw = series.name if field == "name" else series.header.get(field)
        if not raw:
            continue
        texts[field] = text = normalised(str(raw), rules)
        left = text
        for word, pattern in rules.words.items():
            if word in rules.consumed and (found := pattern.search(left)):
                said.setdefault(word, (field, found[0]))
                left = pattern.sub(" ", left)
        for word, pattern in rules.words.items():
            if word not in rules.consumed and (found := pattern.search(left)):
                said.setdefault(word, (field, found[0]))
        telling = any(word in said for word in rules.telling)
        if telling or any(rule.words and rule.words.search(text) for rule in rules.excluded):
            break
    _look_always(series, rules, said)
    return Facts(series, texts, said, telling)


def _look_always(series: Series, rules: Rules, said: dict[str, tuple[str, str]]) -> None:
    """What single header fields add to the words, e.g. the body part."""
    for field, words in rules.always.items():
        raw = series.header.get(field)
        text = normalised(" ".join(map(str, raw)) if isinstance(raw, tuple | list) else str(raw or ""), rules)
        for word in words:
            if word not in said and (found := rules.words[word].search(text)):
                said[word] = (field, found[0])
