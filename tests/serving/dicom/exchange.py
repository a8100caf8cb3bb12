"""Cases and label versions whose DICOM results are sent and fetched."""

import numpy as np

from slem_app.serving.cases.case import Case
from slem_app.serving.dicom.export import ResultExchange
from slem_app.store.labels import LabelVersion
from slem_app.weights import BRAIN_LABELS


def find(results: ResultExchange, sequence: str = "t1c", patient: str = "ann") -> Case:
    for name in results.datastore.cases.ids():
        case = results.datastore.cases.find(f"{name}/{sequence}")
        if case.series.header["PatientID"] == patient:
            return case
    raise AssertionError(patient)


def drawn(case: Case, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, case.series.grid.shape).astype(np.uint8)


def keep(results: ResultExchange, case: Case, array: np.ndarray) -> LabelVersion:
    return results.datastore.writer.keep(case, "final", array, BRAIN_LABELS, {"client_id": "eva"})


def uid(case: Case) -> str:
    return str(case.series.header["StudyInstanceUID"])
