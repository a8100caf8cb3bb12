"""Two models over one folder of studies: each is offered what it is for, learns from its own labels, and says
plainly what is not for it.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monailabel.interfaces.app import MONAILabelApp
from monailabel.utils.others.class_utils import get_class_of_subclass_from_file

from slem_app import phantom
from slem_app.errors import BadStudy, NotFound
from slem_app.finetune.recipe import load_recipe
from slem_app.formats import read_label_file, write_nifti
from slem_app.network import SegmenterConfig, build
from slem_app.regions import PostProcess
from slem_app.serving.http.train_routes import train_router
from slem_app.volumes.prepare import Preparation
from slem_app.weights import BRAIN_LABELS, save_model
from tests.serving.web import served

MAIN = Path(__file__).parents[2] / "apps/slem/main.py"
ORGANS = ["liver", "right kidney", "left kidney", "spleen"]
PARTS = ["necrosis", "edema", "enhancing tumor"]


@pytest.fixture(scope="module")
def belly() -> phantom.BodyPhantom:
    return phantom.make_abdomen(3, (12.0, 12.0, 14.0))


@pytest.fixture
def both(studies: Path, belly: phantom.BodyPhantom) -> Path:
    """A and B are heads, C and D abdomens."""
    for name in ("C", "D"):
        phantom.write_nifti(belly, studies, name, layout="nifti", labels=False)
    return studies


@pytest.fixture(scope="session")
def two(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with an untrained one of the abdomen beside that of the brain."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(models / "slem_brain", folder / "slem_brain")
    config = SegmenterConfig(
        sequences=3,
        regions=4,
        channels=(4, 6),
        blocks=(1, 1),
        stem_channels=4,
        context_levels=(1,),
        deep_supervision=0,
        prompts=10,
    )
    torch.manual_seed(0)
    network = build(config)
    with torch.no_grad():
        network.head.weight.normal_(std=0.5)
        network.encoder.prompt[1].weight.normal_(std=0.1)
    preparation = Preparation(spacing=(8.0, 8.0, 8.0), multiple=8, stripped=False)
    card = load_recipe("chaos_clicks").card
    for name in ("slem_abdomen", "third"):
        own = dataclasses.replace(
            card,
            name=name,
            version="test",
            network=config,
            preparation=preparation,
            postprocess=PostProcess(config.prior),
        )
        save_model(folder / name, own, network)
    return folder


@pytest.fixture
def make(
    both: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., MONAILabelApp]:
    monkeypatch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    kind = get_class_of_subclass_from_file("main", str(MAIN), "MONAILabelApp")
    return lambda models: kind(
        str(MAIN.parent),
        str(both),
        {"models": models, "models_dir": str(two), "store": str(tmp_path / "store")},
    )


@pytest.fixture
def app(make: Callable[..., MONAILabelApp]) -> MONAILabelApp:
    return make("slem_brain,slem_abdomen,slem_abdomen_clicks")


def label(app: MONAILabelApp, case: str, tmp_path: Path, **info: object) -> dict:
    """Submit a label as a client does that draws the second segment everywhere on the reference."""
    found = app.serving.cases.find(case)
    names = PARTS if case in "AB" else ORGANS
    array = np.full(found.series.grid.shape, 2, np.uint8)
    array[:1] = 0
    path = tmp_path / f"{case}.nii.gz"
    write_nifti(
        array, found.series.grid, BRAIN_LABELS if case in "AB" else load_recipe("chaos").card.labels, path
    )
    info = {"label_info": [{"name": name, "idx": n} for n, name in enumerate(names, 1)], **info}
    app.on_save_label(case, app.datastore().save_label(case, str(path), "final", info))
    return app.datastore().get_label_info(case, "final")


def test_info_tells_each_models_labels_and_all_of_them_as_a_list(app: MONAILabelApp) -> None:
    info = app.info()
    assert {name: list(model["labels"]) for name, model in info["models"].items()} == {
        "slem_brain": PARTS,
        "slem_abdomen": ORGANS,
        "slem_abdomen_clicks": [*ORGANS, "background"],
    }
    assert isinstance(info["labels"], list)  # OHIF needs that
    assert set(info["labels"]) == {*PARTS, *ORGANS, "background"}
    assert {name: trainer["labels"] for name, trainer in info["trainers"].items()} == {
        "slem_brain": PARTS,
        "slem_abdomen": ORGANS,
    }
    assert info["strategies"]["balanced"]["config"] == {"model": ["any", "slem_brain", "slem_abdomen"]}


def test_a_case_says_which_models_it_is_for(app: MONAILabelApp) -> None:
    store = app.datastore()
    assert store.get_image_info("A")["models"] == ["slem_brain"]
    assert store.get_image_info("C")["models"] == ["slem_abdomen", "slem_abdomen_clicks"]
    assert store.get_image_info("C")["sequence"] == "t1_in"
    assert app.next_sample({"strategy": "first"})["models"] == ["slem_brain"]


def test_each_model_segments_its_own(app: MONAILabelApp, belly: phantom.BodyPhantom, heads: dict) -> None:
    for case, model, names, grid in (
        ("A", "slem_brain", PARTS, heads["A"].grid),
        ("C", "slem_abdomen", ORGANS, belly.grids["t1_in"]),
        ("C/t2", "slem_abdomen", ORGANS, belly.grids["t2"]),
    ):
        reply = app.infer({"model": model, "image": case})
        array, where, _ = read_label_file(Path(reply["file"]))
        assert where.same_as(grid)
        assert array.any()
        assert list(reply["params"]["label_names"]) == names
    assert reply["params"]["used"] == ["t1_in", "t1_out", "t2"]


@pytest.mark.parametrize(
    ("case", "model", "text"),
    [
        (
            "A",
            "slem_abdomen",
            (
                "case A is not for slem_abdomen, which segments t1_in, t1_out, t2: it has t1n, t1c, t2w, "
                "t2f; use slem_brain"
            ),
        ),
        (
            "C",
            "slem_brain",
            (
                "case C is not for slem_brain, which segments t1n, t1c, t2w, t2f: it has t1_in, t1_out, t2; "
                "use slem_abdomen or"
            ),
        ),
        ("A", "slem_abdomen_clicks", "case A is not for slem_abdomen_clicks"),
    ],
)
def test_the_wrong_model_says_so_and_names_the_right_one(
    app: MONAILabelApp, case: str, model: str, text: str
) -> None:
    with pytest.raises(BadStudy, match=text):
        app.infer({"model": model, "image": case, "liver": [[1, 1, 1]]})


def test_a_click_on_the_abdomen_changes_its_label(app: MONAILabelApp) -> None:
    ask = {"model": "slem_abdomen_clicks", "image": "C", "client_id": "ann"}
    before, _, _ = read_label_file(Path(app.infer(ask)["file"]))
    voxel = np.argwhere(before != 3)[len(before) // 2].tolist()
    after, _, _ = read_label_file(Path(app.infer({**ask, "left kidney": [voxel]})["file"]))
    assert after[tuple(voxel)] == 3


def test_labels_go_by_the_case_where_no_model_is_named(app: MONAILabelApp, tmp_path: Path) -> None:
    assert list(label(app, "A", tmp_path)["label_names"]) == PARTS
    meta = label(app, "C", tmp_path)
    assert list(meta["label_names"]) == ORGANS
    assert meta["present"] == ["right kidney"]


def test_a_reader_may_ask_for_cases_of_one_model(app: MONAILabelApp, tmp_path: Path) -> None:
    asked = [
        app.next_sample({"strategy": "balanced", "client_id": f"r{n}", "model": ["slem_abdomen"]})["id"]
        for n in range(2)
    ]
    assert sorted(asked) == ["C", "D"]
    assert app.next_sample({"strategy": "balanced", "client_id": "r3", "model": "slem_abdomen"}) == {}
    assert app.next_sample({"strategy": "balanced", "client_id": "r3", "model": "any"})["id"] in "AB"
    with pytest.raises(NotFound, match="no model 'slem_knee'; this server has slem_brain"):
        app.next_sample({"strategy": "balanced", "model": "slem_knee"})


def test_a_case_for_no_model_is_not_offered(make: Callable[..., MONAILabelApp]) -> None:
    app = make("slem_abdomen")
    found = {app.next_sample({"strategy": "first", "client_id": f"r{n}"}).get("id") for n in range(3)}
    assert found == {"C", "D", None}
    with pytest.raises(
        BadStudy, match=r"it has t1n, t1c, t2w, t2f; none of this server's models \(slem_abdomen\) is for it"
    ):
        app.infer({"model": "slem_abdomen", "image": "A"})


def test_the_background_measures_each_case_by_its_own_model(app: MONAILabelApp) -> None:
    scores = app.serving.scores
    while scores.step():
        pass
    assert scores.models("ABCD") == {
        "A": "slem_brain",
        "B": "slem_brain",
        "C": "slem_abdomen",
        "D": "slem_abdomen",
    }
    for name, cases, names in (("slem_brain", "AB", PARTS), ("slem_abdomen", "CD", ORGANS)):
        measures, notes = scores.of("ABCD", name)
        assert (sorted(measures), notes) == (list(cases), ())
        assert all(list(one.volumes_ml) == names for one in measures.values())
    given = {app.next_sample({"strategy": "diverse", "client_id": f"r{n}"})["id"] for n in range(4)}
    assert given == set("ABCD")  # features of two networks are never compared, and nothing is forgotten
    assert not scores.step()


def test_an_upload_without_a_telling_name_is_what_the_asked_model_looks_at_first(
    app: MONAILabelApp, belly: phantom.BodyPhantom, tmp_path: Path
) -> None:
    path = tmp_path / "volume.nii.gz"
    phantom.write_nifti(belly, tmp_path / "up", "u", layout="nifti")
    shutil.copy(tmp_path / "up/u/t1_in.nii.gz", path)
    app.datastore().add_image("mine", str(path), {})
    reply = app.infer({"model": "slem_abdomen", "image": "mine"})
    assert reply["params"]["used"] == ["t1_in"]
    assert "taken for t1_in" in reply["params"]["warnings"][0]["text"]
    saved = app.datastore().save_label("mine", reply["file"], "final", {"model": "slem_abdomen"})
    app.on_save_label("mine", saved)
    assert app.datastore().get_label_info("mine", "final")["sequence"] == "t1_in"


@pytest.mark.slow
def test_train_starts_each_model_on_its_own_labels_one_after_the_other(
    app: MONAILabelApp, tmp_path: Path
) -> None:
    serving = app.serving
    for case in "AC":
        label(app, case, tmp_path)
    trainings = serving.trainings
    trainings.defaults |= {
        "epoch_steps": 1,
        "max_epochs": 1,
        "settings": {"patch": [16, 16, 16], "interact": {"views": [16]}},
    }
    with served(train_router(trainings, serving.trainers)) as ask:
        begun = ask("POST", "/train/", json={"device": "cpu"}).json()
        assert begun["slem_brain"]["result"]["request"]["model"] == "slem_brain"
        assert begun["slem_abdomen"]["result"] is None
        assert begun["slem_abdomen"]["detail"].startswith("begins when the round before has ended")
        end = time.time() + 240
        while len(trainings.tasks()) < 2 or trainings.running():
            assert time.time() < end
            time.sleep(0.1)
        tasks = ask("GET", "/train/?all=true").json()
    assert [(one["request"]["model"], one["status"], one["skipped"]) for one in tasks] == [
        ("slem_brain", "DONE", {}),
        ("slem_abdomen", "DONE", {}),
    ], tasks


def test_a_model_without_labels_does_not_keep_the_other_from_training(
    app: MONAILabelApp, tmp_path: Path
) -> None:
    label(app, "C", tmp_path)
    trainings = app.serving.trainings
    with served(train_router(trainings, app.serving.trainers)) as ask:
        begun = ask("POST", "/train/", json={"device": "cpu"}).json()
        assert begun["slem_brain"] == {
            "result": None,
            "detail": "no case has a label of slem_brain yet: submit at least one, then train",
        }
        assert begun["slem_abdomen"]["result"]["status"] == "RUNNING"
        assert ask("DELETE", "/train/").json()["status"] == "STOPPED"
    assert trainings.running() is None


def test_a_model_needs_no_more_than_its_card_to_be_served(make: Callable[..., MONAILabelApp]) -> None:
    app = make("third,third_clicks,third_scribbles")
    info = app.info()
    assert {name: model["type"] for name, model in info["models"].items()} == {
        "third": "segmentation",
        "third_clicks": "deepedit",
        "third_scribbles": "scribbles",
    }
    assert list(info["trainers"]) == ["third"]
    assert app.infer({"model": "third", "image": "D"})["params"]["used"] == ["t1_in", "t1_out", "t2"]
