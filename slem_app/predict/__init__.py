"""Case + model -> label map on the reference grid."""

from slem_app.predict.predictor import PRECISIONS, Prediction, Predictor, best_device, best_precision

__all__ = ["PRECISIONS", "Prediction", "Predictor", "best_device", "best_precision"]
