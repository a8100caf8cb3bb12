"""Clicks over HTTP, as OHIF and 3D Slicer send them: the reply, undo and starting over, refusals, two
browsers.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests
from requests_toolbelt.multipart.decoder import MultipartDecoder

from slem_app import phantom
from slem_app.formats import read_label_file

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAMES = ["necrosis", "edema", "enhancing tumor"]
OHIF = {
    "result_extension": ".nrrd",
    "result_dtype": "uint8",
    "result_compress": False,
    "restore_label_idx": False,
}
SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8"}


@dataclass
class Browser:
    """One viewer with its cookies."""

    url: str
    http: requests.Session
    folder: Path
    encoding: str = ""

    def clicks(self, image: str, model: str = "slem_brain_clicks", **params: object) -> np.ndarray:
        """As OHIF: the reply's body is the label map."""
        return self.read(
            self.http.post(
                f"{self.url}/infer/{model}",
                params={"image": image, "output": "image"},
                data=form(OHIF | params),
                timeout=300,
            )
        )

    def goes(self, where: str, image: str) -> np.ndarray:
        return self.read(
            self.http.post(
                f"{self.url}/slem/{where}/slem_brain_clicks",
                params={"image": image, "output": "image", "compress": False},
                timeout=300,
            )
        )

    def read(self, answer: requests.Response) -> np.ndarray:
        assert answer.ok, answer.text
        self.encoding = answer.headers.get("content-encoding", "")
        path = self.folder / "reply.nrrd"
        path.write_bytes(answer.content)
        return read_label_file(path)[0]


def form(params: dict) -> dict:
    return {"params": json.dumps(params)}


@pytest.fixture(scope="module")
def url(click_models: Path, start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    studies = tmp_path_factory.mktemp("studies")
    for name, seed in (("one", 1), ("two", 2)):
        phantom.write_nifti(
            phantom.make(seed=seed, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5)), studies, name
        )
    return start_server(
        studies,
        "--conf",
        "models_dir",
        str(click_models),
        "--conf",
        "models",
        "slem_brain,slem_brain_clicks,slem_brain_scribbles",
    ).url


@pytest.fixture
def browser(url: str, tmp_path: Path) -> Callable[[], Browser]:
    opened = []

    def open_one() -> Browser:
        session = requests.Session()
        session.get(f"{url}/info/", timeout=60).raise_for_status()
        opened.append(session)
        return Browser(url, session, tmp_path)

    yield open_one
    for session in opened:
        session.close()


def test_a_click_undo_and_starting_over(browser: Callable) -> None:
    ohif, voxel = browser(), (20, 20, 20)
    automatic = ohif.clicks("one", "slem_brain")
    np.testing.assert_array_equal(ohif.clicks("one", background=[]), automatic)
    first = ohif.clicks("one", background=[], edema=[voxel])
    assert first[voxel] == 2
    second = ohif.clicks("one", background=[voxel], **{"enhancing tumor": [(40, 40, 30)]}, edema=[])
    assert (second[voxel], second[40, 40, 30]) == (0, 3)
    np.testing.assert_array_equal(ohif.goes("undo", "one"), first)
    np.testing.assert_array_equal(ohif.goes("start_over", "one"), automatic)
    np.testing.assert_array_equal(ohif.goes("undo", "one"), first)
    assert ohif.encoding == "gzip"  # on its way; the label map itself is raw
    assert b"encoding: raw" in (ohif.folder / "reply.nrrd").read_bytes()[:1000]


def test_two_browsers_do_not_mix(browser: Callable) -> None:
    ann, ben, voxel = browser(), browser(), (22, 22, 22)
    ann.clicks("two", background=[], edema=[voxel])
    before = ben.clicks("two", background=[], necrosis=[voxel])
    ann.goes("undo", "two")
    np.testing.assert_array_equal(ben.clicks("two", background=[], necrosis=[voxel]), before)


@pytest.mark.parametrize(
    ("params", "status", "text"),
    [
        ({"edema": [[64, 0, 0]]}, 422, "lies outside the image of 64x72x56 voxels"),
        ({"edema": [[None, 0, 0]]}, 422, "three whole numbers are needed"),
        ({"oedema": [[1, 1, 1]]}, 422, "unknown label 'oedema'"),
        ({"undo": True, "client_id": "nobody"}, 422, "there is nothing to undo"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(url: str, params: dict, status: int, text: str) -> None:
    answer = requests.post(
        f"{url}/infer/slem_brain_clicks", params={"image": "one"}, data=form(SLICER | params), timeout=300
    )
    assert answer.status_code == status
    assert text in answer.json()["detail"]


def test_nan_is_refused(url: str) -> None:
    answer = requests.post(
        f"{url}/infer/slem_brain_clicks",
        params={"image": "one"},
        data={"params": '{"edema": [[NaN, 1, 1]]}'},
        timeout=300,
    )
    assert (answer.status_code, "NaN" in answer.text) == (400, True)


def test_undo_without_an_image_is_refused(url: str) -> None:
    answer = requests.post(f"{url}/slem/undo/slem_brain_clicks", timeout=60)
    assert (answer.status_code, answer.json()["error"]) == (400, "BadSetting")


def test_slicers_reply_is_compressed_and_says_what_it_cost(url: str) -> None:
    params = SLICER | {
        "client_id": "ann",
        "label": "edema",
        "edema": [[20, 20, 20]],
        "necrosis": [],
        "enhancing tumor": [],
        "background": [],
    }
    answer = requests.post(
        f"{url}/infer/slem_brain_clicks", params={"image": "one"}, data=form(params), timeout=300
    )
    parts = MultipartDecoder.from_response(answer).parts
    reply = json.loads(
        next(part.text for part in parts if b'name="params"' in part.headers[b"Content-Disposition"])
    )
    image = next(part.content for part in parts if b'name="image"' in part.headers[b"Content-Disposition"])
    assert b"encoding: gzip" in image.partition(b"\n\n")[0]
    assert reply["label_names"] == {name: value for value, name in enumerate(NAMES, 1)}
    assert reply["prompts"] == reply["steps"] == 1
    assert {"network", "merge", "write", "total"} <= set(reply["latencies"])


def test_a_submitted_label_is_what_the_next_click_changes(
    url: str, browser: Callable, tmp_path: Path
) -> None:
    ohif = browser()
    params = {"client_id": "cleo", **SLICER, "edema": [[20, 20, 20]]}

    def ask(**more: object) -> np.ndarray:
        return ohif.read(
            ohif.http.post(
                f"{url}/infer/slem_brain_clicks",
                params={"image": "two", "output": "image"},
                data=form(params | more),
                timeout=300,
            )
        )

    shown = ask()
    header, _, _ = (tmp_path / "reply.nrrd").read_bytes().partition(b"\n\n")
    edited = np.zeros_like(shown, order="F")
    edited[5:15, 5:15, 5:15] = 3
    path = tmp_path / "edited.nrrd"
    path.write_bytes(
        header.replace(b"encoding: gzip", b"encoding: raw") + b"\n\n" + edited.tobytes(order="F")
    )
    with path.open("rb") as file:
        info = {"client_id": "cleo", "model": "slem_brain_clicks"}
        answer = ohif.http.put(
            f"{url}/datastore/label",
            params={"image": "two"},
            data=form(info),
            files={"label": (path.name, file)},
            timeout=60,
        )
    assert answer.ok, answer.text
    np.testing.assert_array_equal(ask(), edited)
    after = ask(background=[[10, 10, 10]])
    assert (after[10, 10, 10], after[20, 20, 20]) == (0, 0)
