"""Case + model -> label map on the reference grid."""

from slem_app.predict.assessable import answer, assessed, given, lost, misleading
from slem_app.predict.correct import Detail, EditSettings
from slem_app.predict.predictor import PRECISIONS, Prediction, Predictor, best_precision
from slem_app.predict.refine import Features, Refiner, RefineSettings, Result

__all__ = [
    "PRECISIONS",
    "Detail",
    "EditSettings",
    "Features",
    "Prediction",
    "Predictor",
    "RefineSettings",
    "Refiner",
    "Result",
    "answer",
    "assessed",
    "best_precision",
    "given",
    "lost",
    "misleading",
]
