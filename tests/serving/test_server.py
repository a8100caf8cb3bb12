"""The app as MONAI Label loads it, and how a request finds its case."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monailabel.interfaces.app import MONAILabelApp
from monailabel.utils.others.class_utils import get_class_of_subclass_from_file

from slem_app import phantom
from slem_app.errors import BadSetting, BadStudy, NotFound
from slem_app.formats import read_label_file, write_nifti
from slem_app.predict import Predictor
from slem_app.prompts import CORRECTIONS_FILE, Corrections
from slem_app.selection import STRATEGIES
from slem_app.serving.learning.leases import ReaderLease
from slem_app.weights import BRAIN_LABELS, load_model, save_model
from tests.serving.conftest import SHIFT
from tests.untrained import noisy, small_card

MAIN = Path(__file__).parents[2] / "apps/slem/main.py"
NAMES = ["necrosis", "edema", "enhancing tumor"]


@pytest.fixture(scope="module")
def app_class() -> type:
    return get_class_of_subclass_from_file("main", str(MAIN), "MONAILabelApp")


@pytest.fixture
def app(
    app_class: type, studies: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MONAILabelApp:
    monkeypatch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    return app_class(
        str(MAIN.parent),
        str(studies),
        {"models": "slem_brain", "models_dir": str(models), "store": str(tmp_path / "store")},
    )


def test_the_app_is_small_and_the_configs_too() -> None:
    assert len(MAIN.read_text().splitlines()) <= 60
    for path in (MAIN.parent / "lib/configs").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 30


def test_info_is_what_clients_need(app: MONAILabelApp) -> None:
    info = app.info()
    assert info["labels"] == NAMES
    assert set(info["models"]) == {"slem_brain"}
    assert next(iter(info["strategies"])) == "diverse"  # clients offer the first one
    assert set(info["strategies"]) == set(STRATEGIES)
    assert list(info["trainers"]) == ["slem_brain"]  # OHIF starts all of them: pre-training is none
    assert info["trainers"]["slem_brain"]["config"]["max_epochs"] == 10
    assert info["train_stats"]["slem_brain"]["best_metric"] == 0.0
    assert info["scoring"] == {}
    assert info["datastore"]["total"] == 2
    assert app.model_info("slem_brain")["checksum"].startswith("SHA256:")


def test_next_sample_has_id_and_path(app: MONAILabelApp, studies: Path) -> None:
    sample = app.next_sample({"strategy": "first"})
    assert (sample["id"], sample["path"]) == ("A", str(studies / "A/A-t1c.nii.gz"))
    assert app.next_sample({})["id"] in ("A", "B")
    with pytest.raises(NotFound, match="no strategy 'oracle'; this server has diverse, balanced, "):
        app.next_sample({"strategy": "oracle"})


def test_infer_by_id(app: MONAILabelApp, heads: dict) -> None:
    result = app.infer({"model": "slem_brain", "image": "B/t2f"})
    array, grid, _ = read_label_file(Path(result["file"]))
    assert grid.same_as(heads["B"].grids["t2f"])
    assert array.any()
    assert result["params"]["sequence"] == "t2f"


def test_a_file_of_the_id_in_the_working_folder_is_not_taken(
    app: MONAILabelApp, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(studies)  # where the path A exists
    assert app.infer({"model": "slem_brain", "image": "A"})["params"]["case"] == "A"


def test_infer_may_save_its_label(app: MONAILabelApp) -> None:
    result = app.infer({"model": "slem_brain", "image": "A", "save_label": True, "label_tag": "original"})
    assert (result["label"], result["tag"]) == ("A", "original")
    stored, _, _ = read_label_file(Path(app.datastore().get_label_uri("A", "original")))
    np.testing.assert_array_equal(stored, read_label_file(Path(result["file"]))[0])
    assert app.datastore().get_label_info("A", "original")["params"]["label_names"] == {
        name: value for value, name in enumerate(NAMES, 1)
    }


def test_batch_inference_labels_what_is_left(app: MONAILabelApp) -> None:
    app.infer({"model": "slem_brain", "image": "A", "save_label": True, "label_tag": "original"})
    result = app.batch_infer(
        {
            "model": "slem_brain",
            "images": "unlabeled",
            "label_tag": "original",
            "device": "cuda",
            "multi_gpu": True,
        }
    )
    assert set(result) == {"B"}
    assert app.datastore().get_labeled_images("original") == ["A", "B"]
    with pytest.raises(NotFound, match="no model 'spleen'; this server has slem_brain"):
        app.batch_infer({"model": "spleen"})


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"model": "slem_brain", "image": "/etc/passwd"}, "paths on the server are not ids"),
        ({"model": "slem_brain", "image": "../../etc/passwd"}, "no case '../../etc/passwd'"),
        (
            {"model": "slem_brain", "image": "/etc/passwd", "session": {"image": "/etc/passwd"}},
            "paths on the server are not ids",
        ),
        ({"model": "other", "image": "A"}, "no model 'other'; this server has slem_brain"),
        ({"image": "A"}, "no model ''; this server has slem_brain"),
    ],
)
def test_what_is_no_case_or_model_is_not_found(app: MONAILabelApp, request_: dict, text: str) -> None:
    with pytest.raises(NotFound, match=text):
        app.infer(request_)


def test_a_studies_file_is_no_id_even_with_its_full_path(app: MONAILabelApp, studies: Path) -> None:
    with pytest.raises(NotFound, match="paths on the server are not ids"):
        app.infer({"model": "slem_brain", "image": str(studies / "A/A-t1c.nii.gz")})


def test_a_request_without_image_is_told(app: MONAILabelApp) -> None:
    with pytest.raises(BadSetting, match="the request names no image"):
        app.infer({"model": "slem_brain", "image": ""})


def test_a_session_is_segmented_and_its_label_not_kept(
    app: MONAILabelApp, studies: Path, tmp_path: Path
) -> None:
    shutil.copy(studies / "A/A-t2f.nii.gz", tmp_path / "tmpabcd1234.nii.gz")
    session = app.sessions().add_session(tmp_path / "tmpabcd1234.nii.gz")
    result = app.infer(
        {"model": "slem_brain", "image": session.image, "sequence": ["t2f"], "save_label": True}
    )
    assert result["label"] == result["file"]
    assert result["params"]["used"] == ["t2f"]
    with pytest.raises(BadSetting, match="unknown sequence 'pet'"):
        app.infer({"model": "slem_brain", "image": session.image, "sequence": "pet"})


def test_a_session_of_dicom_files_is_segmented(app: MONAILabelApp, heads: dict, tmp_path: Path) -> None:
    phantom.write_dicom(heads["B"], tmp_path / "dicom", "B")
    session = app.sessions().add_session(tmp_path / "dicom")
    result = app.infer({"model": "slem_brain", "image": session.image})
    assert sorted(result["params"]["used"]) == ["t1c", "t1n", "t2f", "t2w"]


def test_a_file_sent_with_the_request_is_segmented(app: MONAILabelApp, studies: Path) -> None:
    with tempfile.NamedTemporaryFile(suffix=".nii.gz") as file:
        path = Path(file.name)  # as MONAI Label names it
    shutil.copy(studies / "A/A-t1c.nii.gz", path)
    try:
        assert app.infer({"model": "slem_brain", "image": str(path)})["params"]["used"] == ["t1c"]
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("conf", "error", "text"),
    [
        ({"spleen": "yes"}, BadSetting, "unknown settings spleen"),
        ({"models": "other"}, BadSetting, "unknown models other; this app has slem_abdomen.* slem_brain"),
        ({"device": "abacus"}, BadSetting, "unknown device 'abacus'"),
    ],
)
def test_bad_settings_stop_the_start(
    app_class: type, studies: Path, models: Path, conf: dict, error: type, text: str
) -> None:
    with pytest.raises(error, match=text):
        app_class(str(MAIN.parent), str(studies), {"models_dir": str(models)} | conf)


def test_an_address_that_is_none_or_a_folder_without_studies_stops_the_start(
    app_class: type, models: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadSetting, match="the address of the PACS must be"):
        app_class(str(MAIN.parent), "http://somebody:secret@127.0.0.1/dicom-web", {"models_dir": str(models)})
    (tmp_path / "holiday.txt").write_text("x")
    with pytest.raises(BadStudy, match="holiday.txt"):
        app_class(str(MAIN.parent), str(tmp_path), {"models_dir": str(models)})


# clicks


@pytest.fixture
def serve(
    app_class: type, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., MONAILabelApp]:
    monkeypatch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    return lambda folder, **conf: app_class(
        str(MAIN.parent), str(studies), {"models_dir": str(folder), "store": str(tmp_path / "store"), **conf}
    )


def test_every_model_can_be_a_tool_for_clicks_and_scribbles(serve: Callable, click_models: Path) -> None:
    app = serve(click_models, models="slem_brain,slem_brain_clicks,slem_brain_scribbles")
    info = app.info()
    assert {name: model["type"] for name, model in info["models"].items()} == {
        "slem_brain": "segmentation",
        "slem_brain_clicks": "deepedit",
        "slem_brain_scribbles": "scribbles",
    }
    assert info["labels"] == [*NAMES, "background"]
    tasks = app.serving.tasks.values()
    assert len({id(task.predictor) for task in tasks}) == 1  # one network, once in memory


def test_what_was_submitted_is_what_the_reader_goes_on_with(
    serve: Callable, click_models: Path, studies: Path
) -> None:
    app = serve(click_models, models="slem_brain_clicks")
    ask = {"model": "slem_brain_clicks", "image": "A", "client_id": "ann", "edema": [[20, 20, 20]]}
    app.infer(ask)
    path = studies / "A/A-seg.nii.gz"
    label = app.datastore().save_label(
        "A", str(path), "final", {"client_id": "ann", "model": "slem_brain_clicks"}
    )
    app.on_save_label("A", label)
    submitted, _, _ = read_label_file(path)
    for client, same in (("ann", True), ("ben", False)):
        shown = read_label_file(Path(app.infer({**ask, "client_id": client})["file"]))[0]
        assert (shown == submitted).all() == same


def test_what_was_shown_at_first_and_the_prompts_are_kept_with_a_label(
    serve: Callable, click_models: Path, studies: Path
) -> None:
    app = serve(click_models, models="slem_brain_clicks,slem_brain_scribbles")
    ask = {"model": "slem_brain_clicks", "image": "A", "client_id": "ann"}
    automatic = read_label_file(Path(app.infer(ask)["file"]))[0]
    app.infer({**ask, "edema": [[20, 20, 20]]})
    app.infer({**ask, "edema": [[20, 20, 20]], "background": [[9, 24, 18]]})
    app.infer({**ask, "undo": True})
    app.infer({**ask, "client_id": "ben", "necrosis": [[22, 24, 18]]})

    def submits(client: str) -> Path:
        said = {"client_id": client, "model": "slem_brain_clicks"}
        label = app.datastore().save_label("A", str(studies / "A/A-seg.nii.gz"), "final", said)
        app.on_save_label("A", label)
        return app.serving.datastore.store.latest("A", "final").folder / CORRECTIONS_FILE

    first = submits("ann")
    kept = Corrections.read(first)
    np.testing.assert_array_equal(kept.start.array, automatic)
    assert [(one.label, one.voxel(kept.start.grid)) for one in kept.entries] == [("edema", (20, 20, 20))]
    again = Corrections.read(submits("ann"))  # what was submitted takes the place of nothing that was clicked
    assert again.entries == kept.entries
    assert Corrections.read(submits("ben")).labels == ("necrosis",)
    assert not submits("carl").exists()


def test_a_submitted_label_without_any_clicks_is_just_kept(
    serve: Callable, click_models: Path, studies: Path
) -> None:
    app = serve(click_models)
    for tag in ("final", "original"):
        app.on_save_label("A", app.datastore().save_label("A", str(studies / "A/A-seg.nii.gz"), tag, {}))
    assert app.serving.memory.used == 0


# next case


def test_a_request_renews_the_lease_and_a_saved_label_ends_it(app: MONAILabelApp, studies: Path) -> None:
    app.next_sample({"strategy": "first", "client_id": "ann"})
    leases = app.serving.chooser.leases
    until = leases.leases["A"].until
    leases.leases["A"] = ReaderLease("ann@", 0.0, until - 1000)
    app.infer({"model": "slem_brain", "image": "A", "client_id": "ann"})
    assert leases.leases["A"].until >= until
    assert app.next_sample({"strategy": "first", "client_id": "ben"})["id"] == "B"
    app.on_save_label("A", app.datastore().save_label("A", str(studies / "A/A-seg.nii.gz"), "final", {}))
    assert leases.holder("A") is None
    assert app.next_sample({"strategy": "first", "client_id": "ann"}) == {}


def test_cases_are_measured_with_the_model_that_is_served_now(app: MONAILabelApp, tmp_path: Path) -> None:
    card = small_card(name="slem_brain", version="other")
    save_model(tmp_path / "other", card, noisy(seed=1))
    while app.serving.scores.step():
        pass
    assert app.next_sample({})["score"] is not None
    task = app.serving.automatic["slem_brain"]
    task.served.switch(Predictor(load_model(tmp_path / "other")))
    while app.serving.scores.step():
        pass
    sample = app.next_sample({"strategy": "balanced", "client_id": "ben"})
    assert "change" in sample["details"]
    assert not any("earlier model" in note for note in sample["strategy_notes"])


def test_a_saved_label_tells_who_made_it_with_what_and_what_it_cost(
    app_class: type, studies: Path, click_models: Path, heads: dict, tmp_path: Path
) -> None:
    app = app_class(
        str(MAIN.parent), str(studies), {"models_dir": str(click_models), "store": str(tmp_path / "store")}
    )
    app.serving.activity.clock = iter(
        range(1000, 2000, 5)
    ).__next__  # five seconds from one look at the clock to the next
    app.infer({"model": "slem_brain", "image": "A", "save_label": True, "client_id": "eva"})
    clicks = {
        "edema": [[20, 22, 18], [12, 30, 20]],
        "necrosis": [],
        "enhancing tumor": [[26, 16, 24]],
        "background": [],
    }
    app.infer({"model": "slem_brain_clicks", "image": "A", "client_id": "eva", **clicks})
    path = tmp_path / "label.nii.gz"
    write_nifti(heads["A"].labels, heads["A"].grid, BRAIN_LABELS, path)
    for fields in (
        {"model": "slem_brain", "client_id": "eva", "client": "a test"},
        {"model": "slem_brain", "client_id": "tom", "seconds": 90, "clicks": "4"},
    ):
        app.datastore().save_label("A", str(path), "final", fields)
        app.on_save_label("A", "A")
    draft, eva, tom = app.datastore().history("A")
    assert (draft["tag"], draft["automatic"], draft["model"], draft["model_version"]) == (
        "original",
        True,
        "slem_brain",
        "test",
    )
    assert (eva["reader"], eva["client"], eva["clicks"], eva["seconds"], eva["automatic"]) == (
        "eva@",
        "a test",
        3,
        10.0,
        False,
    )
    assert eva["model_sha256"] == app.serving.automatic["slem_brain"].predictor.card.sha256
    assert (tom["reader"], tom["clicks"], tom["seconds"], tom["counts"]) == ("tom@", 4, 90.0, True)
    with pytest.raises(BadSetting, match="seconds is 'long': a number from 0 on is expected"):
        app.datastore().save_label("A", str(path), "final", {"client_id": "eva", "seconds": "long"})
    assert len(app.datastore().history("A")) == 3


def test_a_saved_label_tells_what_was_done_to_the_study(
    app_class: type, shifted: Path, models: Path, heads: dict, tmp_path: Path
) -> None:
    conf = {"models_dir": str(models), "models": "slem_brain", "store": str(tmp_path / "store")}
    app = app_class(str(MAIN.parent), str(shifted), {**conf, "register": "true"})
    app.infer({"model": "slem_brain", "image": "A", "save_label": True, "client_id": "eva"})
    fields = {"model": "slem_brain", "client_id": "eva"}
    path = tmp_path / "label.nii.gz"
    write_nifti(heads["A"].labels, heads["A"].grid, BRAIN_LABELS, path)
    app.datastore().save_label("A", str(path), "final", fields)
    app.datastore().save_label("A", str(path), "final", {"client_id": "tom"})
    draft, eva, tom = app.datastore().history("A")
    assert set(draft["preparation"]["moved_mm"]) == {"t2f"}
    assert eva["preparation"] == draft["preparation"]
    assert tom["preparation"] == {}, "drawn without a model"
    shown = read_label_file(Path(app.datastore().get_label_uri("A/t2f", "final")))[0]
    there, here = (np.argwhere(array == 2).mean(axis=0) for array in (shown, heads["A"].labels))
    np.testing.assert_allclose(there - here, SHIFT, atol=0.6)


# versions


def publish(app: MONAILabelApp) -> None:
    """Another version of slem_brain, which answers otherwise, taken up at once."""
    watcher = app.serving.watchers["slem_brain"]
    model = load_model(watcher.published.served())
    with torch.no_grad():
        model.network.head.weight.neg_()
    watcher.published.publish(model.card, model.network, {"mean": 0.5}, {"mean": 0.5})
    watcher.look()


def test_a_new_version_answers_without_a_restart_and_is_told(app: MONAILabelApp) -> None:
    ask = {"model": "slem_brain", "image": "A"}
    assert app.info()["models"]["slem_brain"]["version"] == "test"
    old = app.infer(ask)
    publish(app)
    new = app.infer(ask)
    assert (old["params"]["model_version"], new["params"]["model_version"]) == ("test", "test+1")
    assert (read_label_file(Path(old["file"]))[0] != read_label_file(Path(new["file"]))[0]).any()
    assert app.info()["models"]["slem_brain"]["version"] == "test+1"
    assert app.info()["train_stats"]["slem_brain"]["served_version"] == 1
    app.serving.watchers["slem_brain"].published.serve(0)
    app.serving.watchers["slem_brain"].look()
    np.testing.assert_array_equal(
        read_label_file(Path(app.infer(ask)["file"]))[0], read_label_file(Path(old["file"]))[0]
    )


def test_a_readers_clicks_stay_with_their_version_until_the_case_is_done(
    serve: Callable, click_models: Path, studies: Path
) -> None:
    app = serve(click_models)
    ask = {"model": "slem_brain_clicks", "image": "A", "client_id": "ann", "edema": [[20, 20, 20]]}
    app.infer(ask)
    publish(app)
    more = {**ask, "edema": [[20, 20, 20], [12, 30, 20]]}
    again = app.infer(more)["params"]
    assert (again["model_version"], again["steps"]) == ("test", 2)
    assert app.infer({**more, "client_id": "ben"})["params"]["model_version"] == "test+1"
    label = app.datastore().save_label(
        "A", str(studies / "A/A-seg.nii.gz"), "final", {"client_id": "ann", "model": "slem_brain_clicks"}
    )
    app.on_save_label("A", label)
    # the label tells the version that it was made with
    assert app.datastore().history("A")[-1]["model_version"] == "test"
    assert app.infer(more)["params"]["model_version"] == "test"
    assert app.infer({**ask, "image": "B"})["params"]["model_version"] == "test+1"
    assert app.infer(more)["params"]["model_version"] == "test+1"


def test_a_readers_clicks_stay_with_their_version_over_a_restart(serve: Callable, click_models: Path) -> None:
    app = serve(click_models)
    ask = {"model": "slem_brain_clicks", "image": "A", "client_id": "ann", "edema": [[20, 20, 20]]}
    before = app.infer(ask)
    publish(app)
    again = serve(click_models)
    after = again.infer(ask)
    assert (again.info()["models"]["slem_brain_clicks"]["version"], after["params"]["model_version"]) == (
        "test+1",
        "test",
    )
    np.testing.assert_array_equal(
        read_label_file(Path(after["file"]))[0], read_label_file(Path(before["file"]))[0]
    )
    assert again.infer({**ask, "client_id": "ben"})["params"]["model_version"] == "test+1"


def test_the_choice_of_the_next_case_goes_by_the_new_version(app: MONAILabelApp) -> None:
    while app.serving.scores.step():
        pass
    publish(app)
    assert app.serving.scores.woken.is_set()
    while app.serving.scores.step():
        pass
    assert {len(known) for known in app.serving.scores.entries.values()} == {2}
    assert "change" in app.next_sample({"strategy": "balanced"})["details"]
