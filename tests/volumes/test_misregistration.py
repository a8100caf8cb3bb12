"""Sequences that do not lie on each other are found by their contents, whatever their contrast; those that do
are left in peace.
"""

import numpy as np
import pytest

from slem_app.phantom import make
from slem_app.types import Grid
from slem_app.volumes.misregistration import displacement
from slem_app.volumes.prepare import Preparation, Volume, prepare

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")


@pytest.fixture(scope="module", params=[False, True], ids=["one grid", "own grids"])
def volumes(request) -> dict[str, Volume]:
    case = make(4, (80, 96, 72), (2.0, 2.0, 2.0), own_grids=request.param)
    return {name: Volume(image, case.grids[name]) for name, image in case.images.items()}


def moved(volume: Volume, shift: tuple[float, float, float]) -> Volume:
    affine = volume.grid.affine.copy()
    affine[:3, 3] += shift
    return Volume(volume.array, Grid(volume.grid.shape, affine))


def test_sequences_in_register_are_left_in_peace(volumes):
    assert prepare(volumes, SEQUENCES, Preparation()).warnings == ()


@pytest.mark.parametrize("shift", [(9, 0, 0), (0, -8, 6), (3, 4, -12)])
@pytest.mark.parametrize("name", ["t1c", "t2w", "t2f"])
def test_a_head_that_moved_is_noted_by_name(volumes, shift, name):
    shifted = {**volumes, name: moved(volumes[name], shift)}
    warnings = prepare(shifted, SEQUENCES, Preparation(), conformed="none").warnings
    assert len(warnings) == 1
    assert warnings[0].text.startswith(f"{name} seems displaced against t1n by some ")
    assert "--register may help" in warnings[0].text


def test_a_truncated_sequence_is_not_displaced(volumes):
    image, grid = volumes["t2f"].array, volumes["t2f"].grid
    half = image.shape[2] // 2
    cut = Volume(image[:, :, :half].copy(), grid.crop((0, 0, 0), (*grid.shape[:2], half)))
    assert not any(
        one.code == "sequence-displaced"
        for one in prepare({**volumes, "t2f": cut}, SEQUENCES, Preparation(), conformed="none").warnings
    )


def test_nothing_is_said_of_images_too_small_or_alike_everywhere():
    rng = np.random.default_rng(0)
    tiny = {"a": rng.random((4, 4, 4)) + 1, "b": rng.random((4, 4, 4)) + 1}
    assert displacement(tiny, (1.5, 1.5, 1.5)) == {}
    assert displacement({"a": np.ones((64, 64, 64)), "b": np.ones((64, 64, 64))}, (1.5, 1.5, 1.5)) == {}
    assert displacement({"a": np.ones((64, 64, 64))}, (1.5, 1.5, 1.5)) == {}


def test_the_size_and_the_partner_are_told():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((24, 24, 24)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    found = displacement({"a": base, "b": -np.roll(base, 8, axis=1), "c": base**2 + 1}, (1.5, 1.5, 1.5))
    assert found == {"b": (12.0, "a")}


def test_real_studies(real_data):
    from slem_app.grouping import group
    from slem_app.studies import open_source
    from slem_app.volumes.read import read_all

    told = {}
    for name in ("raw_glioma", "brats"):
        if not (real_data / name).is_dir():
            pytest.skip(f"{real_data / name} is not there")
        source = open_source(real_data / name)
        grouping = group(source.study(source.ids()[0]))
        made = prepare(read_all(grouping.sequences), SEQUENCES, Preparation(), conformed="none")
        told[name] = [one.text.split()[0] for one in made.warnings if one.code == "sequence-displaced"]
    assert told == {"raw_glioma": ["t2w", "t2f"], "brats": []}
