"""Probabilities become nested labels, cleaned up, and come back to the reference grid where they belong."""

import re
import time

import numpy as np
import pytest
from scipy import ndimage

from slem_app import phantom
from slem_app.errors import BadCard, BadGrid, BadWeights
from slem_app.labels import Code, Label, LabelSet, Region
from slem_app.regions import PostProcess, decide, margins, restore
from slem_app.types import Grid
from slem_app.volumes import geometry
from slem_app.weights import BRAIN_LABELS

CODE = Code("108369006", "Neoplasm")


def label_set(names: tuple[str, ...], **regions: tuple[str, ...]) -> LabelSet:
    return LabelSet(
        tuple(Label(name, value, CODE) for value, name in enumerate(names, 1)),
        tuple(Region(*pair) for pair in regions.items()),
    )


NECROSIS, EDEMA, ENHANCING = 1, 2, 3
BRAIN = label_set(
    ("necrosis", "edema", "ring"), WT=("necrosis", "edema", "ring"), TC=("necrosis", "ring"), ET=("ring",)
)
ORGANS = label_set(("liver", "spleen", "kidney"), liver=("liver",), spleen=("spleen",), kidney=("kidney",))
# every part of the lung is left or right
UNOWNED = label_set(("left", "right"), lung=("left", "right"), L=("left",), R=("right",))


def line(*channels: list[float]) -> np.ndarray:
    """Voxels in a row: one list a region -> (R, N, 1, 1)."""
    return np.array(channels, np.float32)[:, :, None, None]


def decided(labels: LabelSet, *channels: list[float], **settings: object) -> list[int]:
    return decide(line(*channels), labels, PostProcess(**settings), 1.0).ravel().tolist()


def soft(label_map: np.ndarray, labels: LabelSet, sigma: float = 1.0) -> np.ndarray:
    """Probabilities that a good network would give."""
    return np.stack(
        [ndimage.gaussian_filter(mask.astype(np.float32), sigma) for mask in labels.region_masks(label_map)]
    )


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_a_voxel_takes_the_label_of_its_innermost_region() -> None:
    assert decided(BRAIN, [0.1, 0.9, 0.9, 0.9], [0.1, 0.1, 0.9, 0.9], [0.1, 0.1, 0.1, 0.9]) == [
        0,
        EDEMA,
        NECROSIS,
        ENHANCING,
    ]


def test_an_inner_region_counts_only_inside_the_outer_ones() -> None:
    assert decided(BRAIN, [0.4, 0.9, 0.9], [0.9, 0.4, 0.9], [0.9, 0.9, 0.9]) == [0, EDEMA, ENHANCING]


def test_the_order_of_the_channels_does_not_matter() -> None:
    inside_out = label_set(
        ("necrosis", "edema", "ring"), ET=("ring",), TC=("necrosis", "ring"), WT=("necrosis", "edema", "ring")
    )
    assert decided(inside_out, [0.9, 0.1, 0.1], [0.9, 0.9, 0.1], [0.9, 0.9, 0.9]) == [
        ENHANCING,
        NECROSIS,
        EDEMA,
    ]


def test_the_threshold_itself_is_inside() -> None:
    assert decided(BRAIN, [0.5, 0.49], [0.0, 0.0], [0.0, 0.0]) == [EDEMA, 0]
    assert decided(BRAIN, [0.5, 0.69, 0.7], [0, 0, 0], [0, 0, 0], threshold=0.7) == [0, 0, EDEMA]


def test_of_disjoint_organs_the_most_probable_wins() -> None:
    assert decided(ORGANS, [0.9, 0.6, 0.1, 0.4], [0.6, 0.9, 0.1, 0.4], [0.1, 0.7, 0.8, 0.4]) == [1, 2, 3, 0]


def test_a_region_without_a_label_of_its_own_is_shared_out_among_the_inner_ones() -> None:
    assert decided(UNOWNED, [0.9, 0.9, 0.9, 0.1], [0.9, 0.3, 0.2, 0.9], [0.1, 0.2, 0.3, 0.1]) == [1, 1, 2, 0]


def test_voxels_dropped_from_one_inner_region_go_to_the_next_probable() -> None:
    assert decided(UNOWNED, [0.9, 0.9, 0.9], [0.9, 0.1, 0.1], [0.2, 0.9, 0.9], smallest={"L": 2}) == [2, 2, 2]
    assert decided(UNOWNED, [0.9, 0.9, 0.9], [0.9, 0.4, 0.1], [0.2, 0.3, 0.9], region_minimum={"L": 2}) == [
        2,
        2,
        2,
    ]


def test_small_components_go_to_the_parent_region() -> None:
    whole, core, rim = [0.9] * 7, [0.1, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9], [0.1, 0.9, 0.1, 0.9, 0.9, 0.1, 0.9]
    assert decided(BRAIN, whole, core, rim) == [2, 3, 2, 3, 3, 1, 3]
    assert decided(BRAIN, whole, core, rim, smallest={"ET": 2}) == [2, 1, 2, 3, 3, 1, 1]
    assert decided(BRAIN, whole, core, rim, smallest={"TC": 2}) == [2, 2, 2, 3, 3, 1, 3], (
        "what lies inside a dropped component goes with it"
    )


def test_small_components_of_the_outermost_region_become_background() -> None:
    assert decided(BRAIN, [0.9, 0.1, 0.9, 0.9], [0.9, 0, 0, 0], [0.9, 0, 0, 0], smallest={"WT": 2}) == [
        0,
        0,
        2,
        2,
    ]


def test_components_touching_by_a_corner_hang_together() -> None:
    probabilities = np.zeros((3, 3, 3, 3), np.float32)
    probabilities[0, range(3), range(3), range(3)] = 0.9
    assert np.count_nonzero(decide(probabilities, BRAIN, PostProcess(smallest={"WT": 3}), 1.0)) == 3


def test_clean_up_counts_mm3_not_voxels() -> None:
    probabilities = line([0.9, 0.9], [0, 0], [0, 0])
    settings = PostProcess(smallest={"WT": 10.0})
    assert decide(probabilities, BRAIN, settings, 5.0).any()
    assert not decide(probabilities, BRAIN, settings, 4.9).any()


def test_a_trace_of_enhancing_tumour_goes_to_the_core() -> None:
    whole, rim = [0.9] * 4, [0.9, 0.1, 0.9, 0.1]
    assert decided(BRAIN, whole, whole, rim, region_minimum={"ET": 2}) == [3, 1, 3, 1]
    assert decided(BRAIN, whole, whole, rim, region_minimum={"ET": 3}) == [1, 1, 1, 1]


def test_nothing_likely_gives_an_empty_map() -> None:
    empty = decide(np.zeros((3, 4, 5, 6), np.float32), BRAIN, PostProcess(smallest={"WT": 9}), 1.0)
    assert empty.shape == (4, 5, 6)
    assert empty.dtype == np.uint8
    assert not empty.any()


def test_nesting_holds_whatever_the_network_says() -> None:
    probabilities = np.random.default_rng(0).random((3, 20, 20, 20)).astype(np.float32)
    result = decide(
        probabilities, BRAIN, PostProcess(smallest={"WT": 5, "TC": 4, "ET": 3}, region_minimum={"ET": 9}), 1.0
    )
    whole, core, rim = BRAIN.region_masks(result)
    assert rim.any()
    assert not (rim & ~core).any()
    assert not (core & ~whole).any()
    assert (probabilities[0][whole] >= 0.5).all()
    assert (probabilities[1][core] >= 0.5).all()
    assert (probabilities[2][rim] >= 0.5).all()


def test_truth_survives_the_way_through_probabilities() -> None:
    case = phantom.make(seed=1, shape=(48, 48, 48))
    masks = BRAIN.region_masks(case.labels).astype(np.float32)
    assert (decide(masks, BRAIN, PostProcess(), 1.0) == case.labels).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold must lie between 0 and 1, got 0.0"),
        ({"threshold": float("nan")}, "threshold must lie between 0 and 1, got nan"),
        ({"smallest": {"WT": -1}}, "smallest must hold volumes of 0 mm3 or more, got {'WT': -1}"),
        ({"region_minimum": {"ET": float("nan")}}, "region_minimum must hold volumes of 0 mm3 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadCard, match=re.escape(message)):
        PostProcess(**settings)


def test_settings_of_another_model_are_refused() -> None:
    with pytest.raises(
        BadCard,
        match=re.escape(
            "postprocess names unknown regions ['ET']: the model has ['liver', 'spleen', 'kidney']"
        ),
    ):
        decided(ORGANS, [0.9], [0.1], [0.1], region_minimum={"ET": 5})


def test_a_network_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadWeights, match=re.escape("must have the shape (3, I, J, K), got (2, 1, 1, 1)")):
        decided(BRAIN, [0.9], [0.9])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_are_refused(value: float) -> None:
    grid = Grid((2, 1, 1), np.eye(4))
    with pytest.raises(BadWeights, match="probabilities that are not finite"):
        restore(line([0.9, value], [0, 0], [0, 0]), grid, grid, BRAIN, PostProcess())


def test_probabilities_on_another_grid_are_refused() -> None:
    with pytest.raises(
        BadGrid, match=re.escape("probabilities of (1, 1, 1) voxels came with a grid of (2, 1, 1)")
    ):
        restore(
            line([0.9], [0], [0]),
            Grid((2, 1, 1), np.eye(4)),
            Grid((2, 1, 1), np.eye(4)),
            BRAIN,
            PostProcess(),
        )


def test_restoring_onto_the_same_grid_changes_nothing() -> None:
    case = phantom.make(seed=1, shape=(48, 48, 48), oblique=True)
    result = restore(
        BRAIN.region_masks(case.labels).astype(np.float32), case.grid, case.grid, BRAIN, PostProcess()
    )
    assert (result == case.labels).all()
    assert result.flags.f_contiguous


@pytest.mark.parametrize("code", ["RAS", "PIL"])
def test_restoring_onto_a_reordered_grid_is_exact(code: str) -> None:
    case = phantom.make(seed=1, shape=(40, 48, 36), oblique=True)
    expected, grid = phantom.reorient(case.labels, case.grid, code)
    assert (
        restore(BRAIN.region_masks(case.labels).astype(np.float32), case.grid, grid, BRAIN, PostProcess())
        == expected
    ).all()


@pytest.mark.parametrize("oblique", [False, True])
def test_restored_labels_lie_where_the_tumour_is(oblique: bool) -> None:
    """Network at 1.5 mm in RAS, reference at 1 mm, with other axes."""
    case = phantom.make(seed=2, shape=(96, 112, 88), oblique=oblique)
    network = geometry.lattice([case.grid], (1.5, 1.5, 1.5))
    probabilities = soft(phantom.truth(case.head, network), BRAIN, 0.7)
    result = restore(probabilities, network, case.grid, BRAIN, PostProcess())
    masks, truths = BRAIN.region_masks(result), BRAIN.region_masks(case.labels)
    assert [dice(a, b) > 0.9 for a, b in zip(masks, truths)] == [True] * 3
    for mask, truth in zip(masks, truths):
        middle, expected = (case.grid.to_world(np.argwhere(m).mean(axis=0)) for m in (mask, truth))
        assert np.abs(middle - expected).max() < 0.15


def test_the_box_leaves_no_voxel_out() -> None:
    """The same as interpolating everything and deciding everywhere."""
    case = phantom.make(seed=2, shape=(48, 56, 40), oblique=True)
    network = geometry.lattice([case.grid], (1.5, 1.5, 1.5))
    probabilities = soft(phantom.truth(case.head, network), BRAIN, 0.7)
    settings = PostProcess(smallest={"ET": 20.0})
    for reference in (
        case.grid,
        Grid(
            (30, 60, 20),
            np.diag([2.0, -1.0, 3.0, 1.0])
            + np.array([[0, 0, 0, -30], [0, 0, 0, 30], [0, 0, 0, -30], [0, 0, 0, 0]]),
        ),
    ):
        everywhere = np.stack(
            [geometry.resample(channel, network, reference, order=1) for channel in probabilities]
        )
        expected = decide(everywhere, BRAIN, settings, reference.voxel_volume)
        assert expected.any()
        assert (restore(probabilities, network, reference, BRAIN, settings) == expected).all()


def test_outside_the_networks_grid_is_background() -> None:
    full = np.full((3, 10, 10, 10), 0.9, np.float32)
    reference = Grid((40, 40, 40), np.diag([0.5, 0.5, 0.5, 1.0]))
    source = Grid((10, 10, 10), np.array([[1.0, 0, 0, 5], [0, 1, 0, 5], [0, 0, 1, 5], [0, 0, 0, 1]]))
    result = restore(full, source, reference, BRAIN, PostProcess())
    inside = (source.to_index(reference.to_world(np.argwhere(result == ENHANCING))) >= -0.5 - 1e-6).all()
    assert inside
    assert np.count_nonzero(result) * reference.voxel_volume == pytest.approx(1000, rel=0.16)
    assert not result[:9].any()
    assert not result[30:].any()


def test_a_reference_elsewhere_is_empty() -> None:
    far = np.eye(4)
    far[:3, 3] = 500
    result = restore(
        np.full((3, 4, 4, 4), 0.9, np.float32),
        Grid((4, 4, 4), np.eye(4)),
        Grid((5, 6, 7), far),
        BRAIN,
        PostProcess(),
    )
    assert result.shape == (5, 6, 7)
    assert not result.any()


def test_restoring_a_whole_head_takes_a_fraction_of_a_second() -> None:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = (120, 120, -77)
    case = phantom.draw(0)
    source = Grid(
        (96, 118, 96), np.array([[1.5, 0, 0, -72], [0, 1.5, 0, -88], [0, 0, 1.5, -70], [0, 0, 0, 1]])
    )
    probabilities = soft(phantom.truth(case, source), BRAIN)
    settings = PostProcess(smallest={"WT": 200.0, "TC": 50.0, "ET": 20.0})
    times = []
    for _ in range(3):
        start = time.process_time()
        restore(probabilities, source, Grid((240, 240, 155), affine), BRAIN, settings)
        times.append(time.process_time() - start)
    assert min(times) < 0.3


def test_margins_are_positive_just_where_thresholds_give_the_label() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 12, 12, 12)).astype(np.float32)
    shown = decide(1 / (1 + np.exp(-logits)), BRAIN_LABELS, PostProcess(threshold=0.3), 1.0)
    for value, label in enumerate(("", *BRAIN_LABELS.names)):
        np.testing.assert_array_equal(
            (margins(logits, BRAIN_LABELS, label, 0.3) > 0).all(axis=0), shown == value
        )
