"""A server that has what a round needs: labelled studies and a model that learns in seconds."""

from collections.abc import Callable
from pathlib import Path

import requests

from slem_app import phantom
from slem_app.formats import write_nifti
from slem_app.weights import BRAIN_LABELS

from .slicer_client import untrained

SMALL = {"shape": (40, 48, 40), "spacing": (4.0, 4.0, 4.0)}


def learning_server(start_server: Callable, tmp_path: Path) -> str:
    """A server on four DICOM studies, three of which a reader has labelled: OHIF itself cannot submit a
    label.
    """
    heads = {
        name: phantom.make(seed=seed, **SMALL) for seed, name in enumerate(("ann", "ben", "cid", "dan"), 1)
    }
    for name, head in heads.items():
        phantom.write_dicom(head, tmp_path / "studies", name)
    options = {
        "models_dir": untrained(tmp_path / "models"),
        "models": "slem_brain",
        "store": tmp_path / "store",
        "score_load": 0,
    }
    address = start_server(
        tmp_path / "studies",
        *(part for key, value in options.items() for part in ("--conf", key, str(value))),
    ).url
    for name in ("ann", "ben", "cid"):
        path = tmp_path / f"{name}.nii.gz"
        write_nifti(heads[name].labels, heads[name].grid, BRAIN_LABELS, path)
        with path.open("rb") as file:
            answer = requests.put(
                f"{address}/datastore/label",
                params={"image": name},
                files={"label": (path.name, file)},
                timeout=120,
            )
        assert answer.ok, answer.text
    return address
