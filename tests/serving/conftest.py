"""Small phantoms in a studies folder, a model that was never trained, and a datastore over them."""

import dataclasses
import itertools
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import uvicorn
from monailabel.interfaces.app import MONAILabelApp
from monailabel.utils.others.class_utils import get_class_of_subclass_from_file

from slem_app import phantom
from slem_app.network import SegmenterConfig
from slem_app.predict import Predictor
from slem_app.regions import PostProcess
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.models.byte_cache import ByteCache
from slem_app.serving.models.compute import Caches, Compute, LocalCompute
from slem_app.serving.models.history import EditHistory
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.segment import SegmentationTask
from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.models.versions import ServedVersions
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, load_model, save_model
from tests.serving.language import Desk
from tests.untrained import noisy, small_card

SMALL = {"shape": (40, 48, 40), "spacing": (4.0, 4.0, 4.0)}


@pytest.fixture(scope="session")
def heads() -> dict[str, phantom.Phantom]:
    return {
        "A": phantom.make(seed=1, **SMALL),
        "B": phantom.make(seed=2, oblique=True, own_grids=True, **SMALL),
    }


@pytest.fixture(scope="session")
def subsets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the folders `nifti` and `dicom`: each has one head 15 times, with each set of the four
    sequences, after which the cases are named.
    """
    folder, head = (
        tmp_path_factory.mktemp("subsets"),
        phantom.make(seed=3, shape=(24, 28, 20), spacing=(8.0, 8.0, 8.0)),
    )
    for kept in (kept for count in range(1, 5) for kept in itertools.combinations(BRAIN_SEQUENCES, count)):
        one = dataclasses.replace(
            head,
            images={name: head.images[name] for name in kept},
            grids={name: head.grids[name] for name in kept},
        )
        phantom.write_nifti(one, folder / "nifti", "_".join(kept))
        phantom.write_dicom(one, folder / "dicom", "_".join(kept))
    return folder


@pytest.fixture
def studies(heads: dict[str, phantom.Phantom], tmp_path: Path) -> Path:
    for name, head in heads.items():
        phantom.write_nifti(head, tmp_path / "studies", name)
    return tmp_path / "studies"


SHIFT = (3, -2, 2)
"""Voxels by which `shifted` moves the head."""


@pytest.fixture
def shifted(studies: Path) -> Path:
    """The studies folder, where the head of A lies `SHIFT` voxels further in its t2f, on the same grid."""
    path = studies / "A/A-t2f.nii.gz"
    image = nibabel.load(path)
    head = np.roll(np.asarray(image.dataobj), SHIFT, axis=(0, 1, 2))
    nibabel.save(nibabel.Nifti1Image(head, image.affine), path)
    return studies


@pytest.fixture
def cases(studies: Path, tmp_path: Path) -> Cases:
    return Cases(studies, tmp_path / "store" / "uploads")


@pytest.fixture
def datastore(cases: Cases, tmp_path: Path) -> CaseDatastore:
    return CaseDatastore(cases, tmp_path / "store", {"slem_brain": BRAIN_LABELS})


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one, whose threshold is the share that it starts from, so that its labels are
    noise, and many.
    """
    folder = tmp_path_factory.mktemp("models")
    card = small_card(
        name="slem_brain",
        version="test",
        description="untrained",
        postprocess=PostProcess(threshold=SegmenterConfig().prior),
    )
    save_model(folder / "slem_brain", card, noisy())
    return folder


@pytest.fixture(scope="session")
def click_models(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in another folder."""
    folder = tmp_path_factory.mktemp("click_models")
    shutil.copytree(models / "slem_brain", folder / "slem_brain")
    return folder


MAIN = Path(__file__).parents[2] / "apps/slem/main.py"


@contextmanager
def app_over(heads: dict[str, phantom.Phantom], folder: Path, **conf: str) -> Iterator[MONAILabelApp]:
    """The app over a studies folder with these phantoms, found by MONAI Label's own routes too."""
    for name, head in heads.items():
        phantom.write_nifti(head, folder / "studies", name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(folder / "sessions"))
        patch.setattr("monailabel.config.settings.MONAI_LABEL_APP_DIR", str(MAIN.parent))
        patch.setattr("monailabel.config.settings.MONAI_LABEL_STUDIES", str(folder / "studies"))
        kind = get_class_of_subclass_from_file("main", str(MAIN), "MONAILabelApp")
        app = kind(str(MAIN.parent), str(folder / "studies"), {"store": str(folder / "store"), **conf})
        patch.setattr("monailabel.interfaces.utils.app.apps", {f"{MAIN.parent}{folder / 'studies'}": app})
        yield app


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An ASGI application, answering at the address that this gives, as MONAI Label lets uvicorn serve it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def serve() -> Callable[[Any], Any]:
    """`with serve(app) as url`."""
    return served


@pytest.fixture(scope="session")
def open_app() -> Callable[..., Any]:
    """`with open_app(heads, folder, key="value") as instance`."""
    return app_over


def nothing_kept() -> Caches:
    """Room for what a test needs, but automatic results are made each time."""
    return dataclasses.replace(Caches.of_size(64, 64), results=ByteCache(0, lambda one: one.nbytes))


@pytest.fixture
def make_task(click_models: Path, tmp_path: Path) -> Callable[..., InteractiveTask]:
    """A new server's task, with nothing remembered."""
    (tmp_path / "results").mkdir()
    model = load_model(click_models / "slem_brain")

    def make(
        kind: TaskKind = TaskKind.CLICKS,
        memory: EditHistory | None = None,
        megabytes: int = 64,
        register: bool = False,
        compute: Compute | None = None,
    ) -> InteractiveTask:
        compute = compute or LocalCompute(nothing_kept(), register)
        automatic = SegmentationTask(ServedVersions(Predictor(model)), compute, tmp_path / "results")
        return InteractiveTask(automatic, memory or EditHistory(megabytes * 2**20), kind)

    return make


@pytest.fixture
def task(make_task: Callable) -> InteractiveTask:
    return make_task()


@pytest.fixture
def sit(task: InteractiveTask, cases: Cases) -> Callable[..., Desk]:
    """`sit("B/t2f", client_id="ann")`: a reader in front of an image."""
    return lambda key="A", task=task, **fields: Desk(task, {"case": cases.find(key), **fields})


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`sent(array, grid)`: a label file as MONAI Label keeps one that came with a request."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    def write(array: np.ndarray, desk: Desk, name: str = "tmpabcdefgh.nii.gz") -> Path:
        nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), desk.grid.affine), folder / name)
        return folder / name

    return write
