"""Glioma in up to four sequences: necrosis, edema, enhancing tumor."""

from monailabel.interfaces.config import TaskConfig


class SlemBrain(TaskConfig):
    """Everything about the model is in `pretrained/slem_brain/card.yaml`; what MONAI Label asks is answered
    by `slem_app.serving`.
    """

    def infer(self):
        return self.kwargs["serving"].segmentation(self.name)

    def trainer(self):
        return self.kwargs["serving"].training(self.name)
