"""How far each case is: its labels, what a reviewer decided of them, and since when; for lists of many
thousand cases.

A case's folder changes when a tag comes or goes, and a tag's folder when a version or a decision comes. So a
look
at a store takes one question to the disk for each labelled case and tag, and reads a label's record again
only
after one of these.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from slem_app.errors import SlemError
from slem_app.store.labels import LabelStore
from slem_app.store.review import APPROVED, DRAFTED, SUBMITTED

__all__ = ["CaseState", "LabelOverview"]

NEW = "new"


@dataclass(frozen=True)
class CaseState:
    """How far a case is."""

    tags: tuple[str, ...] = ()
    """Of its labels."""
    saved: float = 0.0
    """When the newest label was saved or decided of, seconds since 1970; 0: it has none."""
    name: str = NEW
    """Of the label that stands for it: 'draft', 'submitted', 'approved' or 'rejected'; 'new': it has none."""
    confirmed: bool = False
    """That label is a model's result which a reader has saved without a change."""
    decided_by: str = ""
    """Who approved or rejected it; empty: nobody has."""
    why: str = ""
    """Their words."""
    step: str = ""
    """How good that label probably is, one of `trust.STEPS`; empty: a reader has changed it, or it is
    not known.
    """
    expected: float = 1.0
    """Dice that its model expects, of the region of which it expects least; 1: not known."""

    @property
    def done(self) -> bool:
        """A reader has saved a label of it, and no reviewer has rejected it."""
        return self.name in (SUBMITTED, APPROVED)


class LabelOverview:
    """The states of all cases of a store.

    Args:
        store: where the labels are.
        experts: as of `LabelStore.counting`.
    """

    def __init__(self, store: LabelStore, experts: Sequence[str] = ()) -> None:
        self.store, self.experts = store, tuple(experts)
        self.seen: dict[str, tuple[int, tuple[str, ...]]] = {}  # case folder -> its state then, the tags
        self.known: dict[str, CaseState] = {}  # case folder -> its state as it was last read

    def states(self) -> dict[str, CaseState]:
        """Case -> state, of every case that has a label."""
        try:
            with os.scandir(self.store.root / "labels") as entries:
                folders = [(entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return {}
        found = {}
        self._forget({name for name, _ in folders})
        for name, changed in folders:
            seen = self.seen.get(name)
            tags = seen[1] if seen and seen[0] == changed else self.store.tags(unquote(name))
            if tags:  # a version that is being saved makes its folder first
                self.seen[name] = (changed, tags)
                found[unquote(name)] = self._state(name, tags)
        return found

    def _forget(self, there: Set[str]) -> None:
        """Cases without a folder any more."""
        for name in set(self.seen) - there:
            self.seen.pop(name, None)
            self.known.pop(name, None)

    def of(self, case: str) -> CaseState:
        """The state of one case, read now."""
        return self._read(case, self.store.tags(case))

    def _read(self, case: str, tags: tuple[str, ...]) -> CaseState:
        version = self.store.shown(case, self.experts) if tags else None
        if version is None:
            return CaseState(tags)
        decision, record = version.decision, version.record
        quality = record.trust.quality if record.automatic else None
        return CaseState(
            tags,
            max(record.ts, decision.ts if decision else 0.0),
            version.state,
            record.confirmed,
            decision.by if decision else "",
            decision.why if decision else "",
            quality.step if quality else "",
            quality.least if quality else 1.0,
        )

    def _state(self, folder: str, tags: tuple[str, ...]) -> CaseState:
        """A case's state: as it was, unless one of its tags has changed since."""
        saved, known = self._saved(folder, tags), self.known.get(folder)
        if known is not None and (known.tags, known.saved) == (tags, saved):
            return known
        try:
            now = self._read(unquote(folder), tags)
        except (SlemError, OSError):  # taken away meanwhile
            return CaseState(tags, saved, DRAFTED)
        self.known[folder] = replace(now, saved=saved)
        return self.known[folder]

    def _saved(self, folder: str, tags: tuple[str, ...]) -> float:
        """When the newest version or decision of any tag came."""
        newest = 0.0
        for tag in tags:
            with contextlib.suppress(FileNotFoundError):  # taken away meanwhile
                newest = max(newest, Path(self.store.root, "labels", folder, tag).stat().st_mtime)
        return newest
