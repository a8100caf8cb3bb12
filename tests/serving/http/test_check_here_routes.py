"""Where a result is likely wrong, over HTTP: as a map of its own, and as a segment of the result, which is
never kept.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
import requests

from slem_app import phantom
from slem_app.serving.http.application import build
from slem_app.serving.server import Serving

SHAPE, SPACING = (36, 42, 30), (4.0, 4.0, 4.0)
CASE = "one"


@pytest.fixture(scope="module")
def serving(open_app: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The bundled model, whose card tells places."""
    heads = {CASE: phantom.make(seed=7, shape=SHAPE, spacing=SPACING)}
    with open_app(heads, tmp_path_factory.mktemp("one"), models="slem_brain", score_load="0") as instance:
        yield instance.serving


@pytest.fixture(scope="module")
def url(serving: Serving, serve: Callable) -> Iterator[str]:
    with serve(build(serving)) as address:
        yield address


def nifti(content: bytes) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(content))


def infer(url: str, **fields: object) -> tuple[dict, nibabel.Nifti1Image]:
    """The JSON and the label map of a reply."""
    answer = requests.post(
        f"{url}/infer/slem_brain",
        params={"image": CASE, "output": "all"},
        data={"params": json.dumps({"result_extension": ".nii.gz", "client_id": "ann", **fields})},
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    boundary = answer.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.content.split(b"--" + boundary)[1:-1]]
    told = next(json.loads(body) for body in bodies if body.lstrip().startswith(b"{"))
    packed = next(body.removesuffix(b"\r\n") for body in bodies if body.startswith(b"\x1f\x8b"))
    return told, nifti(packed)


def check_here(url: str, **query: str) -> requests.Response:
    return requests.get(f"{url}/slem/check_here", params={"image": CASE, **query}, timeout=300)


def test_the_map_lies_on_the_image_and_holds_the_places_that_are_named(url: str) -> None:
    told, _ = infer(url)
    answer = check_here(url)
    assert answer.status_code == 200, answer.text
    image = nifti(answer.content)
    values = np.asarray(image.dataobj)
    assert values.shape == SHAPE
    assert 0 <= values.min() < values.max() <= 1
    places = told["trust"]["places"]
    assert places
    for place in places:
        i, j, k = np.rint(np.linalg.inv(image.affine) @ [*place["centre"], 1])[:3].astype(int)
        assert values[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2].max() > 0.05, place["text"]


def test_as_dicom_it_is_a_fractional_segmentation_of_the_same_values(url: str, tmp_path: Path) -> None:
    answer = check_here(url, output="dicom_seg")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/dicom"
    path = tmp_path / "map.dcm"
    path.write_bytes(answer.content)
    seg = highdicom.seg.segread(path)
    assert seg.segmentation_type.value == "FRACTIONAL"
    assert seg.get_segment_description(1).segment_label == "check here"
    frames = seg.pixel_array / seg.MaximumFractionalValue
    values = np.asarray(nifti(check_here(url).content).dataobj)
    assert np.sort(frames[frames > 0]) == pytest.approx(
        np.sort(values[values >= 0.5 / 255]), abs=0.5 / 255 + 1e-6
    )


def test_a_reply_has_the_places_as_a_segment_where_they_are_asked_for(url: str) -> None:
    (plain, image), (told, more) = infer(url), infer(url, check_here=True)
    without, shown = (np.asarray(one.dataobj) for one in (image, more))
    assert "check here" not in plain["label_names"]
    value = told["label_names"].pop("check here")
    assert (told["label_names"], value) == (plain["label_names"], len(plain["label_names"]) + 1)
    assert told["volumes_ml"] == plain["volumes_ml"]  # they count the result's own labels
    marked = shown == value
    assert marked.any()
    np.testing.assert_array_equal(shown[~marked], without[~marked])
    values = np.asarray(nifti(check_here(url).content).dataobj)
    assert values[marked].mean() > values[(without > 0) & ~marked].mean()


def test_that_segment_is_never_kept(url: str, serving: Serving, tmp_path: Path) -> None:
    told, shown = infer(url, check_here=True)
    path = tmp_path / "label.nii.gz"
    nibabel.save(shown, path)
    params = {"label_info": [{"name": name} for name in told["label_names"]], "model": "slem_brain"}
    with path.open("rb") as file:
        fields = {
            "params": (None, json.dumps(params), "application/json"),
            "label": (path.name, file, "application/octet-stream"),
        }
        answer = requests.put(f"{url}/datastore/label", params={"image": CASE}, files=fields, timeout=60)
    assert answer.status_code == 422
    assert "'check here' hides the labels beneath it" in answer.text
    assert serving.datastore.store.tags(CASE) == ()
    infer(url, check_here=True, save_label=True)
    kept = serving.datastore.store.shown(CASE, ())
    assert "check here" not in kept.names


def test_a_model_that_says_nothing_of_its_doubts_has_no_map(
    open_app: Callable, click_models: Path, serve: Callable, tmp_path: Path
) -> None:
    heads = {CASE: phantom.make(seed=7, shape=SHAPE, spacing=SPACING)}
    with (
        open_app(heads, tmp_path, models_dir=str(click_models), models="slem_brain", score_load="0") as app,
        serve(build(app.serving)) as address,
    ):
        answer = check_here(address)
        assert (answer.status_code, "confidence.places" in answer.text) == (400, True), answer.text
