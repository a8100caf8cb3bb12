"""What the pages of the models, of learning and of operations show; all of it is known to other rooms."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from prometheus_client import CollectorRegistry

from slem_app.errors import NotFound, SlemError
from slem_app.predict.assessable import NEEDS
from slem_app.rounds.job import RoundFolder, Status, rounds
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.queue import Kind
from slem_app.serving.server import Serving
from slem_app.weights import Card
from slem_app.weights.version import ModelVersion

__all__ = [
    "CURVE",
    "LearningPage",
    "ModelPage",
    "OperationsPage",
    "RoundRow",
    "curve",
    "learning",
    "model",
    "models",
    "operations",
]

ROUNDS = 20  # that the page of learning lists
CURVE = (320, 80)  # pixels of a curve
QUEUES: Mapping[Kind, str] = {
    Kind.CLICK: "Clicks",
    Kind.FIRST_CLICK: "First clicks",
    Kind.AUTOMATIC: "Segmentations",
    Kind.BACKGROUND: "Background work",
}
CACHES: Mapping[str, str] = {
    "volumes": "Prepared images",
    "corrections": "Readers' corrections",
    "starts": "Starts of corrections",
    "automatic": "Automatic segmentations",
    "results": "Last results",
}


@dataclass(frozen=True)
class ModelPage:
    """One model."""

    name: str
    """As clients know it."""
    card: Card
    """Of the version that is served."""
    tools: tuple[str, ...]
    """Names under which clients find it as a tool."""
    needs: tuple[str, ...]
    """What it does not say without some sequence."""
    served: int
    """The version that is served; 0: the bundled one."""
    note: str
    """Why it is not the version that was asked for; empty: it is."""
    versions: tuple[ModelVersion, ...]
    """The newest first."""
    refused: tuple[ModelVersion, ...]
    """Candidates that were not published."""


@dataclass(frozen=True)
class RoundRow:
    """One learning round."""

    id: str
    """Of its folder."""
    model: str
    """Which learns; empty where the order cannot be read."""
    status: Status
    """Where it stands."""
    curve: str
    """Points of its mean Dice as SVG's `polyline` has them; empty with fewer than two."""
    log: tuple[str, ...]
    """The last lines of its log."""


@dataclass(frozen=True)
class LearningPage:
    """All of learning."""

    running: str
    """Id of the round that runs; empty: none."""
    waiting: int
    """Rounds that begin when it has ended."""
    rounds: tuple[RoundRow, ...]
    """The newest first."""
    trainable: tuple[str, ...]
    """Models that can learn here."""
    labelled: int
    """Cases with a final label."""


@dataclass(frozen=True)
class OperationsPage:
    """How the server does."""

    checks: Mapping[str, bool]
    """What must work -> whether it does."""
    device: str
    """What computes."""
    gpu: tuple[int, int] | None
    """Bytes of its memory that are free and in all; None without a GPU."""
    busy: bool
    """The network computes."""
    queues: Mapping[str, int]
    """Kind of request -> how many wait."""
    memory: float
    """Bytes that this process holds."""
    caches: Mapping[str, tuple[float, int]]
    """Cache -> bytes in it and bytes that it may hold."""
    disk: tuple[int, int]
    """Bytes of the store's disk that are free and in all."""
    requests: float
    """That were answered since the start."""
    failed: float
    """Of these, those that failed inside the server."""
    cases: int
    """That can be opened."""
    labelled: Mapping[str, float]
    """Tag -> cases that have such a label."""


def models(serving: Serving) -> tuple[ModelPage, ...]:
    """All models."""
    return tuple(model(serving, name) for name in serving.automatic)


def model(serving: Serving, name: str) -> ModelPage:
    """A model.

    Raises:
        NotFound: this server has no such model.
    """
    task = serving.tasks.get(name)
    if isinstance(task, InteractiveTask):
        name = task.automatic.predictor.card.name
    if name not in serving.automatic:
        raise NotFound(f"no model {name!r}; this server has {', '.join(serving.tasks)}")
    automatic, watcher = serving.automatic[name], serving.watchers[name]
    card = automatic.predictor.card
    tools = tuple(
        other
        for other, one in serving.tasks.items()
        if isinstance(one, InteractiveTask) and one.automatic is automatic
    )
    known = set(card.sequences)
    needs = tuple(
        need.says
        for label, need in NEEDS.items()
        if label in card.labels.names and known & set(need.sequences)
    )
    return ModelPage(
        name,
        card,
        tools,
        needs,
        watcher.number,
        watcher.note,
        tuple(watcher.published.versions())[::-1],
        tuple(watcher.published.refused())[::-1],
    )


def learning(serving: Serving) -> LearningPage:
    """The rounds."""
    trainings = serving.trainings
    running = trainings.running()
    newest = rounds(trainings.root)[::-1][:ROUNDS]
    rows = [row for folder in newest if (row := _round(folder)) is not None]
    return LearningPage(
        running.id if running else "",
        len(trainings.waiting),
        tuple(rows),
        tuple(serving.trainers),
        len(serving.datastore.get_labeled_images()),
    )


def _round(folder: RoundFolder) -> RoundRow | None:
    """A round; None of one whose status cannot be read."""
    try:
        status = folder.status()
    except SlemError:
        return None
    try:
        name = folder.job().model
    except SlemError:
        name = ""
    return RoundRow(folder.id, name, status, curve(status.history), tuple(folder.tail()))


def curve(history: tuple[float, ...], size: tuple[int, int] = CURVE) -> str:
    """Values from 0 to 1 as the points of a line.

    Example:
        >>> curve((0.0, 1.0), (10, 4))
        '0.0,4.0 10.0,0.0'
    """
    if len(history) < 2:
        return ""
    step, height = size[0] / (len(history) - 1), size[1]
    return " ".join(
        f"{n * step:.1f},{height * (1 - min(max(value, 0.0), 1.0)):.1f}" for n, value in enumerate(history)
    )


def operations(
    serving: Serving, registry: CollectorRegistry, checks: Callable[[], Mapping[str, bool]]
) -> OperationsPage:
    """How the server does.

    Args:
        serving: whose state it is.
        registry: its figures for Prometheus.
        checks: what `/readyz` tells.
    """
    kept, figures = _figures(registry)
    limits = {
        "volumes": serving.computing.caches.prepared.limit,
        "corrections": serving.memory.limit,
        "starts": serving.computing.caches.starts.limit,
        "automatic": serving.computing.caches.results.limit,
        "results": serving.last_results.shown.limit,
    }
    root = serving.datastore.root
    disk = shutil.disk_usage(next(place for place in (root, *root.parents) if place.is_dir()))
    device = serving.computing.device
    return OperationsPage(
        checks(),
        str(device),
        torch.cuda.mem_get_info(device) if device.type == "cuda" else None,
        bool(figures.get("slem_network_busy")),
        {QUEUES[kind]: int(kept.get(("slem_queue", kind.name.lower()), 0)) for kind in Kind},
        figures.get("process_resident_memory_bytes", 0.0),
        {CACHES[name]: (kept.get(("slem_cache_bytes", name), 0.0), limit) for name, limit in limits.items()},
        (disk.free, disk.total),
        sum(kept.get(("slem_requests_total", status), 0.0) for status in "12345"),
        kept.get(("slem_requests_total", "5"), 0.0),
        int(figures.get("slem_cases", 0)),
        {tag: count for (name, tag), count in kept.items() if name == "slem_labelled_cases"},
    )


def _figures(registry: CollectorRegistry) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """The figures with one label of interest, by name and label, and those without any."""
    kept: dict[tuple[str, str], float] = {}
    figures: dict[str, float] = {}
    for metric in registry.collect():
        for sample in metric.samples:
            if sample.name == "slem_requests_total":
                key = (sample.name, sample.labels["status"][:1])
                kept[key] = kept.get(key, 0.0) + sample.value
            elif len(sample.labels) == 1:
                kept[sample.name, next(iter(sample.labels.values()))] = sample.value
            elif not sample.labels:
                figures[sample.name] = sample.value
    return kept, figures
