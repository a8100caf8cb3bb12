"""A case's report from its newest label, or from what a model makes of it now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import gmtime, strftime
from typing import Any

import numpy as np

from slem_app.errors import SlemError
from slem_app.formats.planes import planes_of
from slem_app.formats.provenance import LONGEST, Provenance, save_dicom
from slem_app.measure import Where, measure
from slem_app.predict import Predictor, answer, lost, misleading
from slem_app.predict.assessable import Need
from slem_app.report.contents import Contents
from slem_app.report.pictures import draw, sheet
from slem_app.result_warning import ResultWarning
from slem_app.store.case_labels import CaseLabels
from slem_app.store.record import FINAL, LabelRecord
from slem_app.store.review import REJECTED, ReviewDecision
from slem_app.studies import Series
from slem_app.trust import Trust
from slem_app.types import Grid
from slem_app.volumes.atlas import installed_atlas
from slem_app.volumes.location import locator
from slem_app.volumes.read import read, read_all
from slem_app.volumes.report import PreparationReport
from slem_app.weights import Card, load_card, load_model, model_folder

__all__ = ["CaseReport", "bundled_card", "compose", "not_shown"]

FACTS = {
    "PatientName": "Patient",
    "PatientID": "Patient ID",
    "PatientBirthDate": "Born",
    "StudyDate": "Study date",
    "StudyDescription": "Study",
    "AccessionNumber": "Accession",
}


@dataclass(frozen=True, eq=False)
class CaseReport:
    """A report and the label map that it is of."""

    contents: Contents
    """What it says."""
    array: np.ndarray
    """(I, J, K) label values."""
    grid: Grid
    """Of the series it lies on."""
    series: Series
    """That series."""
    provenance: Provenance
    """How the label came about."""

    def write_dicom(self, folder: Path, name: str) -> list[Path]:
        """`instances` as files: NAME.seg.dcm, NAME.sr.dcm, NAME.pdf.dcm, NAME.sc.dcm.

        Raises:
            As `instances`; StorageFailed: the disk refused.
        """
        made = self.instances
        return [save_dicom(one, folder / f"{name}.{kind}.dcm") for kind, one in made.items()]

    @cached_property
    def instances(self) -> dict[str, Any]:
        """'seg', 'sr', 'pdf' and 'sc': the segmentation, the structured report that refers to it, the page as
        encapsulated PDF, and its pictures as a secondary capture, where there are any.

        Raises:
            As `make_seg` and `make_sr`.
        """
        from slem_app.formats.seg import make_seg  # slow to import, and seldom needed
        from slem_app.formats.sr import make_sr

        contents = self.contents
        seg = make_seg(self.array, self.grid, contents.labels, self.series, self.provenance)
        report = make_sr(
            contents.found, contents.labels, seg, self.series, self.provenance, not contents.draft
        )
        return {"seg": seg, "sr": report, **self._documents()}

    def _documents(self) -> dict[str, Any]:
        """The page and its pictures as instances of series of their own."""
        from slem_app.formats.documents import make_capture, make_pdf_document  # slow to import, as above
        from slem_app.report.page import pdf

        about = replace(self.provenance, series_number=self.provenance.series_number + 1)
        title = f"Segmentation report: {self.contents.status}"
        document = make_pdf_document(pdf(self.contents), title, self.series, about)
        if not self.contents.pictures:
            return {"pdf": document}
        about = replace(about, series_number=about.series_number + 1)
        return {"pdf": document, "sc": make_capture(sheet(self.contents), self.series, about)}


@dataclass(frozen=True, eq=False)
class _Labelled:
    """What a report is made of."""

    array: np.ndarray
    grid: Grid
    sequence: str
    images: Mapping[str, Series]
    card: Card
    record: LabelRecord
    confirmed: bool
    hidden: tuple[str, ...]  # labels and regions of which nothing is to be said
    warnings: tuple[ResultWarning, ...]
    notes: tuple[str, ...]
    trust: Trust
    decision: str


def bundled_card(name: str) -> Card:
    """The card of a bundled model, or of one in a folder."""
    return load_card(model_folder(name))


def compose(
    labels: CaseLabels,
    case: str,
    model: str,
    device: str = "auto",
    card_of: Callable[[str], Card] = bundled_card,
) -> CaseReport:
    """The report of a case.

    Args:
        labels: the studies and their label store.
        case: case id.
        model: the model whose labels these are where the label does not say so, and which segments a case
            that has none; a name or a folder.
        device: where it is segmented.
        card_of: the card of the model whose label it is, by its name.

    Raises:
        NotFound: no such case or model.
        BadLabel: a label that the model does not have.
        BadGrid, BadStudy, BadVolume: the label or the images cannot be used.
    """
    if labels.store.tags(case):
        made = _stored(labels, case, model, card_of)
    else:
        made = _segmented(labels, case, model, device)
    where, limits = _located(made)
    found = measure(made.array, made.grid, made.card.labels, made.hidden, where)
    shown = {name: made.images[name] for name in made.card.reference_order if name in made.images}
    contents = Contents(
        case,
        found,
        made.card.labels,
        confirmed_by=made.record.who if made.confirmed else "",
        saved=strftime("%Y-%m-%d %H:%M UTC", gmtime(made.record.ts)) if made.record.ts else "",
        made_by=f"{made.record.model} {made.record.model_version}".strip(),
        facts=_facts(made.images[made.sequence]),
        warnings=made.warnings,
        notes=made.notes,
        limits=limits,
        trust=made.trust,
        decision=made.decision,
        pictures=draw(read_all(shown), made.array, made.grid, made.card.labels, found),
    )
    series = made.images[made.sequence]
    return CaseReport(contents, made.array, made.grid, series, _provenance(made, contents))


def not_shown(card: Card, sequences: Collection[str], array: np.ndarray) -> dict[str, Need]:
    """The labels of a model that a case's sequences cannot show; not those that its label holds all the same,
    for a reader may have drawn them.

    Args:
        card: of the model whose label it is.
        sequences: what the case has.
        array: label values of the card.
    """
    used = [name for name in sequences if name in card.sequences]
    missing = set(card.sequences) - set(used)
    without = lost(card.labels.names, used, missing)
    return {name: need for name, need in without.items() if not (array == card.labels.value(name)).any()}


def _stored(
    labels: CaseLabels, case: str, model: str, card_of: Callable[[str], Card] = bundled_card
) -> _Labelled:
    label = labels.newest(case)
    array, grid = label.label()
    record = label.version.record
    card = card_of(record.model or model)
    array = card.labels.remap(array, dict(enumerate(label.names, 1)))
    without = not_shown(card, tuple(label.images), array)
    return _Labelled(
        array,
        grid,
        label.sequence,
        label.images,
        card,
        record,
        confirmed=label.version.tag == FINAL and label.version.state != REJECTED,
        hidden=misleading(card.labels, without),
        warnings=(*(need.warning for need in without.values()), *_recorded(record)),
        notes=PreparationReport.of_table(record.preparation).notes(),
        trust=record.trust if record.automatic else Trust(),
        decision=_decided(label.version.decision),
    )


def _segmented(labels: CaseLabels, case: str, model: str, device: str) -> _Labelled:
    loaded = load_model(model_folder(model))
    grouping = labels.images(case)
    sequence = grouping.reference(loaded.card.reference_order)
    result = answer(Predictor(loaded, device).predict_case(grouping, sequence))
    card = loaded.card
    record = LabelRecord(model=card.name, model_version=card.version, automatic=True)
    return _Labelled(
        result.array,
        result.grid,
        sequence,
        grouping.sequences,
        card,
        record,
        confirmed=False,
        hidden=result.unmeasured,
        warnings=result.warnings,
        notes=result.notes,
        trust=result.trust,
        decision="",
    )


def _located(made: _Labelled) -> tuple[Where | None, tuple[str, ...]]:
    """What tells where lesions lie, of a model of the brain, and what it cannot tell, in sentences."""
    if not made.card.preparation.stripped or not made.array.any():
        return None, ()
    try:
        found = locator(read(made.images[made.sequence]), made.sequence, installed_atlas())
    except SlemError as error:  # the numbers of a report do not need it
        return None, (f"Side and lobe are not assessable: {error}",)
    return found.of, found.limits


def _decided(decision: ReviewDecision | None) -> str:
    """A reviewer's decision in words."""
    if decision is None:
        return ""
    return f"{decision.state} by {decision.by}" + (f" ({decision.why})" if decision.why else "")


def _recorded(record: LabelRecord) -> list[ResultWarning]:
    """What the label's record says beside what its sequences cannot show, which the label itself tells."""
    told = record.warnings or PreparationReport.of_table(record.preparation).warnings()
    return [one for one in told if not one.code.endswith("not-assessable")]


def _facts(series: Series) -> dict[str, str]:
    """Whose study it is; nothing of images that do not say."""
    if series.format != "dicom":
        return {}
    image = planes_of(series)[0].image
    return {title: str(image.get(key)) for key, title in FACTS.items() if image.get(key)}


def _provenance(made: _Labelled, contents: Contents) -> Provenance:
    record = made.record
    kind = "AUTOMATIC" if record.automatic else "SEMIAUTOMATIC" if record.model else "MANUAL"
    plain = "".join(sign for sign in contents.confirmed_by if sign.isprintable() and sign != "\\")
    return Provenance(
        kind,
        "" if kind == "MANUAL" else record.model,
        "" if kind == "MANUAL" else record.model_version or "unknown",
        "PreparationReport" if made.confirmed else "Report (draft)",
        series_number=1100,
        creator=plain[:LONGEST],
    )
