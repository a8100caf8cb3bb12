"""Results of labels, with a PACS and without."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from slem_app import phantom
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.open_studies import open_studies
from slem_app.serving.dicom.export import PacsResults, ResultExchange
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.settings import Settings
from slem_app.store.dicom_results import DicomResults
from slem_app.weights import BRAIN_LABELS
from tests.fake_pacs import FakePacs, running

SMALL = {"shape": (16, 18, 12), "spacing": (9.0, 9.0, 12.0)}


@pytest.fixture(scope="module")
def head() -> phantom.Phantom:
    return phantom.make(seed=1, **SMALL)


@pytest.fixture(scope="module")
def folder(head: phantom.Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    studies = tmp_path_factory.mktemp("studies")
    phantom.write_dicom(head, studies, "ann", extras=True)
    phantom.write_dicom(phantom.make(seed=2, **SMALL), studies, "ben")
    return studies


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakePacs]:
    with running(FakePacs(folder, tmp_path_factory.mktemp("pacs"))) as pacs:
        yield pacs


@pytest.fixture
def pacs(server: FakePacs) -> Iterator[FakePacs]:
    yield server
    server.mend()
    shutil.rmtree(server.dicom_results.root, ignore_errors=True)


@pytest.fixture
def away(pacs: FakePacs, tmp_path: Path) -> ResultExchange:
    """Results of a PACS."""
    cases = Cases(open_studies(pacs.url, Settings(), tmp_path / "store"), tmp_path / "store/uploads")
    object.__setattr__(cases.pacs.pacs, "pause", 0.01)
    return ResultExchange(
        CaseDatastore(cases, tmp_path / "store", {"slem_brain": BRAIN_LABELS}), PacsResults(cases.pacs)
    )


@pytest.fixture
def here(folder: Path, tmp_path: Path) -> ResultExchange:
    """Results of a folder."""
    datastore = CaseDatastore(
        Cases(folder, tmp_path / "store/uploads"), tmp_path / "store", {"slem_brain": BRAIN_LABELS}
    )
    return ResultExchange(datastore, DicomResults(tmp_path / "store/dicom"))


@pytest.fixture(params=["away", "here"])
def results(request: pytest.FixtureRequest) -> ResultExchange:
    return request.getfixturevalue(request.param)
