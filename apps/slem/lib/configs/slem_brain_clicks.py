"""The model `slem_brain`, corrected by the reader's clicks; offered where its weights were trained with
prompts.
"""

from monailabel.interfaces.config import TaskConfig

from slem_app.serving.models.task_kind import TaskKind


class SlemBrainClicks(TaskConfig):
    """Everything about the model is in `pretrained/slem_brain/card.yaml`; what MONAI Label asks is answered
    by `slem_app.serving`.
    """

    def infer(self):
        return self.kwargs["serving"].interactive("slem_brain", TaskKind.CLICKS)

    def trainer(self):
        return None
