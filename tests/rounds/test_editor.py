"""A round of a model with an editor: the editor learns from what readers corrected, and is kept if clicks
bring no less with it.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from slem_app.cli import main
from slem_app.network import build
from slem_app.prompts import CORRECTIONS_FILE, Click, Corrections, Mask
from slem_app.rounds import round as round_module
from slem_app.rounds.clicks import ClickScores
from slem_app.rounds.job import DONE, Job, Labelled
from slem_app.rounds.labelled import LabelledStudies
from slem_app.rounds.validate import HoldOutScores
from slem_app.training import TrainingFailed
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache
from slem_app.weights import Model, load_editor, load_model, save_editor, save_model
from slem_app.weights.editor import EDITOR_FILE
from tests.finetune.conftest import TINY
from tests.rounds.test_round import assert_no_harm, content, job, killed, labelled, run, served  # noqa: F401
from tests.untrained import noisy_editor

SPACING = 4.0


def corrected(label: Path) -> Corrections:
    """A start that lacks the enhancing tumor and has edema too much, and a click into each."""
    image = nib.load(label)
    truth, grid = np.asarray(image.dataobj).astype(np.uint8), Grid(image.shape, image.affine)
    shown = np.where(truth == 3, 0, truth).astype(np.uint8)
    shown[6:12, 8:14, 18:24] = 2
    deep = np.argwhere(truth == 3)
    lacking = deep[len(deep) // 2].tolist()
    entries = Click.on(grid, lacking, "enhancing tumor"), Click.on(grid, (9, 11, 21), "")
    return Corrections(Mask(shown, grid), entries)


@pytest.fixture
def cases(labelled, tmp_path: Path) -> tuple[Labelled, ...]:  # noqa: F811
    """The labels, with what their readers did beside those of A and B."""
    found = []
    for one in labelled[1]:
        label = tmp_path / "labels" / one.case / "label.nii.gz"
        label.parent.mkdir(parents=True)
        shutil.copyfile(one.label, label)
        if one.case != "C":
            corrected(label).save(label.with_name(CORRECTIONS_FILE))
        found.append(dataclasses.replace(one, label=str(label)))
    (tmp_path / "hold_out.yaml").write_text("validate: [C]\ntrain: [A, B]\n")
    return tuple(found)


@pytest.fixture
def edited(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A model on a shelf, and beside it its editor."""
    shelf = tmp_path / "shelf"
    editor = noisy_editor(SPACING)
    save_editor(shelf / "small_editor", editor.card, editor.network)
    save_model(
        shelf / "slem_brain",
        dataclasses.replace(load_model(served).card, editor="small_editor"),
        build(TINY),
    )
    monkeypatch.setenv("SLEM_MODELS", str(shelf))
    return shelf / "slem_brain"


@pytest.fixture
def order(job, edited: Path, cases: tuple[Labelled, ...]) -> Callable[..., Job]:  # noqa: F811
    own = {"served": str(edited), "bundled": str(edited), "cases": cases, "publish": "always"}
    own["max_epochs"] = 1
    return lambda **changes: job(**{**own, **changes})


@pytest.fixture
def worth(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the mean Dice after clicks with a new editor; with the one of before it is 0.5."""

    def set_to(value: float) -> None:
        def told(self, model, editors) -> list[dict[str, float]]:
            both = [0.5, value]
            return [{"after 3 clicks": one, "after 5 clicks": one, "mean": one} for one in both]

        monkeypatch.setattr(ClickScores, "__call__", told)

    return set_to


def weights(model: Model) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in model.editor.network.state_dict().values()])


def test_the_editor_learns_from_corrections_and_the_version_keeps_it(order, edited: Path, worth) -> None:
    worth(0.6)
    status = run(order()).status()
    assert (status.status, status.published) == (DONE, 1)
    assert any(
        "0.6000 after 3 clicks (before 0.5000) and 0.6000 after 5 clicks (before 0.5000) on the hold-out: "
        "the new editor is served with the new model" in note
        for note in status.notes
    )
    first, version = load_model(edited), load_model(order().published.served())
    assert version.editor.folder == version.folder
    assert not torch.equal(weights(version), weights(first))
    assert version.editor.card.version == "1+1"
    assert version.editor.card.training.startswith("small_editor 1, then round ")
    assert "2 cases" in version.editor.card.training
    assert version.card.figures["hold-out dice after 5 clicks"] == 0.6
    assert torch.equal(weights(load_model(edited)), weights(first))


def test_an_editor_with_which_clicks_bring_less_is_not_kept_and_that_is_said(
    order, edited: Path, worth
) -> None:
    worth(0.4)
    status = run(order()).status()
    assert status.published == 1
    assert any(note.endswith("on the hold-out: the previous editor is kept") for note in status.notes)
    version = load_model(order().published.served())
    assert not (version.folder / EDITOR_FILE).exists()
    assert torch.equal(weights(version), weights(load_model(edited)))


def test_a_version_hands_its_own_editor_on_and_going_back_brings_the_first(
    order, edited: Path, cases, worth
) -> None:
    worth(0.6)
    run(order())
    learnt = load_model(order().published.served())
    cache = Path(order().root) / "cache-editor"
    made = {case: (cache / case / "case.json").stat().st_mtime_ns for case in ("A", "B")}
    corrected(Path(cases[2].label)).save(Path(cases[1].label).with_name(CORRECTIONS_FILE))
    worth(0.4)
    run(order(served=str(learnt.folder)))
    version = load_model(order().published.served())
    assert version.folder != learnt.folder
    assert version.editor.folder == version.folder
    torch.testing.assert_close(weights(version), weights(learnt))
    order().published.serve(0)
    back = order().published.load().model
    assert torch.equal(weights(back), weights(load_model(edited)))
    assert back.editor.folder.name == "small_editor"
    # only what has changed was prepared once more
    assert (cache / "A/case.json").stat().st_mtime_ns == made["A"]
    assert (cache / "B/case.json").stat().st_mtime_ns > made["B"]


def test_a_person_publishes_a_refused_candidate_with_its_editor(order, worth, tmp_path: Path) -> None:
    worth(0.6)
    run(order(publish="never"))
    (refused,) = order().published.refused()
    assert (refused.folder / EDITOR_FILE).is_file()
    (tmp_path / "models").mkdir(exist_ok=True)
    assert main(["publish", str(refused.folder), "--store", str(tmp_path)]) == 0
    version = load_model(order().published.served())
    assert version.editor.folder == version.folder
    torch.testing.assert_close(weights(version), weights(load_model(refused.folder)))


def test_without_corrections_the_editor_stays_as_it_is(order, labelled, edited: Path) -> None:  # noqa: F811
    status = run(order(cases=labelled[1])).status()
    assert status.published == 1
    assert not any("editor" in note for note in status.notes)
    assert load_model(order().published.served()).editor.folder.name == "small_editor"
    assert not (Path(order().root) / "cache-editor").exists()


def test_without_a_held_out_case_the_editor_stays_as_it_is(order, cases) -> None:
    status = run(order(cases=cases[:1])).status()
    assert "the editor is not trained: no case is held out to measure clicks on" in status.notes
    assert load_model(order().published.served()).editor.folder.name == "small_editor"


def test_a_damaged_record_of_corrections_costs_that_record_alone(order, cases, worth) -> None:
    worth(0.6)
    Path(cases[0].label).with_name(CORRECTIONS_FILE).write_bytes(b"PK\x03\x04 cut off")
    assert run(order()).status().published == 1
    version = load_model(order().published.served())
    assert "2 cases" in version.editor.card.training


def test_an_editor_whose_loss_is_no_number_leaves_the_round_as_it_is(order, monkeypatch, edited) -> None:
    def fails(*_: object) -> None:
        raise TrainingFailed("the loss is nan")

    monkeypatch.setattr(round_module, "editor_learnt", fails)
    status = run(order()).status()
    assert (status.status, status.published) == (DONE, 1)
    assert "the editor could not be trained, so the previous one is kept: the loss is nan" in status.notes


def test_a_round_that_was_cut_off_while_the_editor_learnt_goes_on(order, worth, monkeypatch) -> None:
    worth(0.6)
    whole = order()
    run(whole)
    expected = weights(load_model(whole.published.served()))
    shutil.rmtree(whole.models)
    shutil.rmtree(whole.root)
    real, count = load_editor, []

    def cut_off(*_: object) -> None:
        count.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr("slem_app.rounds.editor.load_editor", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(order())
    monkeypatch.setattr("slem_app.rounds.editor.load_editor", real)
    (curve,) = Path(order().root).glob("work/*/editor-*/losses.csv")
    assert len(curve.read_text().splitlines()) == 3  # a header and two steps: it had come to its end
    prepared = Path(order().root) / "cache-editor/A/case.json"
    made = prepared.stat().st_mtime_ns
    run(order())
    assert count == [1]
    assert made == prepared.stat().st_mtime_ns
    found = weights(load_model(order().published.served()))
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-4)


def test_clicks_are_measured_on_the_hold_out_by_a_simulated_reader(
    order, edited: Path, tmp_path: Path
) -> None:
    model, studies, cache = load_model(edited), LabelledStudies(order()), CaseCache(tmp_path / "cache")
    scores = HoldOutScores(studies, ("A", "C"), cache, model, tmp_path / "copies", "cpu")
    still, eager = noisy_editor(SPACING, bias=-50.0), noisy_editor(SPACING, bias=50.0)
    found = ClickScores(scores)(model, (still, still, eager))
    assert found[0] == found[1]
    assert found[0] != found[2]
    for one in found:
        assert set(one) == {"after 3 clicks", "after 5 clicks", "mean"}
        assert 0 <= one["mean"] <= 1
        assert one["mean"] == pytest.approx((one["after 3 clicks"] + one["after 5 clicks"]) / 2)
    nothing = HoldOutScores(studies, (), cache, model, tmp_path / "none", "cpu")
    assert ClickScores(nothing)(model, (still,)) == [{}]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", ["training the editor", "measuring the editor"])
def test_killed_while_the_editor_learns_it_leaves_no_harm_and_the_next_round_goes_on(
    order, edited: Path, stage: str
) -> None:
    model, editor = content(edited), content(edited.parent / "small_editor")
    assert killed(order(), lambda folder: folder.status().stage == stage)
    assert_no_harm(order(), model)
    assert content(edited.parent / "small_editor") == editor
    assert order().published.served_number() == 1
