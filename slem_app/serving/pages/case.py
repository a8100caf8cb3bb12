"""What the page of one case shows: its series with the reason for each choice, and all versions of its labels
with their volumes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from slem_app.errors import SlemError
from slem_app.formats import read_label_file
from slem_app.grouping import Grouping
from slem_app.predict import misleading
from slem_app.report.compose import CaseReport, bundled_card, compose, not_shown
from slem_app.report.followup import FollowUp, compose_followup
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.models_for_case import fitting
from slem_app.serving.error_replies import told
from slem_app.serving.pages.places import trust_of
from slem_app.serving.pages.render import colour
from slem_app.serving.pages.series_form import SeriesForm, series_form_of
from slem_app.serving.pages.thumbnails import colours_of
from slem_app.serving.pages.visits import PatientVisits, visits_of
from slem_app.serving.pages.worklist import header_of, holder_name
from slem_app.serving.server import Serving
from slem_app.store.case_labels import CaseLabels
from slem_app.store.labels import LabelVersion
from slem_app.store.overview import CaseState
from slem_app.store.record import FINAL
from slem_app.store.review import ReviewDecision
from slem_app.studies import Series
from slem_app.trust import NOTHING, Trust
from slem_app.volumes.geometry import check_grid
from slem_app.volumes.report import PreparationReport
from slem_app.weights import Card

__all__ = ["CasePage", "CasePages", "LabelVolume", "SeriesRow", "VersionRow"]

OTHERWISE = "The model saw another choice of series than the one that counts now."
KEPT = 2000  # versions whose volumes are remembered


@dataclass(frozen=True)
class SeriesRow:
    """One series of a case."""

    sequence: str
    """Which sequence it is; empty: it is not used."""
    kind: str
    """Why it is not used, in a word: 'derived', 'unknown', 'tie', 'duplicate' or 'by hand'; empty: it is."""
    id: str
    """Its id."""
    name: str
    """Its description."""
    grid: str
    """Shape, spacing and orientation, or what is wrong with them."""
    reason: str
    """Why it is, or is not, that sequence."""


@dataclass(frozen=True)
class LabelVolume:
    """A label's volume in one version."""

    name: str
    """The label's."""
    colour: str
    """'#rrggbb'."""
    ml: float | None
    """Millilitres; None: the case's sequences cannot show it."""


@dataclass(frozen=True)
class VersionRow:
    """One version of a case's label."""

    version: LabelVersion
    """Tag and number."""
    who: str
    """Reader or model."""
    counts: bool
    """It is the final label that is learnt and exported."""
    state: str
    """'draft', 'submitted', 'approved' or 'rejected'."""
    decision: ReviewDecision | None
    """What a reviewer decided of it; None: nothing."""
    sequence: str
    """On whose grid it lies."""
    volumes: tuple[LabelVolume, ...]
    """Of its labels; empty where its file cannot be read."""
    warnings: tuple[str, ...]
    """What a reader must know of it."""
    notes: tuple[str, ...]
    """What was done to the study, in sentences."""


@dataclass(frozen=True)
class CasePage:
    """One case."""

    id: str
    """Case id."""
    state: CaseState
    """How far it is."""
    holder: str
    """Who has it in hand; empty: nobody."""
    facts: dict[str, str]
    """Patient, date ... by their names."""
    study: str
    """StudyInstanceUID; empty where OHIF cannot open it."""
    refused: tuple[str, ...]
    """Why images of it cannot be shown there."""
    series: tuple[SeriesRow, ...]
    """Those that are used first."""
    versions: tuple[VersionRow, ...]
    """The newest first."""
    models: tuple[str, ...]
    """That can segment it, the best first."""
    missing: tuple[str, ...]
    """Sequences that the first of them knows and the case lacks."""
    notes: tuple[str, ...]
    """What a reader should know of the case."""
    visits: PatientVisits
    """Of the patient."""
    trust: Trust
    """What the model says of the label that stands for the case; nothing of one that a reader has changed, or
    that was made from another choice of series.
    """
    form: SeriesForm
    """By which a reader chooses the series."""


class CasePages:
    """The pages of a server's cases.

    Args:
        serving: whose.
    """

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.guard = threading.Lock()
        self.measured: OrderedDict[Hashable, tuple[tuple[LabelVolume, ...], tuple[str, ...]]] = OrderedDict()

    def page(self, identifier: str) -> CasePage:
        """A case.

        Raises:
            NotFound: no such case.
            BadStudy: it cannot be read.
        """
        serving = self.serving
        case, _ = serving.cases.split(identifier)
        grouping, view = serving.cases.grouping(case), serving.cases.view(case)
        store, holder = serving.datastore.store, serving.chooser.leases.holder(case)
        history = store.history(case)[::-1]
        models = tuple(name for name in fitting(grouping, serving.cards) if name in serving.automatic)
        wanted = serving.cards[models[0]].sequences if models else ()
        return CasePage(
            case,
            serving.datastore.overview.of(case),
            holder_name(holder, reader_of("")) if holder else "",
            _facts(grouping),
            view.study,
            tuple(map(told, view.refused)),
            _series(grouping),
            self._versions(case, history, grouping),
            models,
            tuple(name for name in wanted if name not in grouping.sequences),
            _case_notes(grouping, models),
            visits_of(serving, case),
            self._trust(store.shown(case, serving.datastore.experts), grouping),
            series_form_of(serving, case, grouping),
        )

    def _trust(self, version: LabelVersion | None, grouping: Grouping) -> Trust:
        if version is not None and version.record.chosen_by_hand != grouping.by_hand:
            return NOTHING
        return trust_of(version)

    def report(self, identifier: str) -> CaseReport:
        """The report of a case's label.

        Raises:
            NotFound: no such case, or it has no label.
            BadLabel, BadGrid, BadVolume: label or images cannot be used.
        """
        case, labels, first = self._labelled(identifier)
        labels.newest(case)  # without a label the network would be asked: not by a link
        return compose(labels, case, first, card_of=self._card)

    def followup(self, identifier: str) -> FollowUp:
        """What changed since the earlier visits of a case's patient.

        Raises:
            NotFound: no such case, or it has no label.
            BadLabel, BadGrid, BadVolume: label or images cannot be used.
            PacsFailed: the PACS does not answer.
        """
        case, labels, first = self._labelled(identifier)
        return compose_followup(labels, case, first, card_of=self._card)

    def _labelled(self, identifier: str) -> tuple[str, CaseLabels, str]:
        """A case, all labels, and the model whose they are where they do not say."""
        cases, datastore = self.serving.cases, self.serving.datastore
        case, _ = cases.split(identifier)
        labels = CaseLabels(
            str(cases.studies), datastore.root, experts=datastore.experts, source=cases.source
        )
        return case, labels, next(iter(self.serving.automatic), "slem_brain")

    def _card(self, model: str) -> Card:
        """The card of a model as it is served; of one that is not served, as it is bundled."""
        return self.serving.cards.get(model) or bundled_card(model)

    def _versions(
        self, case: str, history: tuple[LabelVersion, ...], grouping: Grouping
    ) -> tuple[VersionRow, ...]:
        datastore = self.serving.datastore
        counting = datastore.store.shown(case, datastore.experts)
        rows = []
        for version in history:
            record = version.record
            volumes, warned = self._volumes(version, grouping)
            report = PreparationReport.of_table(record.preparation)
            told_then = [told(one.text) for one in record.warnings or report.warnings()]
            made_otherwise = [OTHERWISE] if record.model and record.chosen_by_hand != grouping.by_hand else []
            warnings = tuple(dict.fromkeys([*made_otherwise, *warned, *told_then]))
            counts = counting is not None and counting.tag == FINAL and counting.folder == version.folder
            rows.append(
                VersionRow(
                    version,
                    record.who,
                    counts,
                    version.state,
                    version.decision,
                    version.sequence,
                    volumes,
                    warnings,
                    report.notes(),
                )
            )
        return tuple(rows)

    def _volumes(
        self, version: LabelVersion, grouping: Grouping
    ) -> tuple[tuple[LabelVolume, ...], tuple[str, ...]]:
        """The volumes of a version, and what is to be known of them; remembered, for a version does not
        change.
        """
        key = (version.folder, version.label.stat().st_mtime_ns, tuple(grouping.sequences))
        with self.guard:
            known = self.measured.get(key)
        if known is None:
            try:
                known = self._measure(version, grouping)
            except SlemError as error:
                return (), (told(str(error)),)
            with self.guard:
                self.measured[key] = known
                while len(self.measured) > KEPT:
                    self.measured.popitem(last=False)
        return known

    def _measure(
        self, version: LabelVersion, grouping: Grouping
    ) -> tuple[tuple[LabelVolume, ...], tuple[str, ...]]:
        array, grid, _ = read_label_file(version.label)
        names = version.names
        counts = np.bincount(array.ravel(), minlength=len(names) + 1)
        colours = colours_of(version, self.serving.datastore.labels)
        hidden, notes = self._hidden(version, grouping, array)
        volumes = tuple(
            LabelVolume(
                name,
                colour(colours[value]),
                None if name in hidden else float(counts[value]) * grid.voxel_volume / 1000,
            )
            for value, name in enumerate(names, 1)
        )
        return volumes, notes

    def _hidden(
        self, version: LabelVersion, grouping: Grouping, array: np.ndarray
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Labels of which nothing is to be said, and why."""
        served = str(version.meta.get("model") or next(iter(fitting(grouping, self.serving.cards)), ""))
        card = self.serving.cards.get(served)
        if card is None or version.names != card.labels.names:
            return (), ()
        without = not_shown(card, tuple(grouping.sequences), array)
        return misleading(card.labels, without), tuple(need.says for need in without.values())


def _facts(grouping: Grouping) -> dict[str, str]:
    """Whose study it is, where the images say so."""
    fields = {"PatientID": "Patient", "StudyDate": "Study date", "Manufacturer": "Scanner"}
    said = {title: header_of(grouping, field) for field, title in fields.items()}
    return {title: value for title, value in said.items() if value} | {"Layout": grouping.study.layout}


def _series(grouping: Grouping) -> tuple[SeriesRow, ...]:
    used = [
        SeriesRow(one.sequence, "", one.series.id, one.series.name, _grid(one.series), one.reason)
        for one in grouping.choices
    ]
    rest = [
        SeriesRow("", one.kind, one.series.id, one.series.name, "", told(one.reason))
        for one in grouping.leftovers
    ]
    return (*used, *rest)


def _grid(series: Series) -> str:
    """The grid as text, or what is wrong with the file."""
    try:
        check_grid(series.grid, f"series {series.id}")
        return str(series.grid)
    except SlemError as error:
        return told(str(error))


def _case_notes(grouping: Grouping, models: tuple[str, ...]) -> tuple[str, ...]:
    if not grouping.choices:
        return ("This case cannot be segmented: no series has a known sequence. The table says why.",)
    if not models:
        return ("No model of this server is for these sequences.",)
    ties = [one.series.name for one in grouping.leftovers if one.kind == "tie"]
    undecided = [f"Undecided: {', '.join(ties)}. The table says why."] if ties else []
    return (*(told(one.text) for one in grouping.warnings), *undecided)
