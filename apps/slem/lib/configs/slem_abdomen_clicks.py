"""The model `slem_abdomen`, corrected by the reader's clicks."""

from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.server import ModelConfig


class SlemAbdomenClicks(ModelConfig):
    """Everything about the model is in `pretrained/slem_abdomen/card.yaml`."""

    def infer(self):
        return self.serving.interactive("slem_abdomen", TaskKind.CLICKS)
