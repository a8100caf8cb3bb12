"""The model `slem_abdomen`, corrected by the reader's scribbles."""

from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.server import ModelConfig


class SlemAbdomenScribbles(ModelConfig):
    """Everything about the model is in `pretrained/slem_abdomen/card.yaml`."""

    def infer(self):
        return self.serving.interactive("slem_abdomen", TaskKind.SCRIBBLES)
