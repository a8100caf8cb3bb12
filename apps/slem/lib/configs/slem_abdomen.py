"""Upper abdomen in up to three sequences: liver, right kidney, left kidney, spleen."""

from monailabel.interfaces.config import TaskConfig


class SlemAbdomen(TaskConfig):
    """Everything about the model is in `pretrained/slem_abdomen/card.yaml`; what MONAI Label asks is answered
    by `slem_app.serving`.
    """

    def infer(self):
        return self.kwargs["serving"].segmentation(self.name)

    def trainer(self):
        return self.kwargs["serving"].training(self.name)
