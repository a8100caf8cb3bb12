"""Heads from label maps: the same seed gives the same head, the truth lies where the images show it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from slem_app.errors import BadVolume, NotFound
from slem_app.phantom.heads import (
    PARTS,
    HeadSettings,
    Shape,
    grown,
    label_maps,
    make_head,
    read_map,
    real_shape,
    stream,
    thick,
    write_head,
)
from slem_app.phantom.heads.tumours import KINDS
from slem_app.types import Grid
from slem_app.volumes.geometry import resample

AIR, SKIN, SOFT, BONE, FLUID, GREY, WHITE = 0, 511, 507, 515, 24, 3, 2
SMALL = HeadSettings(
    spacing=4.0, field=(200.0, 220.0, 200.0), thick=0.0, cut=0.0, shift=0.0, turn=0.0, pose=0.0, warp=0.0
)


def label_map(folder: Path, name: str = "head", spacing: float = 4.0) -> Path:
    """A head of nested balls, stored as SynthSeg's maps are (LIA)."""
    shape = (48, 48, 48)
    affine = np.array([[-spacing, 0, 0, 96], [0, 0, spacing, -96], [0, -spacing, 0, 96], [0, 0, 0, 1.0]])
    grid = Grid(shape, affine)
    points = grid.to_world(np.argwhere(np.ones(shape, bool))).reshape(*shape, 3)
    radius = np.linalg.norm(points / [0.9, 1.0, 0.9], axis=-1)
    labels = np.zeros(shape, np.int32)
    for outer, value in (
        (90, SKIN),
        (86, SOFT),
        (76, BONE),
        (68, FLUID),
        (62, GREY),
        (50, WHITE),
        (12, FLUID),
    ):
        labels[radius < outer] = value
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), folder / f"{name}.nii.gz")
    return folder / f"{name}.nii.gz"


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    return read_map(label_map(tmp_path_factory.mktemp("maps")))


def test_a_map_is_read_with_its_tissues_and_brain(head):
    assert head.grid.orientation == "RAS"
    assert (
        {"air", "skin", "fat", "muscle", "bone", "csf", "grey", "white"}
        >= set(head.tissues)
        >= {"air", "bone"}
    )
    inside = np.array(head.tissues)[head.codes[head.brain]]
    assert set(inside) == {"grey", "white", "csf"}, "the ventricle belongs to the brain"
    litres = np.count_nonzero(head.brain) * head.grid.voxel_volume / 1e6
    ball = 4 / 3 * np.pi * (0.9 * 0.62) * (0.9 * 0.62) * 0.62
    assert litres == pytest.approx(ball, rel=0.1), "the fluid around it does not"


def test_an_unknown_label_and_an_empty_folder_are_named(tmp_path):
    path = label_map(tmp_path)
    image = nib.load(path)
    labels = np.asanyarray(image.dataobj).copy()
    labels[labels == WHITE] = 999
    nib.save(nib.Nifti1Image(labels, image.affine), path)
    with pytest.raises(BadVolume, match=r"head.nii.gz: no tissue is known for the label 999"):
        read_map(path)
    with pytest.raises(NotFound, match="no label maps"):
        label_maps(tmp_path / "none")


def test_the_same_seed_gives_the_same_head_and_another_another(head):
    one, same, other = (make_head(head, seed, SMALL) for seed in (3, 3, 4))
    for name in one.images:
        np.testing.assert_array_equal(one.images[name].array, same.images[name].array)
    np.testing.assert_array_equal(one.labels, same.labels)
    assert not np.array_equal(one.images["t1c"].array, other.images["t1c"].array)


def test_contrasts_are_those_of_the_sequences(head):
    made = make_head(head, 1, HeadSettings(**{**SMALL.__dict__, "tumour": 0.0}))
    mean = {
        name: {
            tissue: volume.array[_tissue(head, made, tissue)].mean() for tissue in ("white", "grey", "csf")
        }
        for name, volume in made.images.items()
    }
    assert mean["t1n"]["white"] > mean["t1n"]["grey"] > mean["t1n"]["csf"]
    assert mean["t2w"]["csf"] > mean["t2w"]["grey"] > mean["t2w"]["white"]
    assert mean["t2f"]["grey"] > mean["t2f"]["csf"]


def _tissue(head, made, tissue: str) -> np.ndarray:
    """Where a head that was only shifted shows a tissue, well inside it."""
    wanted = np.isin(head.codes, [n for n, t in enumerate(head.tissues) if t == tissue])
    centre = Grid(head.grid.shape, head.grid.affine)
    share = resample(wanted.astype(np.float32), centre, made.grid, order=1)
    return share > 0.99


def test_the_tumour_stays_in_the_brain_and_enhances_on_t1c_only(head):
    ring = np.zeros((9, 9, 9), np.uint8)
    ring[1:-1, 1:-1, 1:-1] = 1 + PARTS.index("enhancing")
    made = make_head(head, 5, SMALL, [Shape(ring, np.full(3, 4.0))])
    assert set(np.unique(made.labels)) == {0, 3}
    assert not (made.labels.astype(bool) & ~made.brain).any()
    inside, white = made.labels == 3, made.brain & (made.labels == 0)
    ratio = {n: v.array[inside].mean() / v.array[white].mean() for n, v in made.images.items()}
    assert ratio["t1c"] > 1.4 > ratio["t1n"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tumour_grows(kind):
    shape = grown(np.random.default_rng(2), kind, spacing=2.0)
    parts = {PARTS[code - 1] for code in np.unique(shape.parts) if code}
    must = {"ring": "necrosis", "cystic": "cyst", "operated": "cavity", "bleeding": "haemorrhage"}
    assert {"edema", must.get(kind, "edema")} <= parts


def test_a_labelled_tumour_that_does_not_enhance_is_solid_core():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:15, 5:15, 5:15] = 2
    labels[7:12, 7:12, 7:12] = 1
    shape = real_shape(labels, Grid(labels.shape, np.diag([1.0, 1.0, 2.0, 1.0])))
    assert {PARTS[code - 1] for code in np.unique(shape.parts) if code} == {"edema", "core"}
    assert shape.spacing.tolist() == [1.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="no tumour is labelled"):
        real_shape(np.zeros((4, 4, 4), np.uint8), Grid((4, 4, 4), np.eye(4)))


def test_thick_slices_are_means_and_lie_where_they_were_taken():
    grid = Grid((4, 4, 12), np.diag([1.0, 1.0, 1.0, 1.0]))
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32), grid.shape)
    slices = thick(ramp, grid, 2, 3.0)
    assert slices.array.shape == (4, 4, 4)
    np.testing.assert_allclose(
        slices.array[0, 0], slices.grid.to_world([[0, 0, k] for k in range(4)])[:, 2], atol=0.35
    )
    assert thick(ramp, grid, 2, 0.5).array is ramp


def test_a_moved_sequence_is_undone_by_its_matrix(head):
    still = make_head(head, 7, HeadSettings(**{**SMALL.__dict__, "tumour": 0.0}))
    shaken = make_head(head, 7, HeadSettings(**{**SMALL.__dict__, "tumour": 0.0, "shift": 6.0, "turn": 4.0}))
    np.testing.assert_array_equal(shaken.moves["t1n"], np.eye(4))
    move = shaken.moves["t2f"]
    assert np.abs(move - np.eye(4)).max() > 0.5
    np.testing.assert_allclose(
        np.linalg.inv(move) @ shaken.images["t2f"].grid.affine, still.images["t2f"].grid.affine, atol=1e-9
    )


def test_a_stripped_head_is_zero_outside_and_the_cut_may_be_wrong(head):
    sizes = []
    for seed in range(4):
        made = make_head(head, seed, HeadSettings(**{**SMALL.__dict__, "stripped": 1.0, "mask_error": 12.0}))
        assert made.stripped
        kept = made.images["t2w"].array > 0
        assert (made.images["t2w"].array[~kept] == 0).all()
        sizes.append(np.count_nonzero(kept) / np.count_nonzero(made.brain))
    assert min(sizes) < 0.95
    assert max(sizes) > 1.05


def test_a_stream_goes_on_where_another_was_left(head):
    whole, rest = stream([head], 9, SMALL), stream([head], 9, SMALL, start=2)
    heads = [next(whole) for _ in range(3)]
    assert next(rest).seed == heads[2].seed == (9, 2)
    with_contrast = HeadSettings(**{**SMALL.__dict__, "random_contrast": 1.0, "sequences": ("anything",)})
    assert list(next(stream([head], 9, with_contrast)).images) == ["anything"]


def test_a_written_head_reads_back(head, tmp_path):
    made = make_head(head, 11, SMALL)
    folder = write_head(made, tmp_path / "case")
    assert sorted(path.name for path in folder.iterdir()) == [
        "brain_mask.nii.gz", "seg.nii.gz", "t1c.nii.gz", "t1n.nii.gz", "t2f.nii.gz", "t2w.nii.gz",
    ]  # fmt: skip
    read = nib.load(folder / "seg.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(read.dataobj), made.labels)
    np.testing.assert_allclose(read.affine, made.grid.affine)


@pytest.mark.slow
def test_real_label_maps(real_data):
    folder = real_data / "head_labels"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    head = read_map(label_maps(folder)[0])
    ml = np.count_nonzero(head.brain) * head.grid.voxel_volume / 1000
    assert 900 < ml < 1900
    assert {"white", "grey", "fat", "skin", "bone", "eye"} <= set(head.tissues)
