"""A session that begins with the label of the patient's earlier visit, over HTTP: what the reader gets, what
is kept of it, and where there is no prior.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import nibabel
import numpy as np
import pytest
import requests
from monailabel.interfaces.app import MONAILabelApp

from slem_app import phantom
from slem_app.phantom.head import AXES, rotation
from slem_app.serving.http.application import build
from slem_app.store.record import FINAL

SHAPE, SPACING = (44, 52, 38), (2.4, 2.4, 2.4)
SPOT = np.array([30.0, 20.0, 12.0])
FIRST, SECOND, OTHER, LONELY = (f"BraTS-GLI-0000{name}" for name in ("1-100", "1-101", "2-101", "3-100"))


def visit(seed: int, move: np.ndarray) -> phantom.Phantom:
    head = phantom.draw(5, float((np.array(SHAPE) * SPACING / (AXES * 2 + 16)).min()))
    again = phantom.at_next_visit(head, seed, move, [(SPOT, (7.0, 13.0, 19.0))])
    return phantom.make(shape=SHAPE, spacing=SPACING, head=again)


@pytest.fixture(scope="module")
def moved() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(np.array([3.0, -2.0, 5.0])), (6.0, -4.0, 5.0)
    return matrix


@pytest.fixture(scope="module")
def app(
    open_app: Callable, tmp_path_factory: pytest.TempPathFactory, moved: np.ndarray
) -> Iterator[MONAILabelApp]:
    first, second = visit(105, np.eye(4)), visit(106, moved)
    heads = {FIRST: first, SECOND: second, "BraTS-GLI-00002-100": first, OTHER: second, LONELY: first}
    folder = tmp_path_factory.mktemp("visits")
    with open_app(heads, folder, models="slem_brain,slem_brain_clicks", score_load="0") as instance:
        truth = next((folder / "studies" / FIRST).glob("*seg.nii.gz"))
        instance.datastore().save_label(FIRST, str(truth), FINAL, {"model": "slem_brain", "client_id": "ann"})
        names = {"liver": 1, "spleen": 2, "kidney": 3}  # a label of another model
        instance.serving.datastore.store.save(
            "BraTS-GLI-00002-100",
            FINAL,
            partial(shutil.copyfile, truth),
            {"sequence": "t1c", "label_names": names},
        )
        yield instance


@pytest.fixture(scope="module")
def url(app: MONAILabelApp, serve: Callable) -> Iterator[str]:
    with serve(build(app.serving)) as address:
        yield address


def infer(url: str, case: str, model: str = "slem_brain_clicks", **fields: object) -> requests.Response:
    wanted = {"result_extension": ".nii.gz", "client_id": "ann", **fields}
    return requests.post(
        f"{url}/infer/{model}",
        params={"image": case, "output": "all"},
        data={"params": json.dumps(wanted)},
        timeout=300,
        headers={"Connection": "close"},
    )


def parts(answer: requests.Response) -> tuple[dict, np.ndarray]:
    """The JSON and the label map of a reply of several parts."""
    assert answer.status_code == 200, answer.text
    boundary = answer.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.content.split(b"--" + boundary)[1:-1]]
    told = next(json.loads(body) for body in bodies if body.lstrip().startswith(b"{"))
    packed = next(body.removesuffix(b"\r\n") for body in bodies if body.startswith(b"\x1f\x8b"))
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(packed))
    return told, np.asarray(image.dataobj)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def saved_from(url: str, app: MONAILabelApp) -> str:
    """With which earlier label what is shown began, as it is kept once it is saved."""
    answer = requests.post(f"{url}/slem/save", params={"image": SECOND, "client_id": "ann"}, timeout=60)
    assert answer.status_code == 200, answer.text
    return app.serving.datastore.store.latest(SECOND, FINAL).record.prior


def test_a_session_begins_with_the_earlier_label_and_says_so_in_what_is_saved(
    url: str, app: MONAILabelApp, moved: np.ndarray
) -> None:
    told, shown = parts(infer(url, SECOND, start_from="prior"))
    truth = visit(106, moved).labels
    assert dice(shown > 0, truth > 0) > 0.85
    assert any(note.startswith(f"begins with the final label of {FIRST} of 100") for note in told["notes"])
    voxel = [int(n) for n in np.argwhere(truth == 0)[5000]]
    parts(infer(url, SECOND, start_from="prior", edema=[voxel]))
    more = [int(n) for n in np.argwhere(truth == 0)[9000]]
    again, clicked = parts(infer(url, SECOND, start_from="prior", edema=[voxel, more]))
    assert again["prompts"] == 2
    assert not any("begins with" in note for note in again["notes"])  # it goes on, and does not begin again
    assert saved_from(url, app) == f"{FIRST}/final/1"
    afresh, automatic = parts(infer(url, SECOND, start_over=True))
    assert afresh["prompts"] == 0
    assert np.mean(clicked == shown) > np.mean(clicked == automatic)  # the prior is what clicks mended
    assert saved_from(url, app) == ""


def test_the_prior_can_be_had_as_a_file_of_its_own(url: str, moved: np.ndarray) -> None:
    answer = requests.get(f"{url}/slem/prior", params={"image": f"{SECOND}/t2f"}, timeout=300)
    assert answer.status_code == 200, answer.text
    told = json.loads(unquote(answer.headers["Slem-Prior"]))
    assert told["label"] == f"{FIRST}/final/1"
    assert told["registration"]["doubt"] == ""
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    assert dice(np.asarray(image.dataobj) > 0, visit(106, moved).labels > 0) > 0.85


@pytest.mark.parametrize(
    ("case", "model", "status", "said"),
    [
        (LONELY, "slem_brain_clicks", 404, "no earlier visit of the patient"),
        (FIRST, "slem_brain_clicks", 404, "no earlier visit of the patient"),
        (OTHER, "slem_brain_clicks", 422, "does not fit this model"),
        (SECOND, "slem_brain", 400, "needs a model that follows clicks"),
    ],
)
def test_where_there_is_no_prior_it_is_said(url: str, case: str, model: str, status: int, said: str) -> None:
    answer = infer(url, case, model, start_from="prior")
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


def test_another_word_is_refused(url: str) -> None:
    answer = infer(url, SECOND, start_from="yesterday")
    assert answer.status_code == 400
    assert "use auto or prior" in answer.text


def test_clients_are_offered_the_choice_where_clicks_are_followed(url: str) -> None:
    models = requests.get(f"{url}/info/", timeout=60).json()["models"]
    assert models["slem_brain_clicks"]["config"]["start_from"] == ["auto", "prior"]
    assert "start_from" not in models["slem_brain"]["config"]


def test_the_page_of_a_case_lists_the_visits_and_links_what_changed(url: str) -> None:
    text = requests.get(f"{url}/case/{SECOND}", timeout=60).text
    assert f'<a href="/case/{FIRST}">' in text
    assert "Visits of this patient" not in requests.get(f"{url}/case/{LONELY}", timeout=60).text


def test_a_prior_whose_study_is_gone_is_no_prior(url: str, app: MONAILabelApp) -> None:
    folder = Path(app.serving.cases.studies) / FIRST
    folder.rename(folder.parent.parent / "gone")
    app.serving.cases.refresh()
    answer = infer(url, SECOND, start_from="prior", start_over=True)
    assert answer.status_code == 404
    assert "no earlier visit of the patient" in answer.text
