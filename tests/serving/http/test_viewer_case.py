"""What the viewer's mode is told of a study before it opens it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from slem_app import phantom
from slem_app.formats import write_nifti
from slem_app.serving.app_folder import open_serving
from slem_app.serving.http.application import build
from slem_app.serving.server import Serving
from slem_app.weights import BRAIN_LABELS

SMALL = {"shape": (24, 28, 20), "spacing": (6.0, 6.0, 7.0)}


@pytest.fixture(scope="module")
def head() -> phantom.Phantom:
    return phantom.make(seed=1, **SMALL)


@pytest.fixture(scope="module")
def serving(
    head: phantom.Phantom, click_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    place = tmp_path_factory.mktemp("server")
    phantom.write_dicom(head, place / "studies", "ann")
    conf = {"models_dir": str(click_models), "store": str(place / "store")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(place / "sessions"))
        yield open_serving(str(place / "studies"), conf)


@pytest.fixture(scope="module")
def ask(serving: Serving, serve: Callable) -> Iterator[Callable[[str], requests.Response]]:
    """What is told of a study."""
    with serve(build(serving)) as url:
        yield lambda study: requests.get(f"{url}/slem/viewer/case", params={"study": study}, timeout=60)


def test_a_study_is_told_by_our_grouping_in_the_order_of_the_model(
    ask: Callable, head: phantom.Phantom
) -> None:
    told = ask("ann").json()
    assert "sequences" in told, told
    assert [one["title"] for one in told["sequences"]] == ["T1", "T1 contrast", "T2", "FLAIR"]
    assert (told["reference"], told["missing"], told["state"], told["label"]) == ("t1c", [], "new", None)
    np.testing.assert_allclose(told["grid"]["affine"], head.grids["t1c"].affine[:3], atol=1e-3)
    by_uid = ask(told["study"]).json()
    assert by_uid == told


def test_labels_have_the_colours_of_the_card(ask: Callable) -> None:
    [model, *_] = ask("ann").json()["models"]
    assert model["clicks"] == f"{model['name']}_clicks"
    told = [(one["name"], one["value"], tuple(one["color"])) for one in model["labels"]]
    assert told == [(one.name, one.value, one.color) for one in BRAIN_LABELS.labels]


def test_the_label_that_stands_for_the_case_is_told(
    ask: Callable, serving: Serving, head: phantom.Phantom
) -> None:
    meta = {
        "sequence": "t1c",
        "label_names": {name: value for value, name in enumerate(BRAIN_LABELS.names, 1)},
    }
    grid = head.grids["t1c"]
    serving.datastore.store.save(
        "ann", "final", lambda path: write_nifti(head.labels, grid, BRAIN_LABELS, path), meta
    )
    label = ask("ann").json()["label"]
    assert (label["tag"], label["version"], label["sequence"]) == ("final", 1, "t1c")
    assert label["names"] == list(BRAIN_LABELS.names)


def test_an_unknown_study_is_refused_with_a_sentence(ask: Callable) -> None:
    answer = ask("1.2.3")
    assert answer.status_code == 404
    assert "no case '1.2.3'" in answer.json()["detail"]
