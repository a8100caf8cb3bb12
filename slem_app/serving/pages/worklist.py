"""The worklist: cases with their state, filtered, sorted and paged. Only the cases of the page that is shown
are opened.

Opening a case of DICOM files reads the headers of all its slices, so a page waits for a while only; cases
that take longer are opened in the background, and are there when the page is loaded again.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from slem_app.errors import SlemError
from slem_app.grouping import Grouping
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.models_for_case import fitting
from slem_app.serving.error_replies import told
from slem_app.serving.pages.thumbnails import Thumbnails
from slem_app.serving.server import Serving
from slem_app.store.overview import CaseState
from slem_app.trust import STEPS

__all__ = [
    "PAGE",
    "SORTS",
    "STATES",
    "Worklist",
    "WorklistPage",
    "WorklistQuery",
    "WorklistRow",
    "header_of",
    "holder_name",
]

PAGE = 25  # cases of a page
PATIENCE = 2.0  # seconds that a page waits for its cases to be opened
OPENING = 2  # cases that are opened at once
STATES: Mapping[str, str] = {
    "all": "All",
    "new": "New",
    "draft": "Draft",
    "submitted": "Submitted",
    "rejected": "Rejected",
    "approved": "Approved",
    "held": "In somebody's hands",
}
SORTS: Mapping[str, str] = {
    "case": "Case, A to Z",
    "-case": "Case, Z to A",
    "saved": "Last saved first",
    "doubt": "Most doubtful first",
}
NOBODY = frozenset({"", "user-xyz"})  # 3D Slicer's client id until somebody changes it
NEW_CASE = CaseState()
BROWSER = re.compile(r"[0-9a-f]{32}")  # what stands for a browser that nobody has logged in with


@dataclass(frozen=True)
class WorklistQuery:
    """What a reader wants to see."""

    text: str = ""
    """Part of the case's id, or, of cases that were ever opened, of the patient's ID; empty: all."""
    state: str = "all"
    """One of `STATES`."""
    sort: str = "case"
    """One of `SORTS`."""
    page: int = 1
    """From 1 on; one beyond the last shows the last."""


@dataclass(frozen=True)
class WorklistRow:
    """One case as the worklist shows it."""

    case: str
    """Case id."""
    state: CaseState
    """How far it is."""
    holder: str
    """Who has it in hand; empty: nobody."""
    patient: str = ""
    """PatientID; empty where the images do not say."""
    date: str = ""
    """StudyDate as DICOM has it; empty where the images do not say."""
    found: tuple[str, ...] = ()
    """Its sequences."""
    missing: tuple[str, ...] = ()
    """Sequences that the model for it knows and that it lacks."""
    study: str = ""
    """StudyInstanceUID; empty where OHIF cannot open it."""
    pictured: bool = True
    """There is a thumbnail, or it can be made."""
    pending: bool = False
    """It is being opened still."""
    problem: str = ""
    """Why it cannot be segmented."""


@dataclass(frozen=True)
class WorklistPage:
    """What one page shows."""

    query: WorklistQuery
    """As it was answered; the page is one that there is."""
    rows: tuple[WorklistRow, ...]
    """Its cases."""
    matched: int
    """Cases that the filters let through."""
    counts: Mapping[str, int]
    """State -> cases of the whole server."""
    pages: int
    """How many there are."""

    @property
    def pending(self) -> int:
        """Cases that are being opened still."""
        return sum(row.pending for row in self.rows)


class Worklist:
    """The cases of a server as a list.

    Args:
        serving: whose.
        thumbnails: their pictures.
    """

    def __init__(self, serving: Serving, thumbnails: Thumbnails) -> None:
        self.serving, self.thumbnails = serving, thumbnails
        self.overview = serving.datastore.overview
        self.pool = ThreadPoolExecutor(OPENING, thread_name_prefix="worklist")
        self.guard = threading.Lock()
        self.opening: dict[str, Future[dict[str, Any]]] = {}

    def page(self, query: WorklistQuery, reader: str | None = None) -> WorklistPage:
        """The page that a reader asks for.

        Args:
            query: what they want to see.
            reader: who asks, as `reader_of` tells; default: the browser that does.
        """
        cases, states = self.serving.cases.known(), self.overview.states()
        me, there = reader_of("") if reader is None else reader, set(cases)
        held = self.serving.chooser.leases.held()
        holders = {case: holder_name(holder, me) for case, holder in held.items() if case in there}
        counts = Counter(states.get(case, NEW_CASE).name for case in cases)
        counts |= {"all": len(cases), "held": len(holders)}
        words = query.text.casefold().split()
        patients = self.serving.cases.patients() if words else {}
        shown = [
            case
            for case in cases
            if self._has_state(case, query.state, states, holders)
            and all(word in f"{case} {patients.get(case, '')}".casefold() for word in words)
        ]
        if query.sort == "saved":
            shown.sort(key=lambda case: (-states.get(case, NEW_CASE).saved, case))
        elif query.sort == "doubt":
            shown.sort(key=lambda case: _doubt(states.get(case, NEW_CASE), case))
        elif query.sort == "-case":
            shown.reverse()
        pages = max(1, -(-len(shown) // PAGE))
        query = WorklistQuery(query.text, query.state, query.sort, min(query.page, pages))
        here = shown[(query.page - 1) * PAGE : query.page * PAGE]
        rows = tuple(self._rows(here, states, holders))
        return WorklistPage(query, rows, len(shown), {name: counts[name] for name in STATES}, pages)

    def _has_state(
        self, case: str, wanted: str, states: Mapping[str, CaseState], holders: Mapping[str, str]
    ) -> bool:
        """Whether a case is in a state, one of `STATES`."""
        if wanted == "held":
            return case in holders
        return wanted in ("all", states.get(case, NEW_CASE).name)

    def _rows(
        self, cases: Sequence[str], states: Mapping[str, CaseState], holders: Mapping[str, str]
    ) -> list[WorklistRow]:
        """The rows of some cases; those that take long are marked."""
        begun = {case: self._open(case) for case in cases}
        wait(begun.values(), PATIENCE)
        rows = []
        for case, opened in begun.items():
            facts: dict[str, Any] = opened.result() if opened.done() else {"pending": True, "pictured": False}
            rows.append(WorklistRow(case, states.get(case, NEW_CASE), holders.get(case, ""), **facts))
        return rows

    def _open(self, case: str) -> Future[dict[str, Any]]:
        """The case's facts, now or later; one that is being opened is not opened a second time."""
        with self.guard:
            for done in [name for name, one in self.opening.items() if one.done()]:
                del self.opening[done]
            if case not in self.opening:
                self.opening[case] = self.pool.submit(self._facts, case)
            return self.opening[case]

    def _facts(self, case: str) -> dict[str, Any]:
        """What the images of a case say."""
        serving = self.serving
        try:
            grouping = serving.cases.grouping(case)
        except (SlemError, OSError) as error:  # another case's trouble must not hide the list
            return {"problem": told(str(error)), "pictured": False}
        facts: dict[str, Any] = {
            "patient": header_of(grouping, "PatientID"),
            "date": header_of(grouping, "StudyDate"),
            "study": serving.cases.view(case).study,
            "found": tuple(grouping.sequences),
        }
        models = fitting(grouping, serving.cards)
        if not models:
            why = "no series has a known sequence" if not grouping.choices else "no model here is for it"
            return {**facts, "problem": why, "pictured": bool(grouping.choices)}
        wanted = serving.cards[models[0]].sequences
        missing = tuple(name for name in wanted if name not in grouping.sequences)
        return {**facts, "missing": missing, "pictured": self._pictured(case)}

    def _pictured(self, case: str) -> bool:
        """Whether a list may ask for the picture: of a PACS only if that fetches nothing."""
        if self.serving.cases.pacs is None:
            return True
        try:
            version = self.serving.datastore.store.shown(case, self.serving.datastore.experts)
            return self.thumbnails.made(self.serving.cases.find(case), version)
        except SlemError:
            return False


def _doubt(state: CaseState, case: str) -> tuple[int, float, str]:
    """What a list sorts by that begins with what a model trusts least of its own; the rest comes last."""
    worst = -STEPS.index(state.step) if state.step else 1
    return worst, state.expected, case


def holder_name(holder: str, me: str) -> str:
    """Who has a case in hand, for people.

    Args:
        holder: as a lease names them, 'id@place'.
        me: who looks, the same way.

    Example:
        >>> holder_name("user-xyz@ann", "@bob"), holder_name("@bob", "@bob")
        ('ann', 'you')
    """
    if holder == me:
        return "you"
    name, _, place = holder.rpartition("@")
    if name not in NOBODY:
        return name
    return "another browser" if BROWSER.fullmatch(place) else place


def header_of(grouping: Grouping, field: str) -> str:
    """A field of the first image of a study in DICOM; empty where it has none."""
    series = next((one for one in grouping.study.series if one.format == "dicom"), None)
    return str(series.header.get(field) or "") if series else ""
