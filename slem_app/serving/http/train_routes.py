"""Routes of the Train buttons, and of the adaptation to all studies. They answer in MONAI Label's words, but
hold no process of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.concurrency import run_in_threadpool

from slem_app.errors import NotFound, SlemError
from slem_app.rounds.lock import Busy
from slem_app.serving.http.learning_requests import parse_train
from slem_app.serving.learning.request_types import TrainRequest
from slem_app.serving.learning.training import ModelTrainer, Trainings

__all__ = ["adapt_router", "train_router"]

WAITS = "PENDING"  # MONAI Label's word
LATER = "begins when the round before has ended"
LOOK = 0.5  # seconds between two looks whether a round has ended


def train_router(trainings: Trainings, trainers: Mapping[str, ModelTrainer]) -> APIRouter:
    """The routes over a server's trainers. Requests that wait for the end of a round hold no thread, so
    others are answered meanwhile, however many wait.
    """
    router = APIRouter(prefix="/train", tags=["Train"])

    @router.get("/", summary="Get Status of Training Task")
    def status(all: bool = False, check_if_running: bool = False) -> Any:
        return _status(trainings, all, check_if_running)

    @router.post("/", summary="Run All Training Tasks")
    async def run_all(params: dict | None = None, run_sync: bool = False) -> dict[str, Any]:
        return await _run_all(trainings, trainers, params or {}, run_sync)

    @router.post("/{model}", summary="Run Training Task for specific model")
    async def run_model(
        model: str, params: dict | None = None, run_sync: bool = False, enqueue: bool = False
    ) -> Any:
        trainer, asked = _trainer(trainers, model), parse_train(params or {})
        try:
            return await _begin(trainings, trainer, asked, run_sync)
        except Busy:
            if not enqueue:
                raise
        await run_in_threadpool(trainings.later, trainer.watcher, asked)
        return {"status": WAITS, "request": {**(params or {}), "model": model}, "details": [LATER]}

    @router.delete("/", summary="Stop Training Task")
    def stop() -> Any:
        return trainings.stop()

    return router


def adapt_router(trainings: Trainings, trainers: Mapping[str, ModelTrainer]) -> APIRouter:
    """The route that makes a model at home in the server's archive; it takes hours of a server, so it is an
    administrator's. `/train/` tells how it goes, and stops it.
    """
    router = APIRouter(prefix="/slem/adapt", tags=["Train"])

    @router.post("/{model}", summary="Learn without labels from all studies of the server")
    async def run(model: str, params: dict | None = None) -> Any:
        trainer = _trainer(trainers, model)
        return await _begin(trainings, trainer, replace(parse_train(params or {}), archive=True), False)

    return router


def _trainer(trainers: Mapping[str, ModelTrainer], model: str) -> ModelTrainer:
    if model not in trainers:
        raise NotFound(
            f"no model {model!r} can be trained here; those that can: {', '.join(trainers) or 'none'}"
        )
    return trainers[model]


def _status(trainings: Trainings, every: bool, only_running: bool) -> Any:
    running = trainings.running()
    if only_running and running is None:
        raise HTTPException(404, "No Train Tasks are currently Running")
    tasks = [trainings.task(running)] if only_running and running else trainings.tasks()
    if not tasks:
        raise HTTPException(404, "No Train Tasks Found")
    return tasks if every and not only_running else tasks[-1]


async def _run_all(
    trainings: Trainings, trainers: Mapping[str, ModelTrainer], params: Mapping[str, Any], wait: bool
) -> dict[str, Any]:
    """Every model that has labels, one after the other: the first begins, the others wait for their turn.

    Raises:
        SlemError: none can begin nor wait; the first one's reason.
    """
    told: dict[str, dict[str, Any]] = {}
    reasons = []
    for model, trainer in trainers.items():
        own = params.get(model)
        request = {**params, **(own if isinstance(own, Mapping) else {})}
        begun = any(one["result"] for one in told.values())
        try:
            asked = parse_train(request)
            told[model] = await _begun_or_later(trainings, trainer, asked, wait, begun)
        except Busy as error:
            told[model] = {"result": None, "detail": str(error)}
        except SlemError as error:  # most often: nothing is labelled for this one
            told[model] = {"result": None, "detail": str(error)}
            reasons.append(error)
    if len(reasons) == len(told) and reasons:
        raise reasons[0]
    return told


async def _begun_or_later(
    trainings: Trainings, trainer: ModelTrainer, request: TrainRequest, wait: bool, begun: bool
) -> dict[str, Any]:
    """Start a round now, or after the one that this request has `begun`; another's round is not waited for.

    Raises:
        SlemError: neither is possible.
    """
    try:
        return {"result": await _begin(trainings, trainer, request, wait), "detail": None}
    except Busy as error:
        if not begun:
            raise
        await run_in_threadpool(trainings.later, trainer.watcher, request)
        return {"result": None, "detail": f"{LATER} ({error})"}


async def _begin(trainings: Trainings, trainer: ModelTrainer, request: TrainRequest, wait: bool) -> Any:
    """Start a round, and wait for its end where that is wanted."""
    task = await run_in_threadpool(trainer.start, request)
    if not wait:
        return task
    while await run_in_threadpool(trainings.running) is not None:
        await asyncio.sleep(LOOK)
    return await run_in_threadpool(trainer.stats)
