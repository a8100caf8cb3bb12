"""What readers corrected, as the editor's training sees it: made again by an editor, drawn as samples."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from slem_app.finetune.editing.cutouts import cut_out
from slem_app.finetune.editing.disturb import StartSettings, make_start
from slem_app.finetune.editing.losses import CorrectionLosses
from slem_app.finetune.editing.samples import EditingSamples
from slem_app.finetune.editing.sessions import Session, pointed_out
from slem_app.finetune.editing.settings import EditorSettings
from slem_app.finetune.editing.starts import Starts
from slem_app.network import EditorNetwork
from slem_app.phantom import Phantom, make, write_nifti
from slem_app.predict import Predictor
from slem_app.predict.editing import Pointed
from slem_app.prompts import BACKGROUND, Click, Corrections, Mask, Scribble
from slem_app.studies import Study, open_source
from slem_app.weights import BRAIN_LABELS, Model
from tests.untrained import SMALL_EDITOR, noisy, noisy_editor, small_card

SETTINGS = EditorSettings(steps=3, batch=2, view=16, save_every=1, replayed=0.9, scale=(0.9, 1.2))
START = StartSettings(tries=1, kept=1)


@pytest.fixture(scope="module")
def head() -> Phantom:
    return make(1, (44, 52, 38), (4.0, 4.0, 4.0))


@pytest.fixture(scope="module")
def corrections(head: Phantom) -> Corrections:
    """From a result without the enhancing tumor and with edema that is not there, three prompts."""
    truth, grid = head.labels, head.grid
    shown = np.where(truth == 3, 0, truth).astype(np.uint8)
    shown[4:10, 4:10, 20:26] = 2
    missing = np.argwhere(truth == 3)
    painted = np.zeros(truth.shape, bool)
    painted[tuple(missing[: len(missing) // 2].T)] = True
    entries = (
        Click.on(grid, (7, 7, 23), BACKGROUND),
        Click.on(grid, (30, 40, 2), BACKGROUND),  # nothing was wrong there
        Scribble.of("enhancing tumor", painted, grid),
    )
    return Corrections(Mask(shown, grid), entries)


@pytest.fixture(scope="module")
def study(head: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("sessions")
    write_nifti(head, folder, "case1", layout="brats2018")
    return open_source(folder).study("case1")


@pytest.fixture(scope="module")
def starts(study: Study, corrections: Corrections, tmp_path_factory: pytest.TempPathFactory) -> Starts:
    card, found = small_card(), Starts(tmp_path_factory.mktemp("starts"))
    editor = noisy_editor(4.0)
    predictor = Predictor(Model(card, noisy(card.network).eval(), found.folder, editor))
    rng = np.random.default_rng(0)
    make_start(study, predictor, found, (4.0,) * 3, START, rng, corrections, "the first")
    return found


@pytest.fixture
def session(starts: Starts) -> Session:
    found = starts.load("case1").session
    assert found is not None
    return found


def test_a_session_begins_with_what_was_shown_and_ends_with_the_prompts(
    starts: Starts, session: Session, corrections: Corrections
) -> None:
    case = starts.load("case1")
    assert session.shown.shape == case.truth.shape
    shown = [np.count_nonzero(array == 2) for array in (corrections.start.array, session.before(0))]
    assert shown[0] == shown[1]
    assert [prompt.value for prompt in session.prompts] == [0, 0, 3]
    after = session.before(3)
    for prompt in session.prompts:
        assert (after[tuple(prompt.voxels.T)] == prompt.value).all()
    assert (session.before(1) != session.before(0)).any()


def test_prompts_at_which_the_final_label_found_nothing_wrong_teach_nothing(session: Session) -> None:
    assert session.useful == (0, 2)


def test_a_start_is_made_anew_when_what_it_was_made_from_is_another(starts: Starts) -> None:
    assert starts.has("case1", "the first")
    assert not starts.has("case1", "the second")
    assert not starts.has("case2", "the first")


def test_only_the_cases_of_a_round_are_kept(tmp_path: Path) -> None:
    starts = Starts(tmp_path)
    for case in ("one", "sub-1%2Fses-2"):
        (tmp_path / case).mkdir()
        (tmp_path / case / "case.json").write_text("{}")
    assert starts.ids() == ("one", "sub-1/ses-2")
    starts.keep(["sub-1/ses-2", "three"])
    assert starts.ids() == ("sub-1/ses-2",)
    assert starts.has("sub-1/ses-2")


def test_a_sample_shows_what_the_reader_saw_and_asks_for_what_they_wanted(starts: Starts) -> None:
    samples = EditingSamples(
        starts, starts.ids(), BRAIN_LABELS, 4.0, dataclasses.replace(SETTINGS, replayed=0.999)
    )
    values = set()
    for number in range(12):
        one = samples[number]
        piece, value = one.piece.numpy(), int(one.value)
        values.add(value)
        assert piece.any()
        assert one.newest.any()
        assert (one.wanted.numpy()[piece] == value).all()
        assert (one.shown.numpy()[piece] != value).all()
        assert not one.free
    assert values == {0, 3}
    for one, two in zip(samples[3], samples[3], strict=True):
        assert torch.equal(one, two)


def test_earlier_prompts_lie_where_their_label_is_shown(starts: Starts, session: Session) -> None:
    samples = EditingSamples(
        starts, starts.ids(), BRAIN_LABELS, 4.0, dataclasses.replace(SETTINGS, replayed=0.999)
    )
    drawn = [samples[number] for number in range(40)]
    listed = [(one, row) for one in drawn for row in one.earlier.numpy() if row[3] >= 0]
    for one, (i, j, k, value) in listed:
        near = one.shown.numpy()[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2, max(0, k - 1) : k + 2]
        assert value in near


def test_a_voxel_of_the_case_is_found_again_in_a_turned_view(starts: Starts) -> None:
    case, rng = starts.load("case1"), np.random.default_rng(0)
    marked = np.zeros(case.truth.shape, np.uint8)
    place = np.array([s // 2 for s in marked.shape])
    marked[tuple(slice(v - 1, v + 2) for v in place)] = 1
    for _ in range(10):
        view = cut_out(case, 0, place + rng.integers(-3, 4, 3), 16, 1.0, rng, marked)
        assert view is not None
        (found,) = view.place(place[None])
        np.testing.assert_allclose(np.argwhere(view.maps[0]).mean(axis=0), found, atol=1.0)
    assert not len(view.place(place[None] + 100))


def test_training_draws_sessions_and_other_errors(starts: Starts) -> None:
    torch.manual_seed(0)
    samples = EditingSamples(
        starts, starts.ids(), BRAIN_LABELS, 4.0, dataclasses.replace(SETTINGS, replayed=0.5)
    )
    losses = CorrectionLosses(EditorNetwork(SMALL_EDITOR), BRAIN_LABELS, SETTINGS)
    found = losses(default_collate([samples[n] for n in range(4)]))
    assert torch.isfinite(found).all()


def test_what_is_pointed_out_is_the_error_of_that_label_beside_the_prompt() -> None:
    wanted, shown = np.zeros((20, 20, 20), np.uint8), np.zeros((20, 20, 20), np.uint8)
    wanted[2:6, 2:6, 2:6] = wanted[12:16, 12:16, 12:16] = 1
    shown[12:16, 2:6, 2:6] = 1
    one = pointed_out(shown, wanted, Pointed(np.array([[7, 4, 4]]), 1))  # two voxels beside it
    np.testing.assert_array_equal(one, (wanted == 1) & (np.arange(20) < 10)[:, None, None])
    assert not pointed_out(shown, wanted, Pointed(np.array([[9, 9, 9]]), 1)).any()
    assert pointed_out(shown, wanted, Pointed(np.array([[13, 4, 4]]), 0)).sum() == 64
