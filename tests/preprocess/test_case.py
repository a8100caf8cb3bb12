"""A study comes out registered, cut and on one grid, in the intensities of its files."""

import numpy as np
import pytest
import SimpleITK as sitk

from slem_app.errors import BadSetting, BadStudy
from slem_app.grouping import group
from slem_app.preprocess import PreprocessSettings, preprocess
from slem_app.preprocess.transforms import itk_text
from slem_app.studies import open_source
from slem_app.volumes.geometry import resample
from slem_app.volumes.read import read_all
from tests.preprocess.conftest import MOVE, PAD, SEQUENCES


def made(folder, case, wanted):
    grouping = group(open_source(folder).study(case))
    return preprocess(grouping, wanted.sequences, wanted.order, wanted.preparation, wanted.settings)


def test_a_stripped_study_in_register_keeps_every_voxel(stripped, wanted):
    done = made(stripped, "case-1", wanted())
    files = read_all(group(open_source(stripped).study("case-1")).sequences)
    assert done.grid.same_as(files["t1c"].grid)
    for name in SEQUENCES:
        np.testing.assert_array_equal(done.images[name], files[name].array)
        np.testing.assert_array_equal(done.moves[name], np.eye(4))
    np.testing.assert_array_equal(done.mask, np.any([one.array != 0 for one in files.values()], axis=0))
    assert not done.report


def test_whole_heads_are_registered_and_cut_to_the_brain(whole, head, wanted):
    done = made(whole, "raw-1", wanted())
    assert done.report.moved["t2f"] == pytest.approx(np.linalg.norm(MOVE[:3, 3]), abs=1.5)
    np.testing.assert_allclose(done.moves["t2f"][:3, 3], MOVE[:3, 3], atol=2.5)
    brain = np.pad(head.images["t1c"] > 0, PAD)
    assert 2 * np.count_nonzero(brain & done.mask) / (np.count_nonzero(brain) + done.mask.sum()) > 0.95
    for image in done.images.values():
        assert not image[~done.mask].any()
        assert (image[done.mask] > 0).all()
    seen = done.mask & brain
    t2f = np.pad(head.images["t2f"], PAD)
    assert np.corrcoef(done.images["t2f"][seen], t2f[seen])[0, 1] > 0.93


def test_a_spacing_gives_an_even_grid_over_the_field_of_view(stripped, wanted):
    done = made(stripped, "case-1", wanted(spacing=3.0))
    own = made(stripped, "case-1", wanted())
    np.testing.assert_allclose(done.grid.affine[:3, :3], np.diag([3.0] * 3))
    assert done.mask_ml == pytest.approx(own.mask_ml, rel=0.05)
    there = resample(done.images["t2w"], done.grid, own.grid, order=1)
    inside = own.mask & (there != 0)
    assert np.corrcoef(there[inside], own.images["t2w"][inside])[0, 1] > 0.85  # interpolated twice, at 4 mm


def test_a_defaced_head_is_whole_but_for_the_face(whole, wanted):
    (whole / "raw-1/raw-1-t2f.nii.gz").unlink()
    done = made(whole, "raw-1", wanted(deface=True))
    file = read_all(group(open_source(whole).study("raw-1")).sequences)["t1c"]
    assert done.defaced
    image = done.images["t1c"]
    np.testing.assert_array_equal(image[done.mask], file.array[done.mask])
    points = done.grid.to_world(np.argwhere(image == 0))
    middle = done.grid.to_world(np.argwhere(done.mask)).mean(axis=0)
    assert len(points) > 1000
    assert (points[:, 1] - middle[1] - (points[:, 2] - middle[2]) > 0).all(), "in front or below"
    assert (image[~done.mask] > 0).any(), "the rest of the head is there"


def test_the_transform_file_takes_itk_from_the_reference_to_the_sequence(tmp_path):
    (tmp_path / "one.tfm").write_text(itk_text(MOVE))
    transform = sitk.ReadTransform(str(tmp_path / "one.tfm"))
    point = np.array([10.0, 20.0, 30.0])  # RAS
    there = np.array(transform.TransformPoint((-point[0], -point[1], point[2])))
    np.testing.assert_allclose(there * [-1, -1, 1], point + MOVE[:3, 3])


def test_what_cannot_be_made_is_said(stripped, wanted):
    with pytest.raises(BadSetting, match="a spacing is 0.3 mm or more"):
        PreprocessSettings(spacing=0.01)
    grouping = group(open_source(stripped).study("case-1"))
    with pytest.raises(BadStudy, match="none of the sequences t2_spir; it has t1n, t1c"):
        preprocess(grouping, ("t2_spir",), (), wanted().preparation, PreprocessSettings())
