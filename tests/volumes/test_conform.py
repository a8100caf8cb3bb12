"""A study as a scanner gives it comes out as if it had been stripped and in register; one that is both is
left as it is.
"""

import numpy as np
import pytest
from scipy import ndimage

from slem_app.errors import BadVolume
from slem_app.phantom import make
from slem_app.types import Grid
from slem_app.volumes import coarse as coarse_module
from slem_app.volumes.brain import BrainMask
from slem_app.volumes.brainmask.find import one_piece
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import Preparation, Volume, prepare

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
SETTINGS = Preparation(spacing=(3.0, 3.0, 3.0))
MOVE = np.array([[1, 0, 0, 9.0], [0, 1, 0, -7.0], [0, 0, 1, 8.0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def case():
    return make(3, (80, 96, 72), (2.0, 2.0, 2.0))


@pytest.fixture(scope="module")
def stripped(case) -> dict[str, Volume]:
    return {name: Volume(image, case.grid) for name, image in case.images.items()}


def with_skull(volume: Volume) -> Volume:
    """The brain in a shell as bright as fat, in air with noise."""
    pad = 10
    brain = np.pad(volume.array, pad)
    inside = ndimage.binary_fill_holes(brain > 0)
    depth = ndimage.distance_transform_edt(~inside) * 2.0
    noise = np.random.default_rng(0).random(brain.shape, dtype=np.float32)
    level = float(np.percentile(volume.array[volume.array > 0], 90))
    head = np.where(inside, np.maximum(brain, 1.0), noise * 0.02 * level)
    head[(depth > 6) & (depth < 14)] = 2.0 * level
    grid = volume.grid.crop((-pad,) * 3, brain.shape)
    return Volume(head.astype(np.float32), grid)


def moved(volume: Volume) -> Volume:
    return Volume(volume.array, Grid(volume.grid.shape, MOVE @ volume.grid.affine))


def pair(volumes: dict[str, Volume], other: str = "t2f") -> dict[str, Volume]:
    """The sequence that stays and one more."""
    return {name: volumes[name] for name in ("t1c", other)}


@pytest.fixture
def heads(stripped, monkeypatch) -> dict[str, Volume]:
    """Whole heads, t2f and t2w moved; the mask network knows the phantoms' brains."""
    whole = {name: with_skull(volume) for name, volume in stripped.items()}
    whole |= {name: moved(whole[name]) for name in ("t2w", "t2f")}

    def knows(volume: Volume, what: str) -> tuple[np.ndarray, Grid]:
        original = stripped[what.split()[-1]]
        share = np.pad((original.array > 0).astype(np.float32), 10)
        return share, volume.grid

    monkeypatch.setattr(coarse_module, "brain_probability", knows)
    return whole


def test_a_stripped_study_in_register_is_left_bit_for_bit(stripped):
    one, other = (prepare(stripped, SEQUENCES, SETTINGS, conformed=how) for how in ("auto", "none"))
    np.testing.assert_array_equal(one.images, other.images)
    assert one.grid.same_as(other.grid)
    assert not one.report
    assert one.moves == {}
    assert one.notes == ()


def test_whole_heads_that_moved_look_as_if_stripped_and_in_register(heads, stripped):
    raw, ideal = prepare(pair(heads), SEQUENCES, SETTINGS), prepare(pair(stripped), SEQUENCES, SETTINGS)
    assert set(raw.moves) == set(raw.report.moved) == {"t2f"}
    assert raw.report.onto == "t1c"
    assert raw.report.moved["t2f"] == pytest.approx(np.linalg.norm(MOVE[:3, 3]), abs=1.0)
    assert raw.report.mask
    for slot in (1, 3):
        there = resample(raw.images[slot], raw.grid, ideal.grid, order=1)
        both = (there != 0) & (ideal.images[slot] != 0)
        assert np.count_nonzero(both) > 0.9 * np.count_nonzero(ideal.images[slot])
        assert np.corrcoef(there[both], ideal.images[slot][both])[0, 1] > 0.93
    assert raw.notes[0].startswith("t2f was moved by")
    assert any("everything outside the brain was removed" in note for note in raw.notes)


def test_a_result_lies_on_the_image_that_was_moved_as_its_header_has_it(heads, case):
    raw = prepare(pair(heads), SEQUENCES, SETTINGS)
    shown = raw.shown_on("t2f", heads["t2f"].grid)
    assert shown.reference.same_as(heads["t2f"].grid)
    image = raw.images[3]
    on_t2f = resample(image, shown.grid, heads["t2f"].grid, order=1)
    own = heads["t2f"].array
    inside = np.pad(case.images["t2f"] > 0, 10) & (on_t2f != 0)
    fits = np.corrcoef(on_t2f[inside], own[inside])[0, 1]
    assert fits > 0.9, "the receive field was taken out of one of them"
    beside = [np.roll(on_t2f, step, axis)[inside] for axis in range(3) for step in (-1, 1)]
    assert all(np.corrcoef(one, own[inside])[0, 1] < fits for one in beside)
    assert raw.shown_on("t1c", heads["t1c"].grid).grid.same_as(raw.grid)


def test_nothing_is_done_where_that_is_asked_for(heads):
    still = prepare(heads, SEQUENCES, SETTINGS, conformed="none")
    assert not still.report
    assert "not-stripped" in [one.code for one in still.warnings]


def test_a_network_of_whole_images_gets_them_whole(heads):
    whole = prepare(heads, SEQUENCES, Preparation(spacing=(3.0, 3.0, 3.0), stripped=False))
    assert not whole.report


def test_a_stripped_sequence_that_moved_is_moved_back(stripped):
    raw = prepare({**pair(stripped), "t2f": moved(stripped["t2f"])}, SEQUENCES, SETTINGS)
    assert list(raw.report.moved) == ["t2f"]
    assert not raw.report.mask, "it is stripped already"


def test_a_sequence_that_cannot_be_registered_is_left_out_and_said(heads, stripped, monkeypatch):
    def lost(volume: Volume, what: str) -> tuple[np.ndarray, Grid]:
        original = np.pad((stripped["t1c"].array > 0).astype(np.float32), 10)
        if what.endswith("t2w"):
            original[:, :, : original.shape[2] // 2] = 0
            original[original.shape[0] // 2 :] = 0
        return original, volume.grid

    monkeypatch.setattr(coarse_module, "brain_probability", lost)
    raw = prepare(pair(heads, "t2w"), SEQUENCES, SETTINGS)
    assert raw.missing == ("t1n", "t2w", "t2f")
    assert "the brains overlap by" in raw.report.left_out["t2w"]
    assert any(one.text.startswith("t2w was left out: it could not be registered") for one in raw.warnings)


def test_an_image_without_a_brain_is_refused(heads, monkeypatch):
    monkeypatch.setattr(
        coarse_module, "brain_probability", lambda volume, what: (np.zeros(volume.array.shape), volume.grid)
    )
    with pytest.raises(BadVolume, match="no brain is found in t1n.* is it an MR image of a whole head"):
        prepare({"t1n": heads["t1n"]}, SEQUENCES, SETTINGS)


def of_reader(volume: Volume, ml: float) -> BrainMask:
    """A ball of some ml in the middle of an image."""
    index = np.indices(volume.array.shape).reshape(3, -1).T - (np.array(volume.array.shape) - 1) / 2
    distance = np.linalg.norm(index * volume.grid.spacing, axis=1).reshape(volume.array.shape)
    return BrainMask(distance < (750 * ml / np.pi) ** (1 / 3), volume.grid)


def test_the_readers_own_mask_is_cut_to_in_place_of_the_networks(heads, stripped):
    mask = of_reader(heads["t1c"], 400)
    for study in (pair(heads), pair(stripped)):
        made = prepare(study, SEQUENCES, SETTINGS, fixed="t1c", brain=mask)
        assert made.report.mask == "the reader's own mask"
        assert made.report.mask_ml == pytest.approx(400, rel=0.05)
        inside = mask.on(made.grid)
        shown = made.images[1] != 0
        assert np.count_nonzero(shown & ~inside) < 0.12 * np.count_nonzero(inside), "but for the border"
        assert np.count_nonzero(shown) > 0.9 * np.count_nonzero(inside)


def test_a_mask_that_is_no_brain_or_lies_elsewhere_is_refused(heads):
    small = of_reader(heads["t1c"], 40)
    with pytest.raises(BadVolume, match="the given mask has .* ml, a brain has 300 to 2500"):
        prepare(pair(heads), SEQUENCES, SETTINGS, fixed="t1c", brain=small)
    away = np.eye(4)
    away[0, 3] = 120.0
    with pytest.raises(BadVolume, match="of the given mask lie in the image that it is for"):
        prepare(pair(heads), SEQUENCES, SETTINGS, fixed="t1c", brain=of_reader(heads["t1c"], 400).moved(away))


def test_the_mask_is_one_piece_without_holes():
    mask = np.zeros((40, 40, 40), bool)
    mask[5:30, 5:30, 5:30] = True
    mask[12:16, 12:16, 12:16] = False
    mask[32:38, 32:38, 32:38] = True
    mask[30:32, 17, 17] = True
    found = one_piece(mask)
    assert found[13, 13, 13]
    assert not found[34, 34, 34]
    assert np.count_nonzero(found) > 0.99 * 25**3
    assert not one_piece(np.zeros((5, 5, 5), bool)).any()


def test_a_ct_is_refused_and_said_to_be_one(heads):
    head = heads["t1c"]
    level = float(np.percentile(head.array[head.array > 0], 90))
    units = np.where(head.array > 0.1 * level, 40 + 20 * head.array / level, -1000.0)
    units[head.array > 1.9 * level] = 900.0
    ct = Volume(units.astype(np.float32), head.grid)
    with pytest.raises(BadVolume, match="sequence t1c is no MR image but a CT: .* about -1000"):
        prepare({"t1c": ct}, SEQUENCES, SETTINGS)
