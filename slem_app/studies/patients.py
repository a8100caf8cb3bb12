"""Which studies are of one patient, and in which order they were taken.

In DICOM the PatientID says it, with StudyDate and StudyTime. In folders names say it: `sub-01/ses-02` of
BIDS, `BraTS-GLI-00005-101` of BraTS 2023 and 2024, or what the key `patients` in slem.yaml describes.
Anything else is nobody's: two cases are never taken for one patient's by guessing.

Whose a study is stays in memory, read from one file a study or from the PACS when it is asked for; no file of
ours holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import pairwise

from slem_app.errors import BadSetting, NotFound
from slem_app.studies.source import StudySource
from slem_app.studies.whose import Whose

__all__ = ["Patient", "Visit", "check_rule", "find_patient", "patient_of", "visit_rule"]

BY_LAYOUT = {
    "bids": r"(?P<patient>sub-[^_]+)(_(?P<visit>ses-.+))?",
    "brats2023": r"(?P<patient>BraTS-[A-Za-z]+-\d+)-(?P<visit>\d+)",
}
"""Of case ids, where slem.yaml says nothing."""
NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Visit:
    """One study of a patient."""

    case: str
    """Case id."""
    date: str = ""
    """YYYYMMDD; empty: not known."""
    time: str = ""
    """HHMMSS, perhaps with a fraction; empty: not known."""
    name: str = ""
    """What the folders call it; visits without dates are in the order of these."""

    def before(self, other: Visit) -> bool:
        """Whether it was certainly taken before the other."""
        if self.date and other.date:
            if self.date != other.date:
                return self.date < other.date
            return bool(self.time and other.time) and self.time < other.time
        return bool(self.name and other.name) and _natural(self.name) < _natural(other.name)

    @property
    def when(self) -> str:
        """For people: the date, else the name."""
        return f"{self.date[:4]}-{self.date[4:6]}-{self.date[6:8]}" if self.date else self.name


@dataclass(frozen=True)
class Patient:
    """A patient's studies."""

    visits: tuple[Visit, ...]
    """In order of time."""
    doubts: tuple[str, ...] = ()
    """What speaks against taking them for one patient's, or leaves their order open, in sentences that name
    nobody.
    """
    mixed: bool = False
    """They have different names: they may be of several patients."""

    def visit(self, case: str) -> Visit:
        """That of a case.

        Raises:
            NotFound: it is none of them.
        """
        for one in self.visits:
            if one.case == case:
                return one
        raise NotFound(f"{case} is not a visit of this patient")

    def earlier(self, case: str) -> tuple[Visit, ...]:
        """Those that were certainly taken before a case, in order of time."""
        this = self.visit(case)
        return tuple(one for one in self.visits if one.before(this))


def patient_of(source: StudySource, case: str) -> Patient:
    """All studies of a case's patient; the case alone where nothing says whose it is.

    Raises:
        NotFound: no such case.
        PacsFailed: the PACS does not answer.
    """
    if case not in source.ids():
        raise NotFound(f"no case {case!r} in {source.root}")
    rule = visit_rule(source)
    if rule:
        return _by_rule(source, case, rule)
    table = source.whose(case)
    own = table.get(case)
    if own is None or not own.patient:
        return Patient(
            (_visit(case, own),), ("Nothing says whose study this is: other visits are not known.",)
        )
    return _patient({id: one for id, one in table.items() if one.patient == own.patient})


def find_patient(source: StudySource, name: str) -> Patient:
    """The patient of that name (PatientID, or as the rule reads it), or of the case of that id.

    Raises:
        NotFound: neither.
    """
    if name in source.ids():
        return patient_of(source, name)
    rule = visit_rule(source)
    for case in source.ids() if rule else ():
        match = _match(source, case, rule)
        if match and match["patient"] == name:
            return patient_of(source, case)
    table = {} if rule else source.whose("", name)
    of_name = {id: one for id, one in table.items() if one.patient == name}
    if of_name:
        return _patient(of_name)
    raise NotFound(f"no case and no patient of that name in {source.root}: `slem inspect` lists the cases")


def visit_rule(source: StudySource) -> str:
    """The pattern that tells patient and visit from where a case lies; empty: headers tell."""
    return source.patients or BY_LAYOUT.get(source.layout, "")


def check_rule(pattern: str, where: str) -> str:
    """A pattern as slem.yaml declares it.

    Raises:
        BadSetting: not a regular expression with a group `patient`.
    """
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise BadSetting(f"{where}: patients is not a regular expression: {error}") from error
    if "patient" not in groups or set(groups) - {"patient", "visit", "date"}:
        raise BadSetting(
            f"{where}: patients must have the group (?P<patient>...), and may have (?P<visit>...) and "
            f"(?P<date>...), YYYYMMDD or YYYY-MM-DD; it has {', '.join(groups) or 'none'}"
        )
    return pattern


def _match(source: StudySource, case: str, rule: str) -> re.Match[str] | None:
    """What a rule of slem.yaml reads is the path below the studies folder, of layouts it is the case id."""
    return re.fullmatch(rule, source.place(case) if source.patients else case)


def _by_rule(source: StudySource, case: str, rule: str) -> Patient:
    own = _match(source, case, rule)
    if own is None:
        return Patient(
            (Visit(case),), ("Its name does not say whose study this is: other visits are not known.",)
        )
    visits = []
    for id in source.ids():
        match = _match(source, id, rule)
        if match and match["patient"] == own["patient"]:
            groups = match.groupdict()
            date = re.sub(r"\D", "", groups.get("date") or "")
            name = groups.get("visit") or ("" if date else id)
            visits.append(Visit(id, date if len(date) == 8 else "", "", name))
    return _ordered(visits, ())


def _patient(table: Mapping[str, Whose]) -> Patient:
    names = {_plain(one.name) for one in table.values() if one.name}
    doubts = (
        f"Under this PatientID there are {len(names)} different names: see whether it is one patient.",
    ) * (len(names) > 1)
    return _ordered([_visit(id, one) for id, one in table.items()], doubts)


def _visit(case: str, one: Whose | None) -> Visit:
    if one is None:
        return Visit(case)
    date = re.sub(r"\D", "", one.date)  # '2024.01.02' is how DICOM was written before 1993
    return Visit(case, date if len(date) == 8 else "", one.time.replace(":", ""))


def _ordered(visits: Iterable[Visit], doubts: tuple[str, ...]) -> Patient:
    def later(one: Visit, other: Visit) -> int:
        return -1 if one.before(other) else other.before(one) * 1

    listed = sorted(visits, key=_known)
    listed.sort(key=cmp_to_key(later))
    told = list(doubts)
    if len(listed) > 1 and (undated := [one.case for one in listed if not (one.date or one.name)]):
        told.append(f"Without a date, so in no order: {', '.join(undated)}.")
    for one, other in pairwise(listed):
        if one.date and one.date == other.date and not one.before(other):
            told.append(f"{one.case} and {other.case} are of one day, and no time tells which came first.")
    return Patient(tuple(listed), tuple(told), bool(doubts))


def _known(visit: Visit) -> tuple[bool, str, str, str]:
    return (not visit.date, visit.date, visit.time, visit.case)


def _natural(name: str) -> list[tuple[int, str]]:
    """'ses-2' before 'ses-10'."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in NUMBERS.split(name)]


def _plain(name: str) -> str:
    """A person's name as DICOM writes it, less what means nothing: case, carets and blanks at its end."""
    return re.sub(r"[\s^]+", " ", name.partition("=")[0]).strip().casefold()
