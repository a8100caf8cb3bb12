"""Where lesions lie: side by the head's own middle, parts by an atlas, on phantoms that lie askew."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from slem_app import phantom
from slem_app.phantom.head import rotation
from slem_app.volumes.atlas import HEAD, PARTS, Atlas, read_atlas
from slem_app.volumes.levels import Volume
from slem_app.volumes.location import NO_ATLAS, NO_FIT, Location, locator

SPOTS = {"left": (-30.0, 20.0, 8.0), "right": (30.0, -30.0, 10.0)}
RADII = (5.0, 10.0, 16.0)


def head(seed: int, tilt: tuple[float, float, float], shift: tuple[float, float, float]) -> phantom.Phantom:
    """A head with a tumour on each side, turned and moved in its frame."""
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = rotation(np.array(tilt)), shift
    tumours = [(np.array(spot), RADII) for spot in SPOTS.values()]
    drawn = phantom.at_next_visit(phantom.draw(seed, 0.9), seed, move, tumours)
    return phantom.make(shape=(70, 84, 64), spacing=(2.0, 2.0, 2.0), head=drawn)


def piece(made: phantom.Phantom, side: str) -> np.ndarray:
    """The tumour of one side, told by the head's own frame."""
    world = made.grid.to_world(np.argwhere(np.ones(made.grid.shape, bool)))
    own = world @ made.head.pose[:3, :3].T + made.head.pose[:3, 3]
    return (made.labels > 0) & ((own[:, 0] < 0).reshape(made.grid.shape) == (side == "left"))


@pytest.mark.parametrize("code", ["LPS", "RAS"])
def test_the_side_is_the_patient_s_however_the_head_lies(code: str) -> None:
    made = phantom.reorient_phantom(head(4, (4.0, 7.0, -9.0), (14.0, 6.0, -5.0)), code)
    found = locator(Volume(made.images["t1c"], made.grid), "t1c", None)
    assert found.limits == (NO_ATLAS,)
    for side in SPOTS:
        there = found.of(piece(made, side), made.grid)
        assert (there.side, there.parts) == (side, {})
    whole = found.of(made.labels > 0, made.grid)
    assert whole.side == "both"
    assert whole.left == pytest.approx(piece(made, "left").sum() / (made.labels > 0).sum(), abs=0.05)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """A head of its own, its front the frontal lobe, its back the occipital one; nothing else is in it."""
    folder = tmp_path_factory.mktemp("atlas")
    made = phantom.make(shape=(70, 84, 64), spacing=(2.0, 2.0, 2.0), head=phantom.draw(9, 0.85))
    world = made.grid.to_world(np.argwhere(np.ones(made.grid.shape, bool)))
    front = (world @ made.head.pose[:3, :3].T + made.head.pose[:3, 3])[:, 1].reshape(made.grid.shape) > 0
    shown = made.images["t1n"] != 0
    masks = {name: np.zeros(made.grid.shape, np.uint8) for name in PARTS}
    masks["frontal_lobe"], masks["occipital"] = (shown & front), (shown & ~front)
    for name, array in ((HEAD.removesuffix(".nii.gz"), made.images["t1n"]), *masks.items()):
        nib.save(nib.Nifti1Image(array.astype(np.float32), made.grid.affine), folder / f"{name}.nii.gz")
    return read_atlas(folder)


def test_the_part_is_that_of_the_atlas_laid_on_the_head(atlas: Atlas) -> None:
    made = head(4, (3.0, -4.0, 6.0), (9.0, -7.0, 5.0))
    found = locator(Volume(made.images["t1c"], made.grid), "t1c", atlas)
    front, back = (found.of(piece(made, side), made.grid) for side in ("left", "right"))
    assert (front.side, max(front.parts, key=front.parts.get)) == ("left", "frontal lobe")
    assert (back.side, max(back.parts, key=back.parts.get)) == ("right", "occipital lobe")
    assert min(max(front.parts.values()), max(back.parts.values())) > 0.85
    assert front.text == "left, frontal lobe"


def test_an_atlas_that_does_not_fit_is_not_believed(atlas: Atlas) -> None:
    made = head(4, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    part = made.images["t1c"].copy()
    part[:, :, : part.shape[2] // 2] = 0  # half a head
    found = locator(Volume(part, made.grid), "t1c", atlas)
    assert NO_FIT in found.limits
    assert found.of(made.labels > 0, made.grid).parts == {}


def test_a_location_in_words_and_as_a_table() -> None:
    one = Location(0.7, {"frontal lobe": 0.62, "insula": 0.2, "thalamus": 0.04})
    assert one.text == "both sides (70% left), frontal lobe 62%, insula 20%"
    assert one.table()["side"] == "both"
    assert Location(None).text == ""
    assert Location(None).table() == {}


def test_without_the_package_there_is_no_atlas(monkeypatch: pytest.MonkeyPatch) -> None:
    import slem_app.volumes.atlas as module

    module.installed_atlas.cache_clear()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module.installed_atlas() is None
    module.installed_atlas.cache_clear()
