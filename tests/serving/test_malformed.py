"""Malformed DICOM files through the whole server: in the studies folder and sent up; every answer is quick,
and an error says its reason.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
import requests

from slem_app import phantom
from slem_app.serving.http.application import build
from tests.spoil import spoil

SLOW = 20.0  # seconds that no answer may take, on a machine that is busy with tests
TINY = {"shape": (16, 18, 12), "spacing": (12.0, 12.0, 12.0)}

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom warns of nearly everything here


class Folder:
    """A server over one study, one slice of which is spoiled again and again."""

    def __init__(self, url: str, studies: Path) -> None:
        self.url, self.slices = url, sorted(studies.rglob("*.dcm"))
        self.whole = {path: path.read_bytes() for path in self.slices}
        headers = {path: pydicom.dcmread(path, stop_before_pixels=True) for path in self.slices}
        self.study = headers[self.slices[0]].StudyInstanceUID
        self.uids = {
            path: (header.SeriesInstanceUID, header.SOPInstanceUID) for path, header in headers.items()
        }
        self.web = requests.Session()

    def ask(self, method: str, path: str, **fields: object) -> requests.Response:
        start = time.monotonic()
        answer = self.web.request(method, self.url + path, timeout=120, **fields)
        assert time.monotonic() - start < SLOW, path
        assert answer.status_code < 500, f"{method} {path}: {answer.text}"
        if answer.status_code >= 400:
            assert answer.json()["detail"], path
        assert "Traceback" not in answer.text[:10_000]
        return answer

    def look(self, seed: int) -> None:
        """Everything that a viewer asks, with a spoiled slice among the good ones."""
        path = self.slices[seed % len(self.slices)]
        path.write_bytes(spoil(self.whole[path], seed))
        try:
            self.ask("GET", f"/dicom-web/studies/{self.study}/series")
            where = f"/dicom-web/studies/{self.study}/series/{self.uids[path][0]}"
            self.ask("GET", f"{where}/metadata")
            self.ask("GET", f"{where}/instances/{self.uids[path][1]}/frames/1")
            self.ask("POST", "/infer/slem_brain?image=ann&output=json")
            self.ask("GET", "/datastore/image?image=ann")
        finally:
            path.write_bytes(self.whole[path])

    def send(self, seed: int) -> None:
        """A spoiled file as a session of its own, segmented."""
        path = self.slices[seed % len(self.slices)]
        answer = self.ask("PUT", "/session/", files={"files": ("a.dcm", spoil(self.whole[path], seed))})
        if answer.ok:
            self.ask("POST", f"/infer/slem_brain?session_id={answer.json()['session_id']}&output=json")


@pytest.fixture(scope="module")
def folder(
    models: Path, open_app: Callable, serve: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Folder]:
    where = tmp_path_factory.mktemp("malformed")
    phantom.write_dicom(phantom.make(seed=1, **TINY), where / "studies", "ann")
    with (
        open_app({}, where, models_dir=str(models), score_load="0") as app,
        serve(build(app.serving)) as url,
    ):
        one = Folder(url, where / "studies")
        assert one.ask("POST", "/infer/slem_brain?image=ann&output=json").json()["missing"] == []
        yield one
        # as if nothing had been
        assert one.ask("POST", "/infer/slem_brain?image=ann&output=json").json()["missing"] == []
        one.web.close()


@pytest.mark.parametrize(
    "count", [18, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_a_study_with_a_malformed_file_is_shown_or_refused_with_a_reason(folder: Folder, count: int) -> None:
    for seed in range(count):
        folder.look(seed)


@pytest.mark.parametrize(
    "count", [18, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_a_malformed_file_that_is_sent_is_refused_with_a_reason(folder: Folder, count: int) -> None:
    for seed in range(10_000, 10_000 + count):
        folder.send(seed)
