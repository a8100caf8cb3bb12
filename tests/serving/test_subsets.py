"""Each of the 15 sets of the four sequences over HTTP, asked for as 3D Slicer and as OHIF do: the reply tells
what was used and what was missing.
"""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests

from slem_app.formats import read_label_file
from slem_app.serving.http.application import build
from slem_app.weights import BRAIN_SEQUENCES

SETS = [kept for count in range(1, 5) for kept in itertools.combinations(BRAIN_SEQUENCES, count)]
SETS.remove(("t1n",))  # refused


@pytest.fixture(scope="module")
def url(
    subsets: Path,
    click_models: Path,
    open_app: Callable,
    serve: Callable,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(subsets / "dicom", folder / "studies")
    with (
        open_app({}, folder, models_dir=str(click_models)) as instance,
        serve(build(instance.serving)) as address,
    ):
        yield address


def post(url: str, params: dict, **query: str) -> requests.Response:
    """A request that must be answered."""
    answer = requests.post(
        url, params=query, data={"params": json.dumps(params)}, timeout=60, headers={"Connection": "close"}
    )
    assert answer.ok, answer.text
    return answer


def parts(answer: requests.Response) -> dict[str, bytes]:
    """Name of the field -> content, of a reply of several."""
    message = message_from_bytes(
        b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n" + answer.content
    )
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.get_payload()
    }


@pytest.mark.parametrize("kept", SETS, ids="_".join)
def test_slicer_is_told_beside_the_label_map(url: str, kept: tuple[str, ...], tmp_path: Path) -> None:
    found = parts(
        post(
            f"{url}/infer/slem_brain",
            {"result_extension": ".nrrd", "client_id": "slicer"},
            image="_".join(kept),
        )
    )
    params = json.loads(found["params"])
    assert (tuple(params["used"]), params["missing"]) == (
        kept,
        [name for name in BRAIN_SEQUENCES if name not in kept],
    )
    (tmp_path / "label.nrrd").write_bytes(found["image"])
    assert read_label_file(tmp_path / "label.nrrd")[0].any()


@pytest.mark.parametrize("kept", SETS, ids="_".join)
def test_ohif_is_told_in_a_header_whatever_it_shows_and_clicks(
    url: str, kept: tuple[str, ...], tmp_path: Path
) -> None:
    """It finds the study over DICOMweb, asks by the UID of the series that it shows, and for the label map
    alone.
    """

    def get(path, **query):
        return requests.get(
            f"{url}/dicom-web{path}", params=query, timeout=60, headers={"Connection": "close"}
        ).json()

    [study] = get("/studies", PatientID="_".join(kept))
    shown = [
        series["0020000E"]["Value"][0] for series in get(f"/studies/{study['0020000D']['Value'][0]}/series")
    ]
    assert len(shown) == len(kept)
    told = {"used": list(kept), "missing": [name for name in BRAIN_SEQUENCES if name not in kept]}
    as_ohif = {
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
        "result_compress": False,
        "restore_label_idx": False,
    }
    automatic = post(f"{url}/infer/slem_brain", as_ohif, image=shown[-1], output="image")
    header = json.loads(unquote(automatic.headers["Slem-Sequences"]))
    assert {name: header[name] for name in told} == told
    codes = {warning["code"] for warning in header["warnings"]}
    assert ("enhancement-not-assessable" in codes) == ("t1c" not in kept)
    assert ("edema-not-assessable" in codes) == (not {"t2w", "t2f"} & set(kept))
    (tmp_path / "label.nrrd").write_bytes(automatic.content)
    array, _, _ = read_label_file(tmp_path / "label.nrrd")
    # another in every study: one that comes again is taken for what a client leaks from the last image
    voxel = (4 + SETS.index(kept), 14, 10)
    wanted = "edema" if array[voxel] != 2 else "necrosis"
    clicked = post(
        f"{url}/infer/slem_brain_clicks",
        {**as_ohif, wanted: [list(voxel)], "background": []},
        image=shown[-1],
        output="image",
    )
    header = json.loads(unquote(clicked.headers["Slem-Sequences"]))
    assert {name: header[name] for name in told} == told
    (tmp_path / "label.nrrd").write_bytes(clicked.content)
    assert read_label_file(tmp_path / "label.nrrd")[0][voxel] == {"necrosis": 1, "edema": 2}[wanted]


def test_a_t1_alone_is_refused_with_what_is_wanted(url: str) -> None:
    answer = requests.post(
        f"{url}/infer/slem_brain", params={"image": "t1n"}, timeout=60, headers={"Connection": "close"}
    )
    assert (answer.status_code, answer.json()["error"]) == (422, "BadStudy")
    assert "add FLAIR, T2 or a T1 after contrast" in answer.json()["detail"]


def test_a_t1_alone_can_be_drawn_on_by_clicks(url: str, tmp_path: Path) -> None:
    params = {"result_extension": ".nrrd", "necrosis": [[4, 14, 10]], "background": []}
    answer = post(f"{url}/infer/slem_brain_clicks", params, image="t1n", output="image")
    (tmp_path / "label.nrrd").write_bytes(answer.content)
    assert read_label_file(tmp_path / "label.nrrd")[0][4, 14, 10] == 1
