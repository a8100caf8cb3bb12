from pathlib import Path

import numpy as np
import pytest

from slem_app import phantom
from slem_app.errors import BadSetting
from slem_app.grouping import group
from slem_app.phantom.body import BodyPhantom
from slem_app.studies import open_source
from slem_app.volumes.read import read, read_labels

ORGANS = ("liver", "right kidney", "left kidney", "spleen")


@pytest.fixture(scope="module")
def cases() -> list[BodyPhantom]:
    return [phantom.make_abdomen(seed, (8.0, 8.0, 9.0)) for seed in range(4)]


def middle(case: BodyPhantom, organ: str, sequence: str = "t1_in") -> np.ndarray:
    """(3,) RAS mm of an organ's centre."""
    return (
        case.grids[sequence]
        .to_world(np.argwhere(case.truths[sequence] == ORGANS.index(organ) + 1))
        .mean(axis=0)
    )


def test_the_same_seed_gives_the_same_patient(cases: list[BodyPhantom]) -> None:
    again = phantom.make_abdomen(1, (8.0, 8.0, 9.0))
    assert all(np.array_equal(again.images[name], cases[1].images[name]) for name in cases[1].images)
    assert not np.array_equal(cases[0].labels, cases[1].labels)


def test_organs_lie_where_they_do_in_people(cases: list[BodyPhantom]) -> None:
    for case in cases:
        liver, right, left, spleen = (middle(case, organ) for organ in ORGANS)
        assert liver[0] > 20 > -20 > spleen[0]  # RAS: the patient's right is positive
        assert right[0] > 20 > -20 > left[0]
        assert min(liver[1], 0) > max(right[1], left[1])  # kidneys behind
        assert min(liver[2], spleen[2]) > max(right[2], left[2])  # and below


def test_organs_have_the_size_that_they_have_in_people(cases: list[BodyPhantom]) -> None:
    ml = np.array(
        [[(case.labels == v).sum() * case.grid.voxel_volume / 1000 for v in range(1, 5)] for case in cases]
    )
    low, high = np.array([700, 60, 60, 60]), np.array([2500, 320, 320, 600])
    assert ((ml > low) & (ml < high)).all(), ml.round()
    assert (ml.std(axis=0) / ml.mean(axis=0) > 0.03).all()


def test_the_second_breath_hold_displaces_the_organs_along_the_body(cases: list[BodyPhantom]) -> None:
    for case in cases:
        moved = middle(case, "liver", "t2") - middle(case, "liver")
        kidney = middle(case, "left kidney", "t2") - middle(case, "left kidney")
        assert 1.5 < abs(moved[2]) < 14
        assert abs(kidney[2]) < abs(moved[2]) + 1.5
        assert np.array_equal(case.truths["t1_in"], case.truths["t1_out"])


def test_contrasts_are_those_of_the_sequences(cases: list[BodyPhantom]) -> None:
    for case in cases:
        mean = {
            name: [float(np.median(image[case.truths[name] == v])) for v in range(1, 5)]
            for name, image in case.images.items()
        }
        liver, kidney, _, spleen = mean["t1_in"]
        assert liver > kidney
        assert liver > spleen  # bright liver on T1
        liver, kidney, _, spleen = mean["t2"]
        assert min(kidney, spleen) > 1.5 * liver  # dark liver on T2
        fat = case.images["t1_in"] > np.percentile(case.images["t1_in"], 95)
        assert case.images["t2"].max() > 3 * np.median(case.images["t2"])
        assert fat.any()


def test_a_rim_between_water_and_fat_is_dark_in_the_opposed_phase() -> None:
    case = phantom.make_abdomen(3, (4.0, 4.0, 8.0))
    inside = np.stack([case.images[name] / case.body.gain[name] for name in ("t1_in", "t1_out")])
    dark = (inside[1] < 0.25) & (inside[0] > 0.5)
    assert dark.mean() > 0.01


def test_it_is_written_as_dicom_and_nifti_and_read_again(cases: list[BodyPhantom], tmp_path: Path) -> None:
    case = cases[0]
    phantom.write_dicom(case, tmp_path / "dicom", "a", extras=True)
    phantom.write_nifti(case, tmp_path / "nifti", "a", layout="nifti")
    for folder in ("dicom", "nifti"):
        grouping = group(open_source(tmp_path / folder).study("a"))
        assert list(grouping.sequences) == ["t1_in", "t1_out", "t2"]
        for name, series in grouping.sequences.items():
            assert np.abs(read(series).array - case.images[name]).max() <= 0.51
    assert np.array_equal(read_labels(grouping.study.label)[0], case.labels)
    with pytest.raises(
        BadSetting, match="layout 'brats2023' has no names for t1_in, t1_out, t2: use layout 'nifti'"
    ):
        phantom.write_nifti(case, tmp_path, "b", layout="brats2023")
