"""Routes of the Train buttons. They answer in MONAI Label's words, but hold no process of it; only
fine-tuning can be started by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, HTTPException

from slem_app.errors import NotFound, SlemError
from slem_app.rounds.job import Busy
from slem_app.serving.learning.training import ModelTrainer, Trainings

__all__ = ["train_router"]


def train_router(trainings: Trainings, trainers: Mapping[str, ModelTrainer]) -> APIRouter:
    """The routes over a server's trainers. Waiting is done in threads, so other requests are answered
    meanwhile.
    """
    router = APIRouter(prefix="/train", tags=["Train"])

    @router.get("/", summary="Get Status of Training Task")
    def status(all: bool = False, check_if_running: bool = False) -> Any:
        return _status(trainings, all, check_if_running)

    @router.post("/", summary="Run All Training Tasks")
    def run_all(params: dict | None = None, run_sync: bool = False) -> dict[str, Any]:
        return _run_all(trainings, trainers, params or {}, run_sync)

    @router.post("/{model}", summary="Run Training Task for specific model")
    def run_model(
        model: str, params: dict | None = None, run_sync: bool = False, enqueue: bool = False
    ) -> Any:
        if model not in trainers:
            raise NotFound(
                f"no model {model!r} can be trained here; those that can: {', '.join(trainers) or 'none'}"
            )
        if enqueue:
            trainings.wait()
        return _begin(trainers[model], params or {}, run_sync)

    @router.delete("/", summary="Stop Training Task")
    def stop() -> Any:
        return trainings.stop()

    return router


def _status(trainings: Trainings, every: bool, only_running: bool) -> Any:
    running = trainings.running()
    if only_running and running is None:
        raise HTTPException(404, "No Train Tasks are currently Running")
    tasks = [trainings.task(running)] if only_running and running else trainings.tasks()
    if not tasks:
        raise HTTPException(404, "No Train Tasks Found")
    return tasks if every and not only_running else tasks[-1]


def _run_all(
    trainings: Trainings, trainers: Mapping[str, ModelTrainer], params: Mapping[str, Any], wait: bool
) -> dict[str, Any]:
    """Every model that has labels, one after the other: the first begins, the others wait for their turn.

    Raises:
        SlemError: none can begin nor wait; the first one's reason.
    """
    told, reasons = {}, []
    for model, trainer in trainers.items():
        request = {**params, **(params.get(model) or {})}
        try:
            told[model] = {"result": _begin(trainer, request, wait), "detail": None}
        except Busy as error:
            if any(
                one["result"] for one in told.values()
            ):  # of this request: another's round is not waited for
                trainings.later(trainer.watcher, request)
                told[model] = {"result": None, "detail": f"begins when the round before has ended ({error})"}
            else:
                told[model] = {"result": None, "detail": str(error)}
        except SlemError as error:  # most often: nothing is labelled for this one
            told[model] = {"result": None, "detail": str(error)}
            reasons.append(error)
    if len(reasons) == len(told) and reasons:
        raise reasons[0]
    return told


def _begin(trainer: ModelTrainer, request: Mapping[str, Any], wait: bool) -> Any:
    return trainer.run(request) if wait else trainer.start(request)
