"""`/info/`, which every client asks every few seconds: what this server offers, in MONAI Label's words, made
anew when something that this server did has changed it, else once a second.

Making it takes little, but each look at the disk gives Python's one lock away, and on a server that computes
it comes back late. An answer that is there is given from the event loop, and of polls that come together one
makes it and the others wait for that.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from fastapi.responses import Response

from slem_app.serving.models.inference import options
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.segment import SegmentationTask
from slem_app.serving.server import DESCRIPTION, NAME, Serving

__all__ = ["PROTOCOL", "Lately", "changes", "describe", "info_router"]

PROTOCOL = "2.0"  # of MONAI Label, whose clients look for it

FRESH = 1.0  # seconds; so late is known here what other processes have done


def info_router(serving: Serving, run: Callable[[Callable[[], bytes]], Awaitable[bytes]]) -> APIRouter:
    """The route.

    Args:
        serving: whose state it tells.
        run: does work in a thread of polls.
    """
    router = APIRouter(prefix="/info", tags=["App"])
    lately = Lately(
        lambda: json.dumps(jsonable_encoder(describe(serving))).encode(), lambda: changes(serving), run
    )

    @router.get("/", summary="Get App Info")
    async def info() -> Response:
        return Response(await lately.get(), media_type="application/json")

    return router


def describe(serving: Serving) -> dict[str, Any]:
    """What a server offers: its models, what can learn, the choice of the next case, its cases."""
    trainers, chooser = serving.trainers, serving.chooser
    options = chooser.options()
    return {
        "name": NAME,
        "description": DESCRIPTION,
        "version": PROTOCOL,
        "labels": _all_labels(serving),
        "models": {name: _model(task) for name, task in serving.tasks.items()},
        "trainers": {
            name: {"description": one.description, "config": one.config(), "labels": list(one.labels)}
            for name, one in trainers.items()
        },
        "strategies": {
            name: {"description": about, "config": {"model": list(options)} if options else {}}
            for name, about in chooser.strategies().items()
        },
        "scoring": {},
        "train_stats": {name: one.stats() for name, one in trainers.items()},
        "datastore": serving.datastore.status(),
    }


def _model(task: SegmentationTask | InteractiveTask) -> dict[str, Any]:
    return {
        "type": task.kind.value,
        "labels": dict(task.labels),
        "colors": {label.name: list(label.color) for label in task.predictor.card.labels.labels},
        "dimension": 3,
        "description": task.description,
        "config": options(task.kind, task.sequences),
        "version": task.predictor.card.version,
        "reaches": isinstance(task, InteractiveTask) and task.reaches,
    }


def _all_labels(serving: Serving) -> list[str]:
    """Names of the labels of all models, each once, in the order of their values."""
    names: dict[str, None] = {}
    for task in serving.tasks.values():
        names |= dict.fromkeys(sorted(task.labels, key=dict(task.labels).__getitem__))
    return list(names)


def changes(serving: Serving) -> Hashable:
    """Another value whenever this process has changed what `/info/` tells, or told it elsewhere: labels,
    cases, versions, a round that began or was seen to have ended. Looks at no disk.
    """
    versions = tuple((watcher.number, watcher.served.now) for watcher in serving.watchers.values())
    return (
        serving.datastore.store.changes,
        serving.cases.listed,
        versions,
        serving.trainings.process,
        serving.trainings.over,
    )


class Lately:
    """An answer that may be given for a while.

    Args:
        make: makes it.
        state: another value when it must be made anew.
        run: where it is made.
        clock: seconds.
    """

    def __init__(
        self,
        make: Callable[[], bytes],
        state: Callable[[], Hashable],
        run: Callable[[Callable[[], bytes]], Awaitable[bytes]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.make, self.state, self.run, self.clock = make, state, run, clock
        self.making = asyncio.Lock()
        self.kept: tuple[Hashable, float, bytes] | None = None

    async def get(self) -> bytes:
        """The answer."""
        if (known := self._known()) is not None:
            return known
        async with self.making:
            if (known := self._known()) is None:
                # before it is made: a change meanwhile makes it old
                state, begun = (self.state(), self.clock())
                known = await self.run(self.make)
                self.kept = (state, begun, known)
            return known

    def _known(self) -> bytes | None:
        if self.kept is None:
            return None
        state, begun, known = self.kept
        return known if self.clock() - begun < FRESH and state == self.state() else None
