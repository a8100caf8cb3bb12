"""Case + model -> label map on the reference grid."""

from slem_app.predict.answers import Detail
from slem_app.predict.assessable import answer, assessed, given, lost, misleading
from slem_app.predict.correct import EditSettings
from slem_app.predict.predictor import PRECISIONS, Prediction, Predictor, best_precision
from slem_app.predict.refine import Refiner, Result

__all__ = [
    "PRECISIONS",
    "Detail",
    "EditSettings",
    "Prediction",
    "Predictor",
    "Refiner",
    "Result",
    "answer",
    "assessed",
    "best_precision",
    "given",
    "lost",
    "misleading",
]
