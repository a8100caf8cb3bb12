"""Which cases have labels, of which tags, and since when: for lists of many thousand cases.

A case's folder is read anew when it has changed, which it does when a tag comes or goes. So a look at a store
takes one question to the disk for each labelled case and tag, and opens no label's record twice.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from slem_app.store.labels import LabelStore
from slem_app.store.record import FINAL

__all__ = ["CaseState", "LabelOverview"]

NEW, DRAFT, DONE = "new", "draft", "final"


@dataclass(frozen=True)
class CaseState:
    """How far a case is."""

    tags: tuple[str, ...] = ()
    """Of its labels."""
    saved: float = 0.0
    """When the newest label was saved, seconds since 1970; 0: it has none."""

    @property
    def name(self) -> str:
        """'new', 'draft' or 'final'."""
        if FINAL in self.tags:
            return DONE
        return DRAFT if self.tags else NEW


class LabelOverview:
    """The states of all cases of a store.

    Args:
        store: where the labels are.
    """

    def __init__(self, store: LabelStore) -> None:
        self.store = store
        self.seen: dict[str, tuple[int, tuple[str, ...]]] = {}  # case folder -> its state then, the tags

    def states(self) -> dict[str, CaseState]:
        """Case -> state, of every case that has a label."""
        try:
            with os.scandir(self.store.root / "labels") as entries:
                folders = [(entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return {}
        found = {}
        for name, state in folders:
            known = self.seen.get(name)
            tags = known[1] if known and known[0] == state else self.store.tags(unquote(name))
            if tags:  # a version that is being saved makes its folder first
                self.seen[name] = (state, tags)
                found[unquote(name)] = CaseState(tags, self._saved(name, tags))
        return found

    def _saved(self, folder: str, tags: tuple[str, ...]) -> float:
        """When the newest version of any tag came."""
        newest = 0.0
        for tag in tags:
            with contextlib.suppress(FileNotFoundError):  # taken away meanwhile
                newest = max(newest, Path(self.store.root, "labels", folder, tag).stat().st_mtime)
        return newest
