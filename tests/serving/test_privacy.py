"""A patient's name stays in the files: everything is driven, and then looked for in logs, caches, notes,
answers of failure and the audit log.
"""

import contextlib
import gzip
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
import requests
from monailabel.interfaces.app import MONAILabelApp

from slem_app import phantom
from slem_app.serving import asgi  # noqa: F401, it takes queries out of uvicorn's log
from slem_app.serving.http.application import build
from tests.spoil import KINDS, spoil

NAMES = ("Zacharias", "Quentin", "PID7734", "19330507", "Doktor", "Ferdinand")
TINY = {"shape": (16, 18, 12), "spacing": (12.0, 12.0, 12.0)}
SEED = {kind.__name__: number for number, kind in enumerate(KINDS)}

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom's, of spoiled files; they are looked at below


class World:
    """A server, what it answered in failure, and where it writes."""

    def __init__(self, url: str, folder: Path, app: MONAILabelApp) -> None:
        self.url, self.folder, self.app = url, folder, app
        self.slices = sorted((folder / "studies").rglob("*.dcm"))
        self.refusals: list[str] = []

    def ask(self, method: str, path: str, **fields: object) -> requests.Response:
        answer = requests.request(
            method, self.url + path, timeout=60, headers={"Connection": "close"}, **fields
        )
        if answer.status_code >= 400:
            self.refusals.append(answer.text)
        return answer


@pytest.fixture(scope="module")
def world(
    click_models: Path, open_app: Callable, serve: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("private")
    phantom.write_dicom(phantom.make(seed=1, **TINY), folder / "studies", "case1")
    for path in (folder / "studies").rglob("*.dcm"):
        image = pydicom.dcmread(path)
        image.PatientName, image.PatientID, image.PatientBirthDate = (
            "Zacharias^Quentin",
            "PID7734",
            "19330507",
        )
        image.ReferringPhysicianName, image.OperatorsName = "Doktor^X", "Ferdinand^Y"
        image.save_as(path)
    with (
        open_app({}, folder, models_dir=str(click_models), score_load="0") as app,
        serve(build(app.serving)) as url,
    ):
        yield World(url, folder, app)


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> Callable[[], str]:
    """All that was logged at any level, or warned of, which goes to the same place."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "urllib3")  # the client of these tests
    return lambda: caplog.text + "\n".join(str(one.message) for one in recwarn.list)


def drive(world: World) -> None:
    """What clients do, right and wrong."""
    study = pydicom.dcmread(world.slices[0], stop_before_pixels=True).StudyInstanceUID
    assert "Zacharias" in world.ask("GET", f"/dicom-web/studies/{study}/metadata").text  # a viewer shows it
    world.ask("GET", "/dicom-web/studies?PatientName=Zacharias*")
    world.ask("GET", "/dicom-web/studies?PatientName=Zacharias*&limit=many")
    assert world.ask("POST", "/activelearning/first", json={}).json()["id"] == "case1"
    assert world.ask("GET", "/datastore/image?image=case1").ok
    params = json.dumps(
        {"client_id": "x", "edema": [[8, 9, 6]], "label": "edema", "result_extension": ".nii.gz"}
    )
    label = world.ask("POST", "/infer/slem_brain_clicks?image=case1&output=image", data={"params": params})
    assert label.ok
    assert world.ask(
        "PUT", "/datastore/label?image=case1", files={"label": ("label.nii.gz", label.content)}
    ).ok
    assert world.ask("GET", "/datastore/dataset").ok
    world.ask("GET", "/datastore/?output=all")
    world.ask(
        "PUT",
        "/session/",
        files=[("files", (f"{k}.dcm", path.read_bytes())) for k, path in enumerate(world.slices)],
    )
    world.ask("PUT", "/datastore/?image=new", files={"file": ("new.nii.gz", world.slices[0].read_bytes())})
    world.ask("POST", "/infer/slem_brain?image=nobody")


def spoiled(world: World) -> None:
    """Damaged headers among good ones, each kind of damage that may put a name where something
    else belongs.
    """
    path = world.slices[3]
    whole = path.read_bytes()
    image = pydicom.dcmread(path)
    header = f"/dicom-web/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}"
    for number in range(12):
        for kind in ("_wrong_vr", "_huge_length", "_wrong_text", "_flipped"):
            path.write_bytes(spoil(whole, SEED[kind] + number * len(KINDS)))
            world.ask("GET", f"{header}/metadata")
        world.ask("POST", "/infer/slem_brain?image=case1&output=json")
    for vr in (b"DS", b"IS", b"FD", b"US", b"SQ", b"UI", b"DA", b"TM", b"AT"):
        place = whole.find(b"\x10\x00\x10\x00PN")
        path.write_bytes(whole[: place + 4] + vr + whole[place + 6 :])
        for what in (f"{header}/metadata", "/dicom-web/studies", "/datastore/image?image=case1"):
            world.ask("GET", what)
        world.ask("POST", "/infer/slem_brain?image=case1&output=json")
    path.write_bytes(whole)


def test_no_name_is_in_logs_caches_notes_or_failures(world: World, heard: Callable[[], str]) -> None:
    drive(world)
    spoiled(world)
    assert len(world.refusals) > 10
    for text in (heard(), *world.refusals):
        assert [
            text[max(0, text.find(name) - 200) : text.find(name) + 50] for name in NAMES if name in text
        ] == []
    written = [path for path in (world.folder / "store").rglob("*") if path.is_file()]
    # a DICOM result belongs to the patient's study, and says so
    written = [path for path in written if path.suffix != ".dcm"]
    assert {path.relative_to(world.folder / "store").parts[0] for path in written} >= {
        "labels",
        "images",
        "notes",
        "audit",
    }
    for path in written:
        content = path.read_bytes()
        with contextlib.suppress(OSError, EOFError, zlib.error):
            content += gzip.decompress(content)
        assert [name for name in NAMES if name.encode() in content] == [], path


def test_what_is_searched_for_is_not_in_the_log_of_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.access")
    logger = logging.getLogger("uvicorn.access")
    logger.info(
        '%s - "%s %s HTTP/%s" %d',
        "127.0.0.1:1",
        "GET",
        "/dicom-web/studies?PatientName=Zacharias",
        "1.1",
        200,
    )
    assert '"GET /dicom-web/studies HTTP/1.1" 200' in caplog.text
    assert "Zacharias" not in caplog.text
