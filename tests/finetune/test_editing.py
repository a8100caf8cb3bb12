"""Training of the editor: starts, samples, the loss, a run; on phantoms."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils.data import default_collate

from slem_app.cli import main
from slem_app.errors import BadSetting
from slem_app.finetune.editing.distort import distort, region
from slem_app.finetune.editing.disturb import StartSettings, make_starts
from slem_app.finetune.editing.errors import aim_at
from slem_app.finetune.editing.losses import CorrectionLosses, PromptTarget, correction_loss
from slem_app.finetune.editing.run import train_editor
from slem_app.finetune.editing.samples import EditingSamples
from slem_app.finetune.editing.settings import EditorRecipe, EditorSettings, load_editor_recipe
from slem_app.finetune.editing.starts import Starts
from slem_app.network import EditorNetwork
from slem_app.phantom import make, write_nifti
from slem_app.predict import Predictor
from slem_app.studies import open_source
from slem_app.weights import BRAIN_LABELS, Model, load_editor
from tests.untrained import SMALL_EDITOR, editor_card, noisy, small_card

SETTINGS = EditorSettings(steps=3, batch=2, view=16, save_every=1)


@pytest.fixture(scope="module")
def starts(tmp_path_factory) -> Starts:
    folder = tmp_path_factory.mktemp("editing")
    for seed in (1, 2):
        write_nifti(
            make(seed, (44, 52, 38), (4.0, 4.0, 4.0)), folder / "data", f"case{seed}", layout="brats2018"
        )
    card = small_card()
    found = Starts(folder / "starts")
    predictor = Predictor(Model(card, noisy(card.network).eval(), folder))
    before = {name: tensor.clone() for name, tensor in predictor.network.state_dict().items()}
    make_starts(open_source(folder / "data"), predictor, found, (3.0,) * 3, StartSettings(tries=2, kept=2))
    after = predictor.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    return found


@pytest.fixture
def samples(starts) -> EditingSamples:
    return EditingSamples(starts, starts.ids(), BRAIN_LABELS, 3.0, SETTINGS)


def test_a_start_holds_images_truth_and_results_on_one_grid(starts):
    case = starts.load("case1")
    assert case.images.shape[1:] == case.truth.shape == case.probabilities.shape[2:]
    assert case.probabilities.shape[:2] == (3, 3)
    assert len(case.errors) == 3
    assert set(np.unique(case.truth)) <= {0, 1, 2, 3}
    assert len(case.inside)
    assert not np.array_equal(case.probabilities[0], case.probabilities[1])


def test_a_sample_is_the_same_whenever_it_is_asked_for(samples):
    for one, two in zip(samples[3], samples[3], strict=True):
        assert torch.equal(one, two)


def test_a_prompt_points_at_an_error_of_its_label(samples):
    for number in range(6):
        one = samples[number]
        piece = one.piece.numpy()
        assert piece[one.newest.numpy()].all()
        assert (one.wanted.numpy()[piece] == int(one.value)).all()
        assert (one.shown.numpy()[piece] != int(one.value)).all()
        assert ndimage.label(piece)[1] == 1


def test_the_reader_clicks_into_the_deepest_of_the_largest_error():
    wanted = np.zeros((20, 20, 20), np.uint8)
    wanted[2:13, 4:15, 4:15] = 2
    wanted[16:19, :3, :3] = 1
    aim = aim_at(np.zeros_like(wanted), wanted, np.random.default_rng(0), steady=1.0, loose=0.0)
    assert aim.voxel == (7, 9, 9)
    assert aim.value == 2
    assert aim.piece.sum() == 11**3


def test_nothing_wrong_is_nothing_to_point_at():
    same = np.ones((8, 8, 8), np.uint8)
    assert aim_at(same, same, np.random.default_rng(0)) is None


def test_distorted_maps_differ_in_known_labels_and_inside_the_organ():
    truth = np.zeros((24, 24, 24), np.uint8)
    truth[6:16, 6:16, 6:16], truth[9:13, 9:13, 9:13] = 2, 1
    images = np.zeros((2, 24, 24, 24), np.float32)
    images[:, 2:22, 2:22, 2:22] = 1 + np.random.default_rng(1).random((2, 20, 20, 20))
    found = [distort(truth, images, np.random.default_rng(seed)) for seed in range(12)]
    assert sum((one != truth).any() for one in found) >= 9
    assert all(set(np.unique(one)) <= {0, 1, 2} and not one[:, :, 23].any() for one in found)


def test_a_region_is_one_piece_of_like_intensity():
    images = np.ones((1, 20, 20, 20), np.float32)
    images[:, :, :, 10:] = 5
    found = region(images, np.array([10, 10, 4]), 30.0, 0.5, np.random.default_rng(0))
    assert found[10, 10, 4]
    assert not found[:, :, 11:].any()
    assert ndimage.label(found)[1] == 1


def target(asked: np.ndarray, harm: np.ndarray) -> PromptTarget:
    one = np.ones(asked.shape)
    return PromptTarget(*(torch.from_numpy(a.astype(np.float32)) for a in (asked, asked, harm, one, one)))


def test_the_loss_falls_with_the_mended_share_and_rises_with_harm():
    asked = np.zeros((12, 12, 12), bool)
    asked[2:8, 2:8, 2:8] = True
    aim = target(asked, ~asked)

    def loss(says: np.ndarray) -> float:
        return float(correction_loss(torch.from_numpy(np.where(says, 4.0, -4.0)).float(), aim, 0.3))

    half, more = asked.copy(), asked.copy()
    half[5:] = False
    more[8:, :, :] = True
    assert loss(asked) < loss(half) < loss(np.zeros_like(asked))
    assert loss(asked) < loss(more)


def test_a_session_goes_on_with_the_networks_own_answers(samples):
    torch.manual_seed(0)
    settings = dataclasses.replace(SETTINGS, clicks=(0.0, 0.0, 1.0))
    losses = CorrectionLosses(EditorNetwork(SMALL_EDITOR), BRAIN_LABELS, settings)
    batch = default_collate([samples[0], samples[1]])
    found = losses(batch)
    assert found.shape == (2,)
    assert torch.isfinite(found).all()
    assert torch.equal(found, losses(batch))
    found.mean().backward()
    assert losses.network.bias.grad is not None


def test_a_run_that_was_cut_off_ends_like_one_that_was_not(starts, tmp_path):
    recipe = EditorRecipe(editor_card(3.0), SETTINGS)
    whole = train_editor(recipe, starts, starts.ids(), BRAIN_LABELS, tmp_path / "whole", progress=False)

    class Stop(Exception):
        pass

    class Breaks(Starts):
        count = 0

        def load(self, case):
            Breaks.count += 1
            if Breaks.count > 4:
                raise Stop
            return super().load(case)

    with pytest.raises(Stop):
        train_editor(
            recipe, Breaks(starts.folder), starts.ids(), BRAIN_LABELS, tmp_path / "cut", progress=False
        )
    again = train_editor(recipe, starts, starts.ids(), BRAIN_LABELS, tmp_path / "cut", progress=False)
    assert load_editor(tmp_path / "cut" / "editor").card == again
    before, after = (
        load_editor(tmp_path / name / "editor").network.state_dict() for name in ("whole", "cut")
    )
    assert dataclasses.replace(again, file="", sha256="") == dataclasses.replace(whole, file="", sha256="")
    for name, expected in before.items():  # sums differ in their last bit with where arrays lie in memory
        torch.testing.assert_close(after[name], expected, rtol=2e-3, atol=1e-5)


def test_a_training_goes_on_from_another_editor(starts, tmp_path):
    recipe = EditorRecipe(editor_card(3.0), SETTINGS)
    first = train_editor(recipe, starts, starts.ids(), BRAIN_LABELS, tmp_path / "first", progress=False)
    parent = load_editor(tmp_path / "first" / "editor")
    still = dataclasses.replace(recipe, settings=dataclasses.replace(SETTINGS, steps=1, rate=1e-9))
    on = train_editor(
        still, starts, starts.ids(), BRAIN_LABELS, tmp_path / "on", progress=False, parent=parent
    )
    assert on.training.startswith(f"{first.training}; then ")
    after = load_editor(tmp_path / "on" / "editor").network.state_dict()
    for name, expected in parent.network.state_dict().items():
        torch.testing.assert_close(after[name], expected, rtol=2e-3, atol=1e-5)
    wider = dataclasses.replace(parent.card, network=dataclasses.replace(SMALL_EDITOR, channels=(8, 12)))
    other = dataclasses.replace(parent, card=wider)
    with pytest.raises(BadSetting, match="another network"):
        train_editor(still, starts, starts.ids(), BRAIN_LABELS, tmp_path / "no", progress=False, parent=other)
    with pytest.raises(BadSetting, match="parent"):  # what it began from is part of a run
        train_editor(still, starts, starts.ids(), BRAIN_LABELS, tmp_path / "on", progress=False)


def test_cases_of_another_model_are_refused(starts, tmp_path):
    recipe = EditorRecipe(dataclasses.replace(editor_card(), sequences=("a", "b", "c", "d")), SETTINGS)
    with pytest.raises(BadSetting, match="sequences"):
        train_editor(recipe, starts, starts.ids(), BRAIN_LABELS, tmp_path, progress=False)


@pytest.mark.parametrize(
    "wrong", [{"clicks": (0.5,)}, {"kinds": {"automatic": 1.0}}, {"view": 8}, {"steps": 0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(BadSetting):
        EditorSettings(**wrong)


def test_the_bundled_recipe_can_be_read():
    recipe = load_editor_recipe("brain_editor", steps=7)
    assert recipe.settings.steps == 7
    assert recipe.settings.view % recipe.card.network.multiple == 0


def test_the_command_says_which_held_out_case_is_not_there(starts, tmp_path, capsys):
    arguments = [
        "editor",
        "-o",
        str(tmp_path / "run"),
        "--starts",
        str(starts.folder),
        "--held-out",
        "nobody",
    ]
    assert main(arguments) == 2
    assert "nobody" in capsys.readouterr().err
