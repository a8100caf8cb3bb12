"""What the stock clients get, request by request: the status of each answer, its headers, and the shape of
its body are as recorded in `traffic.json`.

    TRAFFIC=out.json python -m pytest -m slow tests/serving/test_traffic.py

also writes a whole record, with hashes of the bodies. Two such records of one machine, made before and after
a change of the code, must say the same. After a change of what clients get that is wanted, copy
`out.json.shape` over `traffic.json`.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import monailabel.app
import nibabel
import numpy as np
import pydicom
import pytest
from fastapi import FastAPI
from monailabel.utils.others.class_utils import get_class_of_subclass_from_file

from slem_app import phantom
from slem_app.formats import write_nifti, write_nrrd
from slem_app.serving.asgi import application
from slem_app.weights import BRAIN_LABELS
from tests.fake_pacs import FakePacs, running
from tests.serving.traffic_recorder import Recorder

pytestmark = pytest.mark.slow

MAIN = Path(__file__).parents[2] / "apps/slem/main.py"
GOLDEN = Path(__file__).with_name("traffic.json")
SMALL = {"shape": (24, 28, 20), "spacing": (6.0, 6.0, 7.0)}
CLICKS = {
    "necrosis": [],
    "edema": [[12, 14, 10], [8, 9, 10]],
    "enhancing tumor": [],
    "background": [[3, 3, 3]],
}
SEGMENTS = [{"name": name, "idx": k} for k, name in enumerate(BRAIN_LABELS.names)]
PAINTED = [{"name": name} for name in (*BRAIN_LABELS.names, "foreground_scribbles", "background_scribbles")]
SLICER = {"client_id": "user-xyz"}  # 3D Slicer's plugin sends no User-Agent and always its reader
OHIF = {
    "result_extension": ".nrrd",
    "result_dtype": "uint8",
    "result_compress": False,
    "restore_label_idx": False,
}


@pytest.fixture(params=["slem serve", "monailabel.main"])
def over(request: pytest.FixtureRequest, serve: Callable, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`over(studies, **conf)`: an address of `slem serve`, and of MONAI Label's command line."""
    with ExitStack() as stack:

        def begin(studies: str, **conf: str) -> Recorder:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
            conf = {"store": str(tmp_path / "store"), "score_load": "0", **conf}
            if request.param == "slem serve":
                app = application(studies, conf, "127.0.0.1", tmp_path / "app.log")
            else:
                kind = get_class_of_subclass_from_file("main", str(MAIN), "MONAILabelApp")
                patch.setattr("monailabel.app.app", FastAPI())
                instance = kind(str(MAIN.parent), studies, conf)
                instance.on_init_complete()
                app = monailabel.app.app
            old = os.umask(0o077)
            stack.callback(os.umask, old)
            return Recorder(stack.enter_context(serve(app)), tmp_path)

        yield begin


def compare(kind: str, recorder: Recorder) -> None:
    """Write the whole record where TRAFFIC says, and check the shapes."""
    shapes = json.loads(
        json.dumps([{key: row[key] for key in row if key != "body"} for row in recorder.rows])
    )
    if out := os.environ.get("TRAFFIC"):
        for path, rows in ((Path(out), recorder.rows), (Path(f"{out}.shape"), shapes)):
            known = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(known | {kind: rows}, indent=1, default=str) + "\n")
    if GOLDEN.exists():
        golden = {row["name"]: row for row in json.loads(GOLDEN.read_text())[kind]}
        assert {row["name"]: row for row in shapes} == golden


def form(params: dict, **files: Any) -> dict[str, Any]:
    """The body of 3D Slicer's requests."""
    return {"data": {"params": json.dumps(params)}, **({"files": files} if files else {})}


def test_3d_slicer(over: Callable, click_models: Path, tmp_path: Path) -> None:
    heads = {"A": phantom.make(seed=1, **SMALL), "B": phantom.make(seed=2, oblique=True, **SMALL)}
    for name, head in heads.items():
        phantom.write_nifti(head, tmp_path / "studies", name)
    asking = over(str(tmp_path / "studies"), models_dir=str(click_models))
    ask, infer = asking.ask, asking.infer
    grid = heads["A"].grids["t2f"]
    label = np.zeros(grid.shape, np.uint8)
    label[8:14, 8:14, 8:12] = 2
    write_nifti(label, grid, BRAIN_LABELS, tmp_path / "label.nii.gz")
    write_nrrd(label, grid, BRAIN_LABELS, tmp_path / "label.nrrd")
    nifti, nrrd_file = (tmp_path / "label.nii.gz").read_bytes(), (tmp_path / "label.nrrd").read_bytes()
    image = next((tmp_path / "studies").rglob("*t2f*.nii.gz")).read_bytes()

    ask("auth", "GET", "/auth/")
    ask("info", "GET", "/info/")
    ask("images", "GET", "/datastore/?output=all")
    ask("train list", "GET", "/datastore/?output=train")
    ask("stats", "GET", "/datastore/?output=stats")
    ask("next", "POST", "/activelearning/first", json=SLICER)
    ask("next of a model", "POST", "/activelearning/random", json={**SLICER, "model": ["any"]})
    ask("no strategy", "POST", "/activelearning/nothing", json=SLICER)
    ask("image", "GET", "/datastore/image?image=A/t2f")
    ask("image info", "GET", "/datastore/image/info?image=A")
    infer("auto", "slem_brain", "?image=A", SLICER)
    infer("auto, lists as Slicer has them", "slem_brain", "?image=B", {**SLICER, "sequence": ["auto", "t1n"]})
    infer("auto as JSON", "slem_brain", "?image=A&output=json", SLICER)
    infer("auto as NIfTI", "slem_brain", "?image=A&output=image", {**SLICER, "result_extension": ".nii.gz"})
    infer(
        "auto, saved as a draft",
        "slem_brain",
        "?image=A",
        {**SLICER, "save_label": True, "label_tag": "draft"},
    )
    infer("clicks", "slem_brain_clicks", "?image=A", {**SLICER, **CLICKS})
    infer(
        "clicks of one label",
        "slem_brain_clicks",
        "?image=A",
        {"client_id": "bob", "label": "edema", "foreground": [[12, 14, 10]], "background": []},
    )
    infer("undo", "slem_brain_clicks", "?image=A", {**SLICER, **CLICKS, "undo": "true"})
    ask(
        "start over",
        "POST",
        "/infer/slem_brain_clicks?image=A",
        **form({**SLICER, **CLICKS, "start_over": True}),
    )
    infer(
        "clicks with a box",
        "slem_brain_clicks",
        "?image=A",
        {**SLICER, **CLICKS, "roi": [4, 20, 4, 20, 4, 16]},
    )
    infer(
        "clicks with a label",
        "slem_brain_clicks",
        "?image=A",
        {**SLICER, **CLICKS, "label_info": SEGMENTS},
        {"label": ("label.nii.gz", nifti)},
    )
    ask("undo by its route", "POST", "/slem/undo/slem_brain_clicks?image=A&client_id=user-xyz")
    infer(
        "scribbles",
        "slem_brain_scribbles",
        "?image=A",
        {**SLICER, "selected_label_name": "edema", "label_info": PAINTED},
        {"label": ("label.nrrd", nrrd_file)},
    )
    infer("scribbles without any", "slem_brain_scribbles", "?image=B", SLICER)
    infer("a file that is sent", "slem_brain", "?image=", SLICER, {"file": ("t2f.nii.gz", image)})
    session = ask(
        "new session", "PUT", "/session/", data=SLICER, files={"files": ("t2f.nii.gz", image)}
    ).json()
    ask("session", "GET", f"/session/{session['session_id']}")
    ask(
        "auto of a session",
        "POST",
        f"/infer/slem_brain?image=x&session_id={session['session_id']}",
        **form({**SLICER, "sequence": "t2f"}),
    )
    ask("session away", "DELETE", f"/session/{session['session_id']}")
    ask("upload", "PUT", "/datastore/?image=up", **form(SLICER, file=("t2f.nii.gz", image)))
    ask(
        "submit",
        "PUT",
        "/datastore/label?image=A&tag=final",
        **form({**SLICER, "label_info": SEGMENTS}, label=("label.nii.gz", nifti)),
    )
    ask(
        "submit again, without params",
        "PUT",
        "/datastore/label?image=A",
        files={"label": ("label.nii.gz", nifti)},
    )
    ask("label", "GET", "/datastore/label?label=A&tag=final")
    ask("label info", "GET", "/datastore/label/info?label=A&tag=final")
    ask("versions of labels", "GET", "/slem/labels?image=A")
    ask("images, one labelled", "GET", "/datastore/?output=all")
    ask("next, one labelled", "POST", "/activelearning/first", json={"client_id": "carl"})
    ask("train status", "GET", "/train/")
    ask("train running", "GET", "/train/?check_if_running=true")
    ask("train of no model", "POST", "/train/nothing", json=SLICER)
    ask("train with wrong words", "POST", "/train/slem_brain", json={**SLICER, "max_epochs": "many"})
    ask("train on no device", "POST", "/train/slem_brain", json={**SLICER, "device": "abacus"})
    ask("stop training", "DELETE", "/train/")
    ask("batch status", "GET", "/batch/infer")
    ask("batch with wrong words", "POST", "/batch/infer/slem_brain", json={"max_batch_size": "x"})
    ask("batch of no model", "POST", "/batch/infer/nothing", json={})
    ask("stop a batch", "DELETE", "/batch/infer")
    ask("versions", "GET", "/slem/versions/slem_brain")
    ask("save what is shown", "POST", "/slem/save?image=A&client_id=user-xyz")
    ask("no params", "POST", "/infer/slem_brain?image=A", data={"params": "nothing"})
    ask("params are a list", "POST", "/infer/slem_brain?image=A", data={"params": "[]"})
    infer("no image", "slem_brain", "", SLICER)
    infer("no model", "nothing", "?image=A", SLICER)
    infer("a path", "slem_brain", "?image=/etc/passwd", SLICER)
    infer("a path in params", "slem_brain", "?image=A", {**SLICER, "label": "/etc/passwd"})
    ask(
        "a wrong flag",
        "POST",
        "/infer/slem_brain_clicks?image=A",
        **form({**SLICER, **CLICKS, "undo": "maybe"}),
    )
    infer("a wrong ending", "slem_brain", "?image=A", {**SLICER, "result_extension": ".jpg"})
    ask(
        "a wrong click",
        "POST",
        "/infer/slem_brain_clicks?image=A",
        **form({**SLICER, "edema": [[900, 0, 0]]}),
    )
    ask(
        "wrong seconds",
        "PUT",
        "/datastore/label?image=A",
        **form({**SLICER, "seconds": "long"}, label=("label.nii.gz", nifti)),
    )
    ask("weights", "PUT", "/model/slem_brain")
    ask("model info", "GET", "/model/info/slem_brain")
    ask("scoring", "GET", "/scoring/")
    ask("logs of the GPU", "GET", "/logs/gpu")
    ask("reload", "POST", "/reload")
    label[15:18, 15:18, 10] = 4  # of PAINTED
    nibabel.save(nibabel.Nifti1Image(label, grid.affine), tmp_path / "painted.nii.gz")
    painted = {"label": ("label.nii.gz", (tmp_path / "painted.nii.gz").read_bytes())}
    scribbles = {**SLICER, "selected_label_name": "edema", "label_info": PAINTED}
    infer("scribbles on A", "slem_brain_scribbles", "?image=A", scribbles, painted)
    ask("page", "GET", "/")
    ask("icon", "GET", "/favicon.ico")
    compare("3D Slicer", asking)


@pytest.mark.parametrize("kind", ["folder", "pacs"])
def test_ohif(kind: str, over: Callable, click_models: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("ann", "ben"), 1):
        phantom.write_dicom(phantom.make(seed=seed, **SMALL), tmp_path / "studies", name)
    headers = [
        pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
        for folder in sorted((tmp_path / "studies/ann").iterdir())
    ]
    series, study = headers[-1].SeriesInstanceUID, headers[-1].StudyInstanceUID
    with running(FakePacs(tmp_path / "studies", tmp_path / "pacs")) as pacs:
        studies = str(tmp_path / "studies") if kind == "folder" else pacs.url
        asking = over(studies, models_dir=str(click_models))
        ask, infer = asking.ask, asking.infer
        web = "/dicom-web" if kind == "folder" else "/proxy/dicom"
        agent = {"headers": {"Referer": f"{asking.url}/ohif/monai-label", "User-Agent": "Mozilla/5.0"}}
        ask("start page", "GET", "/ohif/", **agent)
        ask("start page of a study", "GET", f"/ohif/monai-label?StudyInstanceUIDs={study}", **agent)
        ask("script", "GET", "/ohif-save.js", **agent)
        ask("no file", "GET", "/ohif/nothing.js", **agent)
        ask("settings", "GET", "/ohif/app-config.js", **agent)
        ask("info", "GET", "/info/", **agent)
        ask("studies", "GET", f"{web}/studies?limit=101&offset=0&includefield=00081030", **agent)
        ask("series", "GET", f"{web}/studies/{study}/series", **agent)
        ask("metadata", "GET", f"{web}/studies/{study}/series/{series}/metadata", **agent)
        ask("outside", "GET", f"{web}/../secret", **agent)
        infer("auto", "slem_brain", f"?image={series}&output=image", OHIF, **agent)
        infer("points", "slem_brain_clicks", f"?image={series}&output=image", {**OHIF, **CLICKS}, **agent)
        infer("as DICOM", "slem_brain", f"?image={series}&output=dicom_seg", OHIF, **agent)
        infer(
            "points as DICOM",
            "slem_brain_clicks",
            f"?image={series}&output=dicom_seg",
            {**OHIF, **CLICKS},
            **agent,
        )
        ask("next", "POST", "/activelearning/first", **agent, json={})
        ask("save", "POST", f"/slem/save?image={series}", **agent)
        ask("unsent", "GET", "/slem/results/unsent", **agent)
        ask("send", "POST", "/slem/results/send", **agent)
        ask("fetch", "POST", f"/slem/results/fetch?image={series}", **agent)
        ask("series, one saved", "GET", f"{web}/studies/{study}/series", **agent)
        ask("train status", "GET", "/train/", **agent)
        compare(f"OHIF, {kind}", asking)
