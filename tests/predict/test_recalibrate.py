"""Probabilities are put on their region's line, and what enhances is asked to be bright."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slem_app import phantom
from slem_app.errors import BadCard
from slem_app.grouping import group
from slem_app.predict import Predictor
from slem_app.predict.closer_look import Likely
from slem_app.predict.recalibrate import enhancement, normal_tissue, outside, recalibrated
from slem_app.regions import PostProcess
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Model, Recalibration, load_card, save_model
from tests.untrained import noisy, small_card

SHAPE = (12, 12, 12)
ET = Recalibration(slope=0.3, shift=-1.0, bright="t1c", less="t1n", weight=1.5, inside="TC", least=0.4)
LESION = (slice(4, 8),) * 3


def case(present: tuple[str, ...] = BRAIN_SEQUENCES) -> Prepared:
    """Normal tissue with intensities 0 to 1 in all sequences: a median of 0.5, bright from 0.95."""
    noise = np.random.default_rng(0).uniform(1e-3, 1, (4, *SHAPE)).astype(np.float32)
    grid = Grid(SHAPE, np.eye(4))
    there = np.array([name in present for name in BRAIN_SEQUENCES])
    return Prepared(noise * there[:, None, None, None], there, BRAIN_SEQUENCES, grid, grid)


def lesion(wt: float = 0.9, tc: float = 0.8, et: float = 0.6) -> np.ndarray:
    """(3, I, J, K) probabilities of a cube; none elsewhere."""
    found = np.zeros((3, *SHAPE), np.float32)
    found[(slice(None), *LESION)] = np.array([wt, tc, et])[:, None, None, None]
    return found


def lit(prepared: Prepared, sequence: str, level: float, where: tuple[slice, ...]) -> Prepared:
    images = prepared.images.copy()
    images[(BRAIN_SEQUENCES.index(sequence), *where)] = level
    return replace(prepared, images=images)


def run(prepared: Prepared, found: np.ndarray, rules: dict[str, Recalibration]) -> np.ndarray:
    return recalibrated(Likely(found, prepared), prepared, found, BRAIN_LABELS, rules).probabilities


def test_a_line_moves_the_probability_from_which_a_region_is_found() -> None:
    found = lesion(wt=0.6)
    after = run(case(), found, {"WT": Recalibration(slope=2.0, shift=-1.0)})
    logit = 2 * np.log(0.6 / 0.4) - 1
    assert after[0][LESION] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    assert np.array_equal(after[1:], found[1:])


def test_of_two_equally_likely_halves_the_bright_one_enhances() -> None:
    upper = (slice(4, 6), *LESION[1:])
    dim = lit(lit(case(), "t1c", 0.5, LESION), "t1n", 0.5, LESION)
    after = run(lit(dim, "t1c", 1.4, upper), lesion(), {"ET": ET})
    assert (after[2][upper] > 0.6).all()
    assert (after[2][6:8, 4:8, 4:8] < 0.4).all()


def test_what_was_bright_before_contrast_does_not_enhance() -> None:
    dim = lit(lit(case(), "t1c", 1.4, LESION), "t1n", 1.4, LESION)
    assert (run(dim, lesion(), {"ET": ET})[2][LESION] < 0.4).all()


def test_without_a_sequence_before_contrast_brightness_alone_counts() -> None:
    bright = lit(case(("t1c", "t2f")), "t1c", 1.4, LESION)
    assert (run(bright, lesion(), {"ET": ET})[2][LESION] > 0.6).all()


def test_without_contrast_the_region_stays_as_it_is() -> None:
    found = lesion()
    assert np.array_equal(run(case(("t1n", "t2f")), found, {"ET": ET}), found)


@pytest.mark.parametrize("present", [("t2f",), ("t1n", "t2w", "t2f")])
def test_without_contrast_the_core_is_not_raised_to_what_nobody_asked_to_be_bright(
    present: tuple[str, ...],
) -> None:
    core = Recalibration(shift=-1.0)
    alone = run(case(present), lesion(tc=0.7, et=0.65), {"TC": core})
    both = run(case(present), lesion(tc=0.7, et=0.65), {"TC": replace(core, near="ET", away=6.0), "ET": ET})
    assert (both[1][LESION] < 0.5).all()
    assert np.array_equal(both, alone)


def test_it_is_looked_for_only_where_the_region_around_it_is_likely() -> None:
    bright = lit(case(), "t1c", 1.9, (slice(None),) * 3)
    after = run(bright, lesion(tc=0.39, et=0.3), {"ET": ET})
    assert after[2].max() <= 1e-3


def test_regions_around_it_are_at_least_as_likely() -> None:
    bright = lit(lit(case(), "t1c", 1.4, LESION), "t1n", 0.5, LESION)
    after = run(bright, lesion(wt=0.5, tc=0.45), {"ET": ET, "TC": Recalibration(shift=-3.0)})
    assert (after[2][LESION] > 0.6).all()
    assert (after[0][LESION] >= after[1][LESION]).all()
    assert (after[1][LESION] >= after[2][LESION]).all()


def test_brightness_is_0_at_the_median_of_normal_tissue_and_1_at_its_bright_end() -> None:
    prepared, found = case(), lesion()
    tissue = normal_tissue(prepared, found, BRAIN_LABELS)
    assert not tissue[LESION].any()
    level = np.percentile(prepared.images[1][tissue], (50, 95))
    where = np.zeros(SHAPE, bool)
    where[4, 4, 4:6] = True
    seen = lit(lit(prepared, "t1c", level[0], (4, 4, 4)), "t1c", level[1], (4, 4, 5))
    light = enhancement(seen, prepared, tissue, ("t1c", ""), where)
    assert light == pytest.approx([0, 1], abs=1e-4)


def ring(gap: int = 0) -> np.ndarray:
    """(I, J, K) bool: a hollow cube of 8 voxels a side, two thick, with a square hole in one face."""
    rim = np.zeros((24, 24, 24), bool)
    rim[8:16, 8:16, 8:16] = True
    rim[10:14, 10:14, 10:14] = False
    rim[8:10, 10 : 10 + gap, 10 : 10 + gap] = False
    return rim


@pytest.mark.parametrize("gap", [0, 2])
def test_what_a_rim_encloses_is_no_farther_than_the_rim(gap: int) -> None:
    rim = ring(gap)
    cm = outside(rim, rim, (1.0, 1.0, 1.0))
    assert cm[12, 12, 12] == 0
    assert cm[rim].max() == 0
    assert cm[18, 12, 12] == pytest.approx(0.3)


def test_distance_counts_in_mm_and_up_to_two_centimetres() -> None:
    rim = ring()
    cm = outside(rim, rim, (2.0, 2.0, 2.0))
    assert cm[20, 12, 12] == pytest.approx(1.0)
    assert cm[0, 0, 0] == pytest.approx(2.0)


def test_a_core_of_which_little_enhances_has_no_rim() -> None:
    rim = ring()
    core = np.zeros_like(rim)
    core[: 10 * rim.sum() // 24**2] = True
    assert outside(rim, core, (1.0, 1.0, 1.0)).max() < 0.1
    assert not outside(rim, np.ones_like(rim), (1.0, 1.0, 1.0)).any()
    assert not outside(np.zeros_like(rim), core, (1.0, 1.0, 1.0)).any()


def test_core_far_from_its_enhancing_rim_becomes_less_likely() -> None:
    """A bright half of the lesion and a dim voxel of core a centimetre away."""
    far = (4, 4, 11)
    found = lesion()
    found[(slice(None), *far)] = 0.9, 0.8, 0.0
    bright = lit(lit(case(), "t1c", 1.4, LESION), "t1n", 0.5, LESION)
    rules = {"TC": Recalibration(near="ET", away=6.0), "ET": ET}
    after = run(bright, found, rules)
    assert after[1][far] < 0.5
    assert (after[1][LESION] > 0.7).all()
    without = replace(bright, present=np.array([True, False, True, True]))
    assert run(without, found, rules)[1][far] == pytest.approx(0.8)


def test_a_case_without_normal_tissue_is_neither_bright_nor_dark() -> None:
    found = lesion() * 0 + 0.9
    after = run(case(), found, {"ET": ET})
    assert after[2] == pytest.approx(1 / (1 + np.exp(-(0.3 * np.log(9) - 1))), abs=1e-4)


def test_a_result_is_decided_by_the_lines_of_the_card(tmp_path: Path) -> None:
    made = phantom.make(seed=3, shape=(40, 48, 40), spacing=(2.0, 2.0, 2.0))
    source = open_source(phantom.write_nifti(made, tmp_path / "studies", "case-1"))
    study = group(source.study(source.ids()[0]))
    found = []
    for rules in ({}, {"WT": Recalibration(shift=-30.0)}):
        model = Model(
            small_card(recalibration=rules, postprocess=PostProcess(threshold=0.02)), noisy().eval(), Path()
        )
        found.append(Predictor(model, precision="float32").predict_case(study))
    assert found[0].array.any()
    assert not found[1].array.any()
    assert "recalibrate" in found[1].timings
    assert "recalibrate" not in found[0].timings


def test_a_card_keeps_its_lines(tmp_path: Path) -> None:
    card = small_card(recalibration={"ET": ET, "WT": Recalibration(shift=-0.6)})
    save_model(tmp_path / "small", card, noisy())
    assert load_card(tmp_path / "small").recalibration == card.recalibration


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"XX": Recalibration()}, "unknown region 'XX'"),
        ({"ET": replace(ET, bright="pet")}, "unknown sequence 'pet'"),
        ({"WT": replace(ET, inside="TC")}, "inside must be a region around it"),
        ({"TC": Recalibration(near="ET", away=6.0)}, "near must be a region inside it"),
        ({"ET": ET, "TC": Recalibration(near="WT", away=6.0)}, "near must be a region inside it"),
    ],
)
def test_a_card_refuses_lines_of_things_it_does_not_have(rules: dict[str, Recalibration], text: str) -> None:
    with pytest.raises(BadCard, match=text):
        small_card(recalibration=rules)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slope": 0.0},
        {"weight": 1.0},
        {"bright": "t1c"},
        {"least": 1.0},
        {"near": "ET"},
        {"near": "ET", "away": -1.0},
    ],
)
def test_impossible_lines_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="slope|bright|least|near"):
        Recalibration(**wrong)
