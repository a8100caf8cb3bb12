"""Our mode in the real OHIF: four sequences, the mask in all, clicks in each that need no *Run*, undo, a
brush whose strokes go along, and a saved label that is what was on the screen.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from slem_app import phantom
from tests.e2e import ohif
from tests.e2e.accessible import AXE, SERIOUS
from tests.e2e.ohif_mode import LabelMode, label_mode, point, work_through

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), ohif.NEEDED]
ALONG = np.array([[-1, 0, 0], [1, 0, 0]])  # both ways along the first axis, voxels
SMALL = {"shape": (64, 72, 56), "spacing": (2.5, 2.5, 2.5)}


def without(head: phantom.Phantom, sequence: str) -> phantom.Phantom:
    """A head of which one sequence was not acquired."""
    kept = {name: image for name, image in head.images.items() if name != sequence}
    return dataclasses.replace(head, images=kept)


@pytest.fixture(scope="module")
def url(click_models: Path, start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    studies = tmp_path_factory.mktemp("studies")
    heads = {
        "axial": phantom.make(seed=1, **SMALL),
        "oblique": phantom.make(seed=2, oblique=True, own_grids=True, **SMALL),
        "sagittal": phantom.reorient_phantom(phantom.make(seed=3, **SMALL), "PIR"),
    }
    for name, head in heads.items():
        phantom.write_dicom(head, studies, name)
    phantom.write_dicom(without(phantom.make(seed=4, **SMALL), "t1c"), studies, "without-contrast")
    conf = ("--conf", "models_dir", str(click_models), "--conf", "models", "slem_brain,slem_brain_clicks")
    store = ("--conf", "store", str(tmp_path_factory.mktemp("store")), "--conf", "score_load", "0")
    return start_server(studies, *conf, *store).url


@pytest.fixture
def mode(url: str) -> Iterator[LabelMode]:
    with label_mode(url) as one:
        yield one
        assert one.errors == []
        foreign = {urlsplit(asked).netloc for asked in one.asked if asked.startswith("http")}
        assert foreign == {urlsplit(url).netloc}


def told(url: str, case: str) -> dict:
    return requests.get(f"{url}/slem/viewer/case", params={"study": case}, timeout=60).json()


@pytest.mark.parametrize("case", ["axial", "oblique", "sagittal"])
def test_what_is_segmented_clicked_and_painted_is_what_is_stored(
    mode: LabelMode, url: str, case: str, tmp_path: Path
) -> None:
    work_through(mode, told(url, case)["study"], tmp_path)


def test_the_panel_is_accessible(mode: LabelMode, url: str) -> None:
    if not AXE.is_file():
        pytest.skip("no .axe: make e2e fetches it")
    mode.open(told(url, "oblique")["study"])
    mode.press("Segment")
    mode.page.get_by_text("Sequences", exact=True).click()
    mode.page.get_by_label("T2", exact=True).wait_for()
    mode.page.evaluate(AXE.read_text(encoding="utf-8"))
    assert mode.page.evaluate(SERIOUS, "slem-label-panel") == []


def test_a_warning_is_read_in_the_panel_and_goes_into_the_record(mode: LabelMode, url: str) -> None:
    mode.open(told(url, "without-contrast")["study"])
    mode.press("Segment")
    warning = mode.page.locator(".warning").inner_text()
    assert "without a T1 after contrast" in warning
    assert mode.page.locator(".state").get_by_text("Missing: T1 contrast").count() == 1
    colour = mode.page.locator(".warning").evaluate("one => getComputedStyle(one).color")
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour))
    assert red > 1.4 * max(green, blue)
    mode.press("Save draft")
    assert warning in told(url, "without-contrast")["label"]["warnings"]


def test_the_choice_of_series_is_corrected_in_the_panel(mode: LabelMode, url: str) -> None:
    mode.open(told(url, "axial")["study"])
    mode.press("Segment")
    mode.page.get_by_text("Sequences", exact=True).click()
    mode.page.get_by_label("T2", exact=True).select_option(label="none of them")
    mode.page.get_by_label("FLAIR", exact=True).select_option(label="AX T2 TSE")
    mode.page.get_by_role("button", name="Use these series").click()
    assert told(url, "axial")["missing"] == []  # there is unsaved work: asked again
    with mode.page.expect_navigation():
        mode.page.get_by_role("button", name="Use them without saving").click()
    mode.wait()
    assert told(url, "axial")["missing"] == ["T2"]
    assert mode.page.evaluate("() => slem.info.sequences.map(one => one.name)") == ["t1n", "t1c", "t2f"]
    mode.press("Segment")
    assert mode.problem == ""
    mode.page.get_by_text("Sequences", exact=True).click()
    for field in ("t2w", "FLAIR"):
        mode.page.get_by_label(field, exact=True).select_option("rules")
    mode.page.get_by_role("button", name="Use these series").click()
    with mode.page.expect_navigation():
        mode.page.get_by_role("button", name="Use them without saving").click()
    mode.wait()
    assert told(url, "axial")["missing"] == []


def test_scribbles_and_a_box_are_answered_and_taken_back_and_refusals_are_whole_sentences(
    mode: LabelMode, url: str
) -> None:
    mode.open(told(url, "axial")["study"])
    mode.press("Segment")
    automatic, grid = mode.screen()
    centre = np.array(grid.shape) // 2
    start, end = (grid.to_world(centre + step) for step in 2 * ALONG)
    mode.press("Scribble")
    mode.choose("necrosis")
    mode.line("t2f", start, end)
    assert mode.problem == ""
    scribbled, _ = mode.screen()
    for part in np.linspace(0, 1, 5):  # every voxel of the line is what it was painted as
        world = start + (end - start) * part
        assert scribbled[tuple(np.round(grid.to_index(world)).astype(int))] == 1
    mode.press("Undo")
    np.testing.assert_array_equal(mode.screen()[0], automatic)

    mode.press("Box")
    there = np.argwhere(automatic > 0)
    low, high = there.min(0) - 2, there.max(0) + 2
    middle = (low + high) // 2
    corners = [[low[0], low[1], middle[2]], [middle[0], high[1], middle[2]]]
    mode.line("t1c", *(grid.to_world(corner) for corner in corners))
    assert mode.problem == ""
    boxed, _ = mode.screen()
    assert boxed.any()
    kept = np.argwhere(boxed > 0)
    i1, i2, j1, j2, k1, k2 = mode.page.evaluate("() => slem.box")
    assert (kept.min(0) >= (i1, j1, k1)).all()
    assert (kept.max(0) <= (i2, j2, k2)).all()
    assert (boxed > 0).sum() < (automatic > 0).sum()
    mode.press("Remove the box")
    np.testing.assert_array_equal(mode.screen()[0], automatic)

    mode.press("Click")
    mode.choose("edema")
    outside = grid.to_world([high[0], middle[1], middle[2]])
    mode.click("t1n", outside)
    mode.press("Box")
    mode.line("t1c", *(grid.to_world(corner) for corner in corners))
    shown = mode.page.locator(".problem").inner_text()
    assert "a click of 'edema' lies outside the box" in shown
    assert shown.endswith("enlarge the box or remove the click")
    mode.errors.clear()  # the browser's own line about the answer 422


def test_what_is_done_while_an_answer_is_on_its_way_follows_after_it(mode: LabelMode, url: str) -> None:
    mode.open(told(url, "axial")["study"])
    mode.press("Segment")
    grid = mode.screen()[1]
    centre = np.array(grid.shape) // 2
    mode.choose("edema")
    places = [mode.place("t1n", grid.to_world(centre + step)) for step in 6 * ALONG]
    for place in places:
        mode.page.mouse.click(*place)
    mode.page.wait_for_function("() => slem.steps.done.length > 2 && !slem.busy")
    values, _ = mode.screen()
    assert [int(values[tuple(centre + step)]) for step in 6 * ALONG] == [2, 2]


def test_less_and_more_change_the_answer_to_the_last_click(mode: LabelMode, url: str) -> None:
    mode.open(told(url, "axial")["study"])
    mode.press("Segment")
    automatic, grid = mode.screen()
    assert mode.page.get_by_role("button", name="More", exact=True).is_disabled()
    mode.choose("edema")
    head = np.linalg.norm(np.indices(grid.shape).T - np.array(grid.shape) / 2, axis=-1).T < 12
    world = point(np.where(head & (automatic == 0), 9, 0), grid.affine, 9, 0)
    mode.click("t1n", world)
    clicked, _ = mode.screen()
    mode.press("More")
    mode.press("More")
    assert mode.problem == ""
    more, _ = mode.screen()
    mode.page.keyboard.press("-")
    mode.wait()
    mode.press("Less")
    np.testing.assert_array_equal(mode.screen()[0], clicked)
    mode.press("Less")
    less, _ = mode.screen()
    sizes = [int((one != automatic).sum()) for one in (less, clicked, more)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    assert {int(one[tuple(np.round(grid.to_index(world)).astype(int))]) for one in (less, more)} == {2}
    mode.press("Undo")
    np.testing.assert_array_equal(mode.screen()[0], automatic)
    mode.press("Redo")
    np.testing.assert_array_equal(mode.screen()[0], less)


def test_a_scribble_around_something_means_what_it_encloses(mode: LabelMode, url: str) -> None:
    mode.open(told(url, "axial")["study"])
    mode.press("Segment")
    grid = mode.screen()[1]
    centre, radius = np.array(grid.shape) // 2, 6.0
    turns = np.linspace(0, 2 * np.pi * 0.98, 40)
    circle = [centre + radius * np.array([np.cos(turn), np.sin(turn), 0]) for turn in turns]
    mode.press("Scribble")
    mode.choose("necrosis")
    steps = mode.page.evaluate("() => slem.steps.done.length")
    places = [mode.place("t1c", grid.to_world(spot)) for spot in circle]
    mode.drag(places)
    mode.page.wait_for_function("steps => slem.steps.done.length > steps || slem.problem", arg=steps)
    mode.wait()
    assert mode.problem == ""
    away = np.linalg.norm(np.indices(grid.shape[:2]).T - centre[:2], axis=-1).T
    assert (mode.screen()[0][:, :, centre[2]][away < radius - 1] == 1).all()


@pytest.mark.parametrize("case", ["axial", "oblique", "sagittal"])
def test_a_lasso_means_what_it_encloses_and_goes_no_farther_in_its_slice(
    mode: LabelMode, url: str, case: str
) -> None:
    mode.open(told(url, case)["study"])
    mode.press("Segment")
    automatic, grid = mode.screen()
    world = grid.to_world(np.rint(np.argwhere(automatic > 0).mean(0)))  # in the middle of a slice
    normal, across, down = looked_along(mode)
    mode.press("Lasso")
    mode.choose("necrosis")
    steps = mode.page.evaluate("() => slem.steps.done.length")
    radius, turns = 20.0, np.linspace(0, 1.5 * np.pi, 40)  # mm; the last quarter is not drawn
    circle = [world + radius * (np.cos(t) * across + np.sin(t) * down) for t in turns]
    mode.drag([mode.place("t1c", spot) for spot in circle])
    mode.page.wait_for_function("steps => slem.steps.done.length > steps || slem.problem", arg=steps)
    mode.wait()
    assert mode.problem == ""
    drawn, _ = mode.screen()
    from_centre = grid.to_world(np.indices(grid.shape).reshape(3, -1).T) - world
    in_slice = (np.abs(from_centre @ normal) < 0.4 * grid.spacing.min()).reshape(grid.shape)
    right, below = (from_centre @ across).reshape(grid.shape), (from_centre @ down).reshape(grid.shape)
    away, margin = np.hypot(right, below), 1.5 * grid.spacing.max()
    inside = in_slice & (away < radius - margin) & (right - below < radius - margin)
    assert inside.sum() > 20
    assert (drawn[inside] == 1).all()
    outside = in_slice & ((away > radius + margin) | (right - below > radius + margin))
    assert (automatic[outside] == drawn[outside]).all()
    assert mode.page.evaluate("() => slem.steps.now.what") == "necrosis by a lasso"
    mode.press("Undo")
    np.testing.assert_array_equal(mode.screen()[0], automatic)


def looked_along(mode: LabelMode) -> list[np.ndarray]:
    """Normal of the slices that the viewports show, and two directions in them, each (3,), RAS."""
    camera = mode.page.evaluate(
        "() => { const {viewPlaneNormal, viewUp} = slem.views.all()[0].getCamera();"
        " return [[...viewPlaneNormal], [...viewUp]]; }"
    )
    normal, up = (np.array(one) * (-1, -1, 1) for one in camera)
    return [normal, np.cross(normal, up), up]
