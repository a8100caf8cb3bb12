"""The server's models, training and strategies as MONAI Label lists them in `/info/`.

Adapters hold no state and decide nothing: they put what the other rooms say into MONAI Label's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from slem_app.serving.http.learning_requests import parse_next_case, parse_train
from slem_app.serving.http.next_case_routes import to_json
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.learning.next_case import Chooser
from slem_app.serving.learning.training import ModelTrainer
from slem_app.serving.models.inference import options
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.segment import SegmentationTask
from slem_app.serving.monai.requests import infer
from slem_app.serving.server import Serving

__all__ = ["InferAdapter", "StrategyAdapter", "TrainAdapter", "infer_tasks", "strategies", "trainers"]

Datastore.register(CaseDatastore)  # it has all of its methods, which a test checks


class InferAdapter(InferTask):
    """A model as MONAI Label lists it; requests reach it through the server.

    Args:
        task: the model.
        serving: the server, for requests that MONAI Label makes itself.
        name: under which clients know the model.
    """

    def __init__(
        self, task: SegmentationTask | InteractiveTask, serving: Serving | None = None, name: str = ""
    ) -> None:
        super().__init__(
            type=InferType(task.kind.value),
            labels=dict(task.labels),
            dimension=3,
            description=task.description,
            config=options(task.kind, task.sequences),
        )
        self.task, self.serving, self.name = task, serving, name

    def info(self) -> dict[str, Any]:
        return {**super().info(), "version": self.task.predictor.card.version}

    def is_valid(self) -> bool:
        return True

    def get_path(self, validate: bool = True) -> str:
        return str(self.task.weights)

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        if self.serving is None:
            raise TypeError("this model belongs to no server")
        result = infer(self.serving, {**request, "model": self.name})
        return result["file"], result["params"]


class TrainAdapter(TrainTask):
    """A model that learns, as MONAI Label lists it."""

    def __init__(self, trainer: ModelTrainer) -> None:
        super().__init__(trainer.description)
        self.trainer = trainer

    def info(self) -> dict[str, Any]:
        return {**super().info(), "labels": list(self.trainer.labels)}

    def config(self) -> dict[str, Any]:
        return self.trainer.config()

    def stats(self) -> dict[str, Any]:
        return self.trainer.stats()

    def __call__(self, request: Mapping[str, Any], datastore: Any = None) -> dict[str, Any]:
        return self.trainer.run(parse_train(request))


class StrategyAdapter(Strategy):
    """One strategy as MONAI Label lists it and asks it."""

    def __init__(self, name: str, about: str, chooser: Chooser) -> None:
        super().__init__(about)
        self.name, self.chooser = name, chooser

    def info(self) -> dict[str, Any]:
        return {**super().info(), "config": self.config()}

    def config(self) -> dict[str, Any]:
        """What a client may set: for which model the case is to be, where there are several."""
        options = self.chooser.options()
        return {"model": list(options)} if options else {}

    def __call__(self, request: Mapping[str, Any], datastore: CaseDatastore) -> dict[str, Any] | None:
        chosen = self.chooser.next(parse_next_case({**request, "strategy": self.name}), datastore)
        return None if chosen is None else to_json(chosen)


def infer_tasks(serving: Serving) -> dict[str, InferTask]:
    """All models of a server by name."""
    return {name: InferAdapter(task, serving, name) for name, task in serving.tasks.items()}


def trainers(serving: Serving) -> dict[str, TrainTask]:
    """All models of a server that can learn, by name."""
    return {name: TrainAdapter(trainer) for name, trainer in serving.trainers.items()}


def strategies(chooser: Chooser) -> dict[str, Strategy]:
    """All strategies by name, the default first."""
    return {name: StrategyAdapter(name, about, chooser) for name, about in chooser.strategies().items()}
