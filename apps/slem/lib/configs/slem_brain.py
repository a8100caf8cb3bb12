"""Glioma in up to four sequences: necrosis, edema, enhancing tumor."""

from slem_app.serving.server import ModelConfig


class SlemBrain(ModelConfig):
    """Everything about the model is in `pretrained/slem_brain/card.yaml`."""

    def infer(self):
        return self.serving.segmentation(self.name)

    def trainer(self):
        return self.serving.training(self.name)
