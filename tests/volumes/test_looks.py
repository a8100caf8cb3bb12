"""Looks are a second opinion: they settle what names leave open, and never overrule a name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slem_app.errors import BadCard, BadWeights, NotFound
from slem_app.grouping import group
from slem_app.studies import Series, Study
from slem_app.types import Grid
from slem_app.volumes.levels import Volume
from slem_app.volumes.looks import (
    CLASSES,
    Looks,
    LooksCard,
    LooksNetwork,
    load_looks_network,
    look,
    save_looks_network,
    settle,
)
from slem_app.volumes.looks.network import BOX, box_around, looks_input


def like(name: str, share: float = 0.98) -> Looks:
    """An image that looks like a sequence."""
    rest = (1 - share) / (len(CLASSES) - 1)
    return Looks({one: share if one == name else rest for one in CLASSES})


def study_of(**names: str) -> Study:
    """A study of NIfTI files: id -> name, whose headers nobody reads here."""
    series = tuple(
        Series(id=id, paths=(Path(f"{id}.nii.gz"),), format="nifti", name=name) for id, name in names.items()
    )
    return Study(id="case", layout="nifti", root=Path(), series=series)


def test_a_series_without_a_telling_name_is_taken_by_its_looks_and_a_warning_says_so():
    grouping = group(study_of(a="t1c", b="series 7"))
    settled = settle(grouping, seen=lambda series: like("t2f"))
    assert {name: one.id for name, one in settled.sequences.items()} == {"t1c": "a", "t2f": "b"}
    [choice] = [one for one in settled.choices if one.sequence == "t2f"]
    assert choice.reason == "no name or header tells; it looks like t2f (98%)"
    assert [one.code for one in settled.warnings] == ["sequence-by-looks"]
    assert settled.leftovers == ()


def test_what_does_not_look_surely_like_anything_stays_open_and_tells_its_looks():
    grouping = group(study_of(a="t1c", b="series 7"))
    settled = settle(grouping, seen=lambda series: like("t2f", 0.6))
    assert set(settled.sequences) == {"t1c"}
    assert settled.leftovers[0].reason.endswith("; it looks like t2f (60%)")
    assert settled.warnings == ()


def test_a_name_that_tells_is_never_overruled_and_nothing_is_looked_at_where_nothing_is_open():
    grouping = group(study_of(a="t1c", b="t2w"))
    assert settle(grouping, seen=lambda series: pytest.fail("it was looked at")) is grouping
    grouping = group(study_of(a="t1c", b="series 7"))
    assert set(settle(grouping, seen=lambda series: like("t1c")).sequences) == {"t1c"}


def test_two_series_that_look_alike_stay_open():
    grouping = group(study_of(a="t1c", b="series 7", c="series 8"))
    settled = settle(grouping, seen=lambda series: like("t2w"))
    assert set(settled.sequences) == {"t1c"}
    assert len(settled.leftovers) == 2


def test_of_two_t1_that_no_name_tells_apart_the_one_that_looks_more_enhanced_is_after_contrast():
    looks = {
        "a": Looks({"t1n": 0.55, "t1c": 0.44, "t2w": 0.0, "t2f": 0.0, "other": 0.01}),
        "b": Looks({"t1n": 0.02, "t1c": 0.97, "t2w": 0.0, "t2f": 0.0, "other": 0.01}),
    }
    grouping = group(study_of(a="series 7", b="series 8"))
    settled = settle(grouping, seen=lambda series: looks[series.id])
    assert {name: one.id for name, one in settled.sequences.items()} == {"t1n": "a", "t1c": "b"}
    alike = settle(grouping, seen=lambda series: looks["a"])
    assert alike.sequences == {}


def test_a_choice_by_hand_that_no_series_is_a_sequence_is_kept():
    study = replace(study_of(a="t1c", b="series 7"), by_hand={"t2f": ""})
    assert set(settle(group(study), seen=lambda series: like("t2f")).sequences) == {"t1c"}


def test_an_image_without_a_brain_is_not_a_head():
    grid = Grid((48, 48, 48), np.diag([4.0, 4.0, 4.0, 1.0]))
    empty = np.full(grid.shape, 7, np.float32)
    found = look(Volume(empty, grid), "series 7")
    assert (found.best, found.probability) == ("", 0.0)
    assert "empty or constant" in str(found)


def test_the_box_lies_around_the_brain_whatever_the_grid():
    brain = np.zeros((60, 70, 50), np.float32)
    brain[30:50, 20:50, 10:40] = 1
    grid = Grid(brain.shape, np.diag([-3.0, 3.0, 3.0, 1.0]))
    image, mask = box_around(100 * brain, grid, brain, grid)
    assert image.shape == BOX
    assert mask.sum() == pytest.approx(brain.sum(), rel=0.1)
    np.testing.assert_allclose(np.argwhere(mask).mean(axis=0), np.array(BOX) / 2, atol=1)
    seen = looks_input(image, mask)
    assert seen.shape == (2, *BOX)
    assert looks_input(image, np.zeros(BOX, bool)) is None


def test_intensities_are_relative_to_the_brain():
    rng = np.random.default_rng(0)
    image, mask = rng.normal(0, 1, BOX).astype(np.float32), np.zeros(BOX, bool)
    mask[10:40, 10:50, 10:40] = True
    once, again = looks_input(image, mask), looks_input(300 + 25 * image, mask)
    np.testing.assert_allclose(once, again, atol=1e-4)
    assert not once[0][~mask].any()


def test_weights_are_those_of_the_card(tmp_path):
    network = LooksNetwork(2).eval()
    card = LooksCard("names", "1", "names sequences", ("t1n", "t2w"), 0.9, "", "", "", {})
    saved = save_looks_network(tmp_path, card, network)
    known, loaded = load_looks_network(tmp_path)
    assert known == saved
    seen = np.random.default_rng(0).normal(0, 1, (2, *BOX)).astype(np.float32)
    seen[1] = 1
    np.testing.assert_allclose(loaded.shares(seen), network.shares(seen), atol=0.01)
    assert loaded.shares(seen).sum() == pytest.approx(1, abs=1e-5)
    load_looks_network.cache_clear()
    (tmp_path / saved.file).write_bytes(b"other")
    with pytest.raises(BadWeights, match="is damaged, or not the file that its card names"):
        load_looks_network(tmp_path)
    (tmp_path / "names.yaml").write_text("name: x")
    with pytest.raises(BadCard, match="cannot be read as such a card"):
        load_looks_network(tmp_path)
    with pytest.raises(NotFound, match="no model that names sequences"):
        load_looks_network(tmp_path / "nowhere")
    with pytest.raises(BadCard, match="must be a probability above"):
        LooksCard("names", "1", "", (), 0.2, "", "", "", {})
