"""The model `slem_brain`, corrected by the reader's scribbles."""

from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.server import ModelConfig


class SlemBrainScribbles(ModelConfig):
    """Everything about the model is in `pretrained/slem_brain/card.yaml`."""

    def infer(self):
        return self.serving.interactive("slem_brain", TaskKind.SCRIBBLES)
