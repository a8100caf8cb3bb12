"""A raw study shows the same patient as the stripped case that it was made of, elsewhere and disturbed."""

from dataclasses import replace

import numpy as np
import pytest

from slem_app.errors import BadGrid, BadSetting, BadStudy
from slem_app.grouping import group
from slem_app.phantom import make
from slem_app.phantom.heads import read_map
from slem_app.phantom.raw import VENDORS, RawSettings, make_raw, write_raw_dicom, write_raw_nifti
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.geometry import resample
from slem_app.volumes.levels import Levels, Volume
from slem_app.volumes.read import read
from tests.phantom.test_heads import label_map

QUIET = RawSettings(shift=0, turn=0, angled=0, thickness=0, bias=0, noise=0)


@pytest.fixture(scope="module")
def case():
    """A stripped brain at 4 mm: images and labels on one grid."""
    head = make(3, (40, 48, 36), (4.0, 4.0, 4.0))
    images = {name: Volume(image.astype(np.float32), head.grid) for name, image in head.images.items()}
    return images, head.labels, head.grid


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    return read_map(label_map(tmp_path_factory.mktemp("maps")))


def test_an_undisturbed_head_shows_the_case_itself_inside_and_a_head_around(case, head):
    images, labels, grid = case
    raw = make_raw(images, labels, grid, head, 1, QUIET)
    brain = np.any([one.array != 0 for one in images.values()], axis=0)
    for name, seen in raw.images.items():
        there = resample(seen.array, seen.grid, grid, order=1)
        assert np.corrcoef(there[brain], images[name].array[brain])[0, 1] > 0.99
        assert Levels.of(seen.array, name).head is not None, "it is a whole head"
        truth = resample(raw.truths[name], seen.grid, grid, order=0)
        np.testing.assert_array_equal(truth, labels)
    around = raw.images["t1c"].array > 0.3 * np.median(images["t1c"].array[brain])
    assert np.count_nonzero(around) > 1.3 * np.count_nonzero(brain)


def test_each_sequence_lies_where_its_move_says_and_so_does_its_truth(case):
    images, labels, grid = case
    raw = make_raw(images, labels, grid, None, 2, RawSettings(bias=0, noise=0))
    np.testing.assert_array_equal(raw.moves["t1n"], np.eye(4))
    assert not np.allclose(raw.moves["t2f"], np.eye(4), atol=1)
    for name, seen in raw.images.items():
        assert seen.grid.spacing[2] == pytest.approx(5.0)
        back = Grid(seen.grid.shape, np.linalg.inv(raw.moves[name]) @ seen.grid.affine)
        there = resample(seen.array, back, grid, order=1)
        inside = (images[name].array > 0) & (there > 0)
        elsewhere = resample(seen.array, seen.grid, grid, order=1)
        right, wrong = (
            np.corrcoef(one[inside], images[name].array[inside])[0, 1] for one in (there, elsewhere)
        )
        assert right > 0.5, "interpolated three times, at 4 and 5 mm"
        assert name == "t1n" or right > wrong + 0.1
        truth = resample(raw.truths[name], back, grid, order=0) > 0
        assert 2 * (truth & (labels > 0)).sum() / (truth.sum() + (labels > 0).sum()) > 0.7
    assert raw.images["t2f"].array.min() == 0


def test_a_head_turns_about_its_own_middle_wherever_the_world_begins(case):
    images, labels, grid = case
    far = Grid(
        grid.shape, np.array([[1, 0, 0, 300.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ grid.affine
    )
    there = {name: Volume(one.array, far) for name, one in images.items()}
    raw = make_raw(there, labels, far, None, 2, replace(QUIET, turn=6))
    middle = far.to_world(np.argwhere(images["t1c"].array != 0).mean(axis=0))
    for move in raw.moves.values():
        assert np.linalg.norm(move[:3, :3] @ middle + move[:3, 3] - middle) < 1


def test_the_same_seed_gives_the_same_study_and_another_one_another(case, head):
    one, again, other = (make_raw(*case, head, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.images["t2w"].array, again.images["t2w"].array)
    np.testing.assert_array_equal(one.images["t2w"].grid.affine, again.images["t2w"].grid.affine)
    assert not np.array_equal(one.moves["t2w"], other.moves["t2w"])


def test_a_field_of_view_can_end_early_in_one_sequence(case):
    whole = make_raw(*case, None, 1, QUIET)
    short = make_raw(*case, None, 1, replace(QUIET, cut=0.3))
    assert short.images["t2f"].array.shape[2] < 0.8 * whole.images["t2f"].array.shape[2]
    assert short.images["t1c"].array.shape == whole.images["t1c"].array.shape


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_series_of_each_vendor_are_told_apart(case, tmp_path, vendor):
    raw = make_raw(*case, None, 3)
    write_raw_dicom(raw, tmp_path, "one", vendor)
    study = open_source(tmp_path).study("one")
    assert len(study.series) >= 7, "a localiser, an ADC map and a subtraction lie beside the four"
    found = group(study)
    assert set(found.sequences) == set(raw.images)
    for name, series in found.sequences.items():
        volume, own = read(series), raw.images[name]
        there = resample(volume.array, volume.grid, own.grid, order=0)
        np.testing.assert_allclose(there, own.array, atol=1.01 * VENDORS[vendor].slope)


@pytest.mark.parametrize("vendor", list(VENDORS))
def test_a_whole_examination_has_twelve_series_of_which_four_are_sequences(case, tmp_path, vendor):
    raw = make_raw(*case, None, 3)
    write_raw_dicom(raw, tmp_path, "one", vendor, whole=True)
    study = open_source(tmp_path).study("one")
    assert len(list((tmp_path / "one").iterdir())) == 12
    found = group(study)
    assert {name: one.name for name, one in found.sequences.items()} == dict(VENDORS[vendor].names)
    assert {one.kind for one in found.leftovers} <= {"derived", "duplicate"}


def test_nifti_is_read_as_brats_without_the_truth(case, tmp_path):
    raw = make_raw(*case, None, 3)
    write_raw_nifti(raw, tmp_path / "studies", "one")
    study = open_source(tmp_path / "studies").study("one")
    assert study.label is None
    assert set(group(study).sequences) == set(raw.images)
    assert (tmp_path / "truth/one-t2f.nii.gz").is_file()


def test_what_no_study_can_be_made_of_is_refused(case, tmp_path):
    images, labels, grid = case
    with pytest.raises(BadStudy, match="got adc"):
        make_raw({"adc": images["t1c"]}, labels, grid, None, 1)
    with pytest.raises(BadGrid, match="on one grid"):
        make_raw(images, labels[1:], grid, None, 1)
    with pytest.raises(BadSetting, match="no vendor 'acme'"):
        write_raw_dicom(make_raw(images, labels, grid, None, 1, QUIET), tmp_path, "one", "acme")
