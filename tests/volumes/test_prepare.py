"""What the network sees depends on what lies where in the world, never on how it was stored, on outliers or
on another sequence.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from slem_app.errors import BadGrid, BadStudy, BadVolume
from slem_app.phantom import make, render, reorient, reorient_phantom
from slem_app.types import Grid
from slem_app.volumes.prepare import Levels, Preparation, Volume
from slem_app.volumes.prepare import prepare as prepare_any
from tests.volumes.conftest import SHAPE, SPACING

prepare = partial(prepare_any, conformed="none")  # what is done before that is tested in test_conform
SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
SETTINGS = Preparation(spacing=(3.0, 3.0, 3.0), multiple=8)


def head_in_air(case, name: str, seed: int = 0) -> Volume:
    """The phantom with a skull and scalp around it, dark gap between, Rician noise in the air, as a scanner
    gives it.
    """
    image, grid = case.images[name], case.grids[name]
    brain = image > 0
    near = ndimage.distance_transform_edt(~brain, sampling=grid.spacing)
    level = float(np.median(image[brain]))
    head = np.where((near > 5) & (near < 12), 1.2 * level, np.where(brain, image, 0.0))
    rng = np.random.default_rng(seed)
    noisy = np.hypot(
        head + rng.normal(0, 0.02 * level, image.shape), rng.normal(0, 0.02 * level, image.shape)
    )
    return Volume(noisy.astype(np.float32), grid)


def inside_of(case, prepared) -> np.ndarray:
    """(I, J, K) bool on the prepared grid: well inside the brain."""
    from slem_app.volumes.geometry import resample

    brain = ndimage.binary_erosion(case.images["t1c"] > 0, iterations=2)
    return resample(brain.astype(np.uint8), case.grid, prepared.grid, 0) > 0


@pytest.mark.parametrize("code", ["RAS", "LPI", "PIL", "SAR", "IAL"])
def test_storage_order_changes_nothing(case, volumes_of, code):
    # off the lattice, so that everything is interpolated
    settings = Preparation(spacing=(3.3, 2.7, 3.1), multiple=8)
    one = prepare(volumes_of(case), SEQUENCES, settings, case.grid)
    other = prepare(volumes_of(reorient_phantom(case, code)), SEQUENCES, settings, case.grid)
    assert one.grid.shape == other.grid.shape
    np.testing.assert_allclose(one.grid.affine, other.grid.affine, atol=1e-9)
    np.testing.assert_allclose(one.images, other.images, atol=1e-5)


def test_sizes_spacing_and_statistics(case, volumes_of):
    prepared = prepare(volumes_of(case), SEQUENCES, replace(SETTINGS, multiple=16), case.grid)
    assert prepared.images.dtype == np.float32
    assert prepared.images.shape == (4, *prepared.grid.shape)
    assert all(n % 16 == 0 for n in prepared.grid.shape)
    assert prepared.grid.orientation == "RAS"
    np.testing.assert_allclose(prepared.grid.spacing, 3.0)
    assert prepared.reference is case.grid
    for image in prepared.images:
        assert (image == 0).mean() > 0.2
        assert image[image != 0].mean() == pytest.approx(0, abs=1e-3)
        assert image[image != 0].std() == pytest.approx(1, abs=1e-3)


def test_the_crop_keeps_the_whole_head_and_a_margin(case, volumes_of):
    prepared = prepare(volumes_of(case), SEQUENCES, replace(SETTINGS, margin=7.0), case.grid)
    index = prepared.grid.to_index(case.grid.to_world(np.argwhere(case.images["t1c"] > 0)))
    assert (index.min(axis=0) >= 2).all()
    assert (index.max(axis=0) <= np.array(prepared.grid.shape) - 3).all()


def test_an_oblique_study_is_nearly_the_same_in_world_space():
    straight, oblique = make(3, SHAPE, SPACING), make(3, SHAPE, SPACING, oblique=True)
    a = prepare({n: Volume(i, straight.grid) for n, i in straight.images.items()}, SEQUENCES, SETTINGS)
    b = prepare({n: Volume(i, oblique.grid) for n, i in oblique.images.items()}, SEQUENCES, SETTINGS)
    both = b.grid.to_index(a.grid.to_world(np.argwhere(inside_of(straight, a))))
    for slot in range(4):
        there = ndimage.map_coordinates(b.images[slot], both.T, order=1)
        here = a.images[slot][inside_of(straight, a)]
        assert np.corrcoef(here, there)[0, 1] > 0.9
        assert abs(here.mean() - there.mean()) < 0.1


def test_sequences_on_different_grids_come_onto_one():
    case = make(5, SHAPE, SPACING, own_grids=True)
    assert len({(g.shape, g.orientation) for g in case.grids.values()}) > 2
    prepared = prepare(
        {n: Volume(i, case.grids[n]) for n, i in case.images.items()}, SEQUENCES, SETTINGS, case.grid
    )
    inside = inside_of(case, prepared)
    for slot, name in enumerate(SEQUENCES):
        wanted = render(case.head, prepared.grid, name)[inside]
        assert np.corrcoef(prepared.images[slot][inside], wanted)[0, 1] > 0.7, name
    assert prepared.warnings == ()


def test_the_result_does_not_depend_on_the_reference(case, volumes_of):
    volumes = volumes_of(make(5, SHAPE, SPACING, own_grids=True))
    one, other = (prepare(volumes, SEQUENCES, SETTINGS, volumes[name].grid) for name in ("t1n", "t2f"))
    np.testing.assert_array_equal(one.images, other.images)
    assert one.grid.same_as(other.grid)
    assert one.reference is volumes["t1n"].grid


def test_a_truncated_field_of_view_does_not_shift_the_rest(case, volumes_of):
    volumes = volumes_of(case)
    image, grid = case.images["t2f"], case.grids["t2f"]
    cut = image.shape[2] * 2 // 3
    whole = prepare(volumes, SEQUENCES, SETTINGS, case.grid)
    volumes["t2f"] = Volume(image[:, :, :cut].copy(), grid.crop((0, 0, 0), (*image.shape[:2], cut)))
    short = prepare(volumes, SEQUENCES, SETTINGS, case.grid)
    volumes["t2f"] = Volume(np.where(np.arange(image.shape[2]) < cut, image, 0).astype(np.float32), grid)
    padded = prepare(volumes, SEQUENCES, SETTINGS, case.grid)
    assert short.grid.same_as(whole.grid)
    np.testing.assert_array_equal(short.images[:3], whole.images[:3])
    # but for the last plane, half of it outside
    assert np.abs(padded.images[3] - short.images[3]).mean() < 0.03
    rest = short.images[3] != 0
    assert 0.4 < rest.sum() / (whole.images[3] != 0).sum() < 0.9
    assert np.abs(short.images[3][rest] - whole.images[3][rest]).mean() < 0.25
    assert np.corrcoef(short.images[3][rest], whole.images[3][rest])[0, 1] > 0.99


def test_bright_and_dark_outliers_change_little(case, volumes_of):
    volumes = volumes_of(case)
    plain = prepare(volumes, SEQUENCES, SETTINGS)
    spoilt = case.images["t1c"].copy()
    inside = np.argwhere(spoilt > 0)
    spoilt[tuple(inside[:: len(inside) // 20].T)] = 1e6
    spoilt[tuple(inside[5])] = -30000
    volumes["t1c"] = Volume(spoilt, case.grid)
    result = prepare(volumes, SEQUENCES, SETTINGS)
    assert result.grid.same_as(plain.grid)
    assert np.median(np.abs(result.images[1] - plain.images[1])) < 0.02
    assert np.abs(result.images[1]).max() < 8


def test_one_broken_voxel_in_noisy_air_does_not_set_the_scale(case):
    volume = head_in_air(case, "t1n")
    broken = volume.array.copy()
    broken[2, 2, 2] = -30000
    plain, result = (
        prepare({"t1n": Volume(a, case.grid)}, ("t1n",), SETTINGS) for a in (volume.array, broken)
    )
    assert result.grid.shape == plain.grid.shape
    assert np.abs(result.images - plain.images).mean() < 0.02


def test_a_background_that_is_not_the_smallest_value(case):
    """Bias correction and z-scores leave negative brain around a background of zeros, or a background that is
    not zero.
    """
    image, affine = case.images["t2w"], case.grid.affine.copy()
    # on the lattice: no border voxel mixes brain and background
    affine[:3, 3] = np.round(affine[:3, 3] / 3) * 3
    grid = Grid(case.grid.shape, affine)
    brain = image > 0
    scored = np.where(brain, (image - image[brain].mean()) / image[brain].std(), 0).astype(np.float32)
    moved = np.where(brain, scored - 3, 0.5).astype(np.float32)
    plain = prepare({"t2w": Volume(image, grid)}, ("t2w",), SETTINGS)
    for array in (scored, moved):
        result = prepare({"t2w": Volume(array, grid)}, ("t2w",), SETTINGS)
        assert result.grid.same_as(plain.grid)
        assert result.warnings == ()
        np.testing.assert_allclose(result.images[0], plain.images[0], atol=1e-4)


@pytest.mark.parametrize("name", ["t1n", "t2f"])
def test_a_whole_head_in_air_and_noise_is_found(case, name):
    volume = head_in_air(case, name)
    prepared = prepare({name: volume}, (name,), SETTINGS)
    assert any("not skull-stripped" in one.text for one in prepared.warnings)
    assert (prepared.images[0] == 0).mean() > 0.1
    outer = ndimage.distance_transform_edt(case.images[name] <= 0, sampling=case.grid.spacing)
    from slem_app.volumes.geometry import resample

    distance = resample(outer, case.grid, prepared.grid, 1, fill=1e3)
    assert (prepared.images[0][distance == 0] != 0).mean() > 0.99  # all of the brain, dark ventricles too
    assert (prepared.images[0][distance > 18] != 0).mean() < 0.01  # no air


def test_speckles_in_air_that_is_often_exactly_zero_are_no_head(case):
    volume = head_in_air(case, "t1c")
    coarse = np.where(volume.array < np.percentile(volume.array, 30), 0, volume.array)
    assert (coarse == 0).mean() >= 0.3
    levels = Levels.of(coarse, "t1c")
    assert levels.head is not None
    one = prepare({"t1c": Volume(coarse, case.grid)}, ("t1c",), SETTINGS)
    other = prepare({"t1c": volume}, ("t1c",), SETTINGS)
    assert one.grid.shape == other.grid.shape
    assert np.abs(one.images - other.images).mean() < 0.05


def test_another_sequence_with_a_wider_view_does_not_change_what_air_is(case, volumes_of):
    noisy = head_in_air(case, "t1n")
    alone = prepare({"t1n": noisy}, ("t1n", "t2w"), SETTINGS)
    shape = tuple(n + 24 for n in case.grid.shape)
    wide = np.zeros(shape, np.float32)
    wide[12:-12, 12:-12, 12:-12] = case.images["t2w"]
    both = prepare(
        {"t1n": noisy, "t2w": Volume(wide, case.grid.crop((-12, -12, -12), shape))}, ("t1n", "t2w"), SETTINGS
    )
    assert both.grid.same_as(alone.grid)
    np.testing.assert_allclose(both.images[0], alone.images[0], atol=1e-5)


def test_a_missing_sequence_is_a_flag(case, volumes_of):
    volumes = {name: volume for name, volume in volumes_of(case).items() if name != "t2w"}
    prepared = prepare(volumes, SEQUENCES, SETTINGS)
    assert prepared.present.tolist() == [True, True, False, True]
    assert prepared.missing == ("t2w",)
    assert prepared.used == ("t1n", "t1c", "t2f")
    np.testing.assert_array_equal(
        prepared.images[[0, 1, 3]], prepare(volumes, ("t1n", "t1c", "t2f"), SETTINGS).images
    )


def test_unknown_sequences_are_ignored(case, volumes_of):
    extra = volumes_of(case) | {"adc": Volume(np.full((4, 4, 4), np.nan, np.float32), case.grid)}
    np.testing.assert_array_equal(
        prepare(extra, SEQUENCES, SETTINGS).images, prepare(volumes_of(case), SEQUENCES, SETTINGS).images
    )


def test_fine_volumes_are_smoothed_before_they_are_thinned_out():
    grid = Grid((96, 96, 96), np.diag([1.0, 1.0, 1.0, 1.0]))
    rng = np.random.default_rng(0)
    radius = np.linalg.norm(np.indices(grid.shape) - 47.5, axis=0)
    image = np.where(radius < 40, 100 + 30 * rng.standard_normal(grid.shape), 0).astype(np.float32)
    image += np.where(radius < 40, 40 * (np.indices(grid.shape)[0] > 47), 0)
    coarse = prepare({"t1n": Volume(image, grid)}, ("t1n",), Preparation(spacing=(4, 4, 4), multiple=8))
    where = (
        np.linalg.norm(coarse.grid.to_world(np.stack(np.indices(coarse.grid.shape), -1)) - 47.5, axis=-1) < 33
    )
    left = where & (coarse.grid.to_world(np.stack(np.indices(coarse.grid.shape), -1))[..., 0] < 42)
    assert coarse.images[0][left].std() < 0.45  # 0.83 without smoothing


@pytest.mark.parametrize(
    ("spoil", "error", "text"),
    [
        (lambda a: np.full_like(a, 3), BadVolume, "sequence t1c: every voxel has the value 3"),
        (
            lambda a: np.where(a > a.max() / 2, np.nan, a),
            BadVolume,
            "sequence t1c: some voxels are NaN or infinite",
        ),
        (
            lambda a: np.where(a > a.max() / 2, np.inf, a),
            BadVolume,
            "sequence t1c: some voxels are NaN or infinite",
        ),
        (
            lambda a: (a > 0).astype(np.float32),
            BadVolume,
            "sequence t1c: it holds the values 0 and 1 only: it is a mask",
        ),
        (
            lambda a: np.maximum(np.arange(a.size).reshape(a.shape) - a.size + 9, 0).astype(np.float32),
            BadVolume,
            "sequence t1c: no foreground found",
        ),
    ],
    ids=["constant", "nan", "inf", "mask", "nearly empty"],
)
def test_spoilt_volumes_are_refused(case, volumes_of, spoil, error, text):
    volumes = volumes_of(case)
    volumes["t1c"] = Volume(spoil(case.images["t1c"]), case.grid)
    with pytest.raises(error, match=text):
        prepare(volumes, SEQUENCES, SETTINGS)


def shifted(volume: Volume, mm: float) -> Volume:
    affine = volume.grid.affine.copy()
    affine[0, 3] += mm
    return Volume(volume.array, Grid(volume.grid.shape, affine))


def test_sequences_that_do_not_overlap_are_refused(case, volumes_of):
    volumes = volumes_of(case)
    volumes["t2f"] = shifted(volumes["t2f"], 400)
    with pytest.raises(
        BadGrid, match=r"sequence t1n and sequence t2f do not overlap in space \(0%.*register"
    ):
        prepare(volumes, SEQUENCES, SETTINGS)


def test_heads_beside_each_other_in_overlapping_grids_are_refused(case, volumes_of):
    volumes = volumes_of(case)
    width = np.ptp(np.flatnonzero((case.images["t2f"] > 0).any(axis=(1, 2)))) * 3.0
    volumes["t2f"] = shifted(volumes["t2f"], width - 3)
    with pytest.raises(BadGrid, match="the sequences t1n and t2f hardly overlap"):
        prepare(volumes, SEQUENCES, SETTINGS)


def test_sequences_out_of_register_are_noted(case, volumes_of):
    volumes = volumes_of(case)
    volumes["t2f"] = shifted(volumes["t2f"], 60)
    assert any(
        "t1n and t2f cover different tissue" in one.text and "--register" in one.text
        for one in prepare(volumes, SEQUENCES, SETTINGS).warnings
    )


def test_a_reference_elsewhere_is_refused(case, volumes_of):
    far = shifted(volumes_of(case)["t1c"], 900).grid
    with pytest.raises(BadGrid, match="the reference do not overlap"):
        prepare(volumes_of(case), SEQUENCES, SETTINGS, far)


def test_a_sheared_sequence_is_refused_by_name(case, volumes_of):
    volumes = volumes_of(case)
    affine = case.grid.affine.copy()
    affine[0, 1] += 0.5
    volumes["t2w"] = Volume(case.images["t2w"], Grid(case.grid.shape, affine))
    with pytest.raises(BadGrid, match="sequence t2w: its axes are sheared"):
        prepare(volumes, SEQUENCES, SETTINGS)


def test_no_known_sequence_is_refused(case, volumes_of):
    with pytest.raises(BadStudy, match="none of the sequences pd, swi is in this study"):
        prepare(volumes_of(case), ("pd", "swi"), SETTINGS)


@pytest.mark.parametrize(
    "wrong", [{"spacing": (0, 1, 1)}, {"multiple": 0}, {"margin": -1}, {"clip": (50, 20)}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="impossible preparation"):
        Preparation(**wrong)


def test_four_real_grids_come_onto_one(real_data):
    """TCGA-FG-6692: whole heads as the scanner gave them, 26 thick slices, four different matrices."""
    from slem_app.grouping import group
    from slem_app.studies import open_source
    from slem_app.volumes.read import read

    folder = real_data / "raw_glioma"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    source = open_source(folder)
    grouping = group(source.study(source.ids()[0]))
    volumes = {name: read(series) for name, series in grouping.sequences.items()}
    assert len({volume.grid.shape for volume in volumes.values()}) >= 3
    settings = Preparation(spacing=(3.0, 3.0, 3.0))
    prepared = prepare(volumes, SEQUENCES, settings, grouping.sequences["t1c"].grid)
    assert prepared.present.all()
    heads = [np.abs(image) > 0 for image in prepared.images]
    for a in range(4):
        for b in range(a):
            assert 2 * (heads[a] & heads[b]).sum() / (heads[a].sum() + heads[b].sum()) > 0.75
    settings = Preparation(spacing=(3.0, 3.0, 3.0), stripped=True)
    pair = {name: volumes[name] for name in ("t1c", "t2f")}
    # T2 and FLAIR were taken with the head some 16 mm elsewhere
    moved = prepare(
        pair, ("t1c", "t2f"), settings, grouping.sequences["t1c"].grid, fixed="t1c", conformed="register"
    )
    assert set(moved.moves) == {"t2f"}
    assert 10 < np.linalg.norm(moved.moves["t2f"][:3, 3]) < 40
    inside = ndimage.binary_erosion((moved.images != 0).all(axis=0), iterations=2)
    assert 0.3 < np.corrcoef(*moved.images[:, inside])[0, 1] < 1.0


def test_a_real_case_stored_otherwise_is_the_same(real_data):
    from slem_app.grouping import group
    from slem_app.studies import open_source
    from slem_app.volumes.read import read

    folder = real_data / "brats"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    source = open_source(folder)
    volumes = {name: read(series) for name, series in group(source.study(source.ids()[-1])).sequences.items()}
    moved = {name: Volume(*reorient(volume.array, volume.grid, "PIR")) for name, volume in volumes.items()}
    one, other = (prepare(v, SEQUENCES, Preparation()) for v in (volumes, moved))
    assert one.grid.same_as(other.grid, 1e-6)
    np.testing.assert_allclose(one.images, other.images, atol=1e-4)
