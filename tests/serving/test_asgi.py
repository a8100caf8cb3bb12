"""The whole application over a real app: MONAI Label's routes are all there, polls are answered while the
network works, ids and paths are confined.
"""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import requests
from monailabel.endpoints import (
    activelearning,
    batch_infer,
    datastore,
    info,
    logs,
    model,
    ohif,
    proxy,
    scoring,
    session,
    train,
    wsi_infer,
)
from monailabel.interfaces.app import MONAILabelApp
from starlette.routing import Match

from slem_app.serving.http.application import build
from slem_app.serving.models.inference import InferRequest
from slem_app.serving.server import Serving


@pytest.fixture(scope="module")
def instance(
    heads: dict, models: Path, open_app: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MONAILabelApp]:
    with open_app(heads, tmp_path_factory.mktemp("server"), models_dir=str(models), upload_mb="4") as app:
        yield app


@pytest.fixture(scope="module")
def serving(instance: MONAILabelApp) -> Serving:
    return instance.serving


@pytest.fixture(scope="module")
def url(instance: MONAILabelApp, serving: Serving, serve: Callable) -> Iterator[str]:
    with serve(build(serving)) as address:
        yield address


def ask(method: str, url: str, **fields: object) -> requests.Response:
    return requests.request(method, url, timeout=60, headers={"Connection": "close"}, **fields)


def test_every_route_of_monai_label_is_there(instance: MONAILabelApp) -> None:
    ours = build(instance.serving).router.routes
    for module in (
        activelearning,
        batch_infer,
        datastore,
        info,
        logs,
        model,
        ohif,
        proxy,
        scoring,
        session,
        train,
        wsi_infer,
    ):
        for route in module.router.routes:
            for method in route.methods:
                scope = {
                    "type": "http",
                    "path": re.sub(r"{.*?}", "x", route.path),
                    "method": method,
                    "root_path": "",
                    "headers": [],
                }
                assert any(one.matches(dict(scope))[0] == Match.FULL for one in ours), (method, route.path)


def test_polls_are_answered_while_a_case_is_segmented(
    url: str, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, answers = threading.Event(), threading.Event(), []
    real = serving.infer

    def slow(request: InferRequest) -> dict:
        begun.set()
        go.wait(20)
        return real(request)

    monkeypatch.setattr(serving, "infer", slow)
    asking = threading.Thread(
        target=lambda: answers.append(ask("POST", f"{url}/infer/slem_brain?image=A&output=json"))
    )
    asking.start()
    assert begun.wait(20)
    took = []
    for path in (
        "/info/",
        "/train/",
        "/",
        "/dicom-web/studies",
        "/datastore/image?image=A",
        "/info/",
        "/train/",
        "/",
    ):
        start = time.perf_counter()
        assert ask("GET", url + path).status_code in (200, 404)
        took.append(time.perf_counter() - start)
    assert not answers
    go.set()
    asking.join()
    assert answers[0].json()["case"] == "A"
    # on a machine that is busy with tests; benchmarks/serving.py has the figures
    assert sorted(took)[len(took) // 2] < 0.5


def test_a_request_for_the_network_whose_client_left_is_not_worked_on(
    url: str, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, done = threading.Event(), threading.Event(), []

    def slow(request: InferRequest) -> dict:
        begun.set()
        go.wait(20)
        done.append(request.image)
        raise ZeroDivisionError

    monkeypatch.setattr(serving, "infer", slow)
    first = threading.Thread(
        target=lambda: ask("POST", f"{url}/infer/slem_brain?image=A", data={"params": '{"client_id": "ann"}'})
    )
    first.start()
    assert begun.wait(20)
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{url}/infer/slem_brain?image=left", data={"params": '{"client_id": "ben"}'}, timeout=0.5
        )
    last = threading.Thread(
        target=lambda: ask("POST", f"{url}/infer/slem_brain?image=B", data={"params": '{"client_id": "cas"}'})
    )
    last.start()
    time.sleep(0.3)
    go.set()
    first.join()
    last.join()
    assert done == ["A", "B"]


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("POST", "/infer/slem_brain?image=/etc/passwd", {}, 404),
        ("POST", "/infer/slem_brain?image=A", {"data": {"params": '{"image": "/etc/passwd"}'}}, 404),
        ("POST", "/infer/slem_brain?image=A", {"data": {"params": '{"label": "/etc/passwd"}'}}, 404),
        (
            "POST",
            "/infer/slem_brain?image=A",
            {"data": {"params": '{"session": {"image": "/etc/passwd"}}'}},
            404,
        ),
        ("POST", "/infer/slem_brain?image=../../../etc/passwd", {}, 404),
        ("POST", "/infer/slem_brain?image=A&session_id=../../etc", {}, 404),
        ("POST", "/infer/slem_brain", {}, 400),
        ("POST", "/infer/slem_brain?image=A", {"data": {"params": "{"}}, 400),
        ("POST", "/infer/other?image=A", {}, 404),
        ("POST", "/infer/wsi_v2/slem_brain", {"data": {"wsi": '{"model_type": 0}'}}, 501),
        ("GET", "/session/..", {}, 404),
        ("GET", "/session/%2e%2e%2fx", {}, 404),
        ("DELETE", "/session/no.such", {}, 404),
        ("GET", "/datastore/image?image=/etc/passwd", {}, 404),
        ("GET", "/datastore/label?label=../A&tag=final", {}, 404),
        ("GET", "/datastore/label?label=A&tag=../../x", {}, 400),
        ("GET", "/datastore/image/info?image=../x", {}, 404),
        ("GET", "/ohif/..%2f..%2f..%2fmain.py", {}, 404),
        ("GET", "/static/..%2f..%2fmain.py", {}, 404),
        ("GET", "/proxy/dicom/../../etc/passwd", {}, 501),
        ("GET", "/proxy/dicom/http://example.org/", {}, 501),
        ("POST", "/activelearning/..%2f", {}, 404),
    ],
)
def test_what_leaves_its_place_is_refused(
    url: str, method: str, path: str, fields: dict, status: int
) -> None:
    with requests.Session() as web:
        request = requests.Request(method, url + path, headers={"Connection": "close"}, **fields).prepare()
        request.url = url + path  # as it is, without tidying
        answer = web.send(request, timeout=60)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "detail"}
    assert "root:" not in answer.text


@pytest.mark.parametrize("name", ["../../x", "/etc/x", ".x", "a/b", "a\\b", "x" * 200])
def test_an_upload_cannot_leave_its_folder(url: str, serving: Serving, studies: Path, name: str) -> None:
    with (studies / "A/A-t1c.nii.gz").open("rb") as file:
        answer = ask("PUT", f"{url}/datastore/", params={"image": name}, files={"file": ("a.nii.gz", file)})
    assert answer.status_code == 400, answer.text
    assert "cannot be the id of an image" in answer.json()["detail"]
    assert not list(serving.cases.uploads.glob("*")) if serving.cases.uploads.is_dir() else True


def test_images_labels_and_sessions_can_be_sent(
    url: str, serving: Serving, studies: Path, tmp_path: Path
) -> None:
    volume = studies / "A/A-t2f.nii.gz"
    with volume.open("rb") as file:
        assert ask("PUT", f"{url}/datastore/image", files={"file": ("new_t2f.nii.gz", file)}).json() == {
            "image": "new_t2f"
        }
    with volume.open("rb") as file:
        session = ask("PUT", f"{url}/session/", files={"files": (volume.name, file)}).json()
    answer = ask(
        "POST",
        f"{url}/infer/slem_brain",
        params={"session_id": session["session_id"]},
        data={"params": '{"sequence": ["t2f"]}'},
    )
    assert answer.headers["content-type"].startswith("multipart/form-data")
    with volume.open("rb") as file:
        answer = ask(
            "POST",
            f"{url}/infer/slem_brain?output=json",
            files={"file": ("x_t2f.nii.gz", file)},
            data={"params": '{"sequence": "t2f"}'},
        )
    assert answer.json()["sequence"] == "t2f"
    label = ask(
        "POST",
        f"{url}/infer/slem_brain?image=A&output=image",
        data={"params": '{"result_extension": ".nii.gz"}'},
    ).content
    sent = {
        "params": json.dumps(
            {"label_info": [{"name": "necrosis"}, {"name": "edema"}, {"name": "enhancing tumor"}]}
        )
    }
    answer = ask("PUT", f"{url}/datastore/label?image=A", files={"label": ("label.nii.gz", label)}, data=sent)
    told = answer.json()
    assert (told["image"], told["label"], told["dicom"]["kind"]) == ("A", "A", "AUTOMATIC")
    assert serving.datastore.get_label_info("A", "final")["present"]
    shutil.rmtree(serving.cases.uploads)


@pytest.mark.parametrize(
    ("path", "field", "name", "size", "status"),
    [
        ("/datastore/?image=big", "file", "big.nii.gz", 5 * 2**20, 413),
        ("/datastore/?image=kind", "file", "a.exe", 10, 422),
        ("/datastore/?image=noise", "file", "a.nii.gz", 1000, 422),
        ("/datastore/label?image=A", "label", "a.exe", 10, 422),
        ("/datastore/label?image=A", "label", "a.nrrd", 100, 422),
        ("/session/", "files", "a.exe", 10, 422),
        ("/session/?uncompress=true", "files", "a.zip", 10, 422),
    ],
)
def test_uploads_of_another_size_or_kind_are_refused(
    url: str, path: str, field: str, name: str, size: int, status: int
) -> None:
    answer = ask("PUT", url + path, files={field: (name, bytes(size))})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "detail"}


def test_a_dicom_segmentation_of_images_in_nifti_refers_to_what_viewers_are_shown(
    url: str, serving: Serving
) -> None:
    answer = ask("POST", f"{url}/infer/slem_brain?image=A&output=dicom_seg")
    made = pydicom.dcmread(BytesIO(answer.content))
    assert (made.Modality, made.StudyInstanceUID) == ("SEG", serving.cases.view("A").study)
    assert ask("POST", f"{url}/infer/other?image=A&output=dicom_seg").status_code == 404
