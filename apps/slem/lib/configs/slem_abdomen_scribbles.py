"""The model `slem_abdomen`, corrected by the reader's scribbles; offered where its weights were trained with
prompts.
"""

from monailabel.interfaces.config import TaskConfig

from slem_app.serving.models.task_kind import TaskKind


class SlemAbdomenScribbles(TaskConfig):
    """Everything about the model is in `pretrained/slem_abdomen/card.yaml`; what MONAI Label asks is answered
    by `slem_app.serving`.
    """

    def infer(self):
        return self.kwargs["serving"].interactive("slem_abdomen", TaskKind.SCRIBBLES)

    def trainer(self):
        return None
