"""What the viewer's own mode (`clients/ohif`) is told of a study before it opens it: which series is which
sequence, the models that can segment it, and the label that stands for it.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from slem_app.grouping import Grouping
from slem_app.selection import DEFAULT
from slem_app.serving.auth.audit import about
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.dicom_view import DicomView
from slem_app.serving.cases.models_for_case import fitting
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.pages.worklist import holder_name
from slem_app.serving.server import Serving
from slem_app.store.case_labels import drawn_on
from slem_app.store.labels import LabelVersion
from slem_app.weights import Card

__all__ = ["viewer_case_router"]

TITLES = {"t1n": "T1", "t1c": "T1 contrast", "t2w": "T2", "t2f": "FLAIR"}
"""What readers call a sequence, where that is not its name."""


def viewer_case_router(serving: Serving) -> APIRouter:
    """The route over a server's cases."""
    router = APIRouter(prefix="/slem", tags=["Results"])

    @router.get("/viewer/case", summary="What a viewer needs to know of a study before it opens it")
    def viewer_case(study: str) -> dict[str, Any]:
        """`study`: StudyInstanceUID, or any other id of the case."""
        case = serving.cases.find(study).id
        about(case)
        grouping = serving.cases.grouping(case)
        names = [name for name in fitting(grouping, serving.cards) if name in serving.automatic]
        view = serving.cases.view(case)
        models = [_model(serving, name) for name in names]
        wanted = serving.cards[names[0]].sequences if names else ()
        holder = serving.chooser.leases.holder(case)
        shown = serving.datastore.store.shown(case, serving.datastore.experts)
        return {
            "case": case,
            "state": serving.datastore.overview.of(case).name,
            "holder": holder_name(holder, reader_of("")) if holder else "",
            "study": view.study,
            "reference": grouping.reference(),
            "grid": _grid(grouping),
            "sequences": _sequences(grouping, view, wanted),
            "missing": [_title(name) for name in wanted if name not in grouping.sequences],
            "models": models,
            "label": None if shown is None else _version(shown, grouping),
            "strategy": DEFAULT,
        }

    return router


def _title(sequence: str) -> str:
    return TITLES.get(sequence, sequence.replace("_", " ").upper())


def _grid(grouping: Grouping) -> dict[str, Any]:
    """Voxels of the reference, on whose grid label maps come and go: index to RAS mm, three rows."""
    grid = grouping.sequences[grouping.reference()].grid
    return {"shape": list(grid.shape), "affine": grid.affine[:3].tolist()}


def _sequences(grouping: Grouping, view: DicomView, wanted: tuple[str, ...]) -> list[dict[str, str]]:
    """The series that are used and that a viewer can see, in the order in which the model knows them."""
    order = {name: place for place, name in enumerate(wanted)}
    choices = sorted(grouping.choices, key=lambda one: order.get(one.sequence, len(order)))
    return [
        {
            "name": one.sequence,
            "title": _title(one.sequence),
            "series": view.series_uid(one.series),
            "why": one.reason,
        }
        for one in choices
        if view.series_uid(one.series)
    ]


def _model(serving: Serving, name: str) -> dict[str, Any]:
    """A model, its tool for clicks where it has one, and its labels in the colours of its card."""
    card: Card = serving.cards[name]
    clicks = f"{name}_clicks"
    task = serving.tasks.get(clicks)
    labels = [{"name": one.name, "value": one.value, "color": list(one.color)} for one in card.labels.labels]
    return {
        "name": name,
        "version": card.version,
        "clicks": clicks if getattr(task, "kind", None) == TaskKind.CLICKS else "",
        "reaches": isinstance(task, InteractiveTask) and task.reaches,
        "labels": labels,
    }


def _version(version: LabelVersion, grouping: Grouping) -> dict[str, Any]:
    """The label that stands for the case, where its label map lies and what its values mean."""
    record = version.record
    return {
        "tag": version.tag,
        "version": version.number,
        "state": version.state,
        "sequence": drawn_on(grouping, version),
        "names": list(version.names),
        "who": record.who,
        "warnings": [one.text for one in record.warnings],
        "trust": record.trust.table() or None,
    }
