"""Upper abdomen in up to three sequences: liver, right kidney, left kidney, spleen."""

from slem_app.serving.server import ModelConfig


class SlemAbdomen(ModelConfig):
    """Everything about the model is in `pretrained/slem_abdomen/card.yaml`."""

    def infer(self):
        return self.serving.segmentation(self.name)

    def trainer(self):
        return self.serving.training(self.name)
