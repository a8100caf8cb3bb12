"""The visits of a case's patient, as the page of the case lists them."""

from __future__ import annotations

from dataclasses import dataclass

from slem_app.serving.server import Serving
from slem_app.studies.dicom import DicomSource
from slem_app.studies.patients import Patient, Visit, patient_of

__all__ = ["PatientVisits", "visits_of"]

MANY = 3000  # studies in DICOM folders, of each of which one file is read; a page does not wait for more
TOO_MANY = (
    "With so many studies in folders earlier visits are not looked for here: `slem followup` does, and so "
    "does the link below."
)


@dataclass(frozen=True)
class PatientVisits:
    """Of one case's patient."""

    visits: tuple[Visit, ...]
    """In order of time, the case among them; empty where no other one is known."""
    earlier: bool
    """Something can be compared: this case has a label, and so has an earlier visit."""
    doubts: tuple[str, ...]
    """What a reader should know of them."""


def visits_of(serving: Serving, case: str) -> PatientVisits:
    """The visits, as far as they are found without waiting.

    Raises:
        PacsFailed: the PACS does not answer.
    """
    source = serving.cases.source
    if source is None or case not in source.ids():  # an upload
        return PatientVisits((), False, ())
    if isinstance(source, DicomSource) and not source.patients and len(source) > MANY:
        return PatientVisits((), bool(serving.datastore.store.tags(case)), (TOO_MANY,))
    patient: Patient = patient_of(source, case)
    if len(patient.visits) < 2:
        return PatientVisits((), False, ())
    store = serving.datastore.store
    labelled = any(store.tags(one.case) for one in patient.earlier(case))
    return PatientVisits(patient.visits, labelled and bool(store.tags(case)), patient.doubts)
