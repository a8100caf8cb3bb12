"""Our own mode in OHIF, driven with the mouse in a headless Chromium, and what it shows read back."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import requests

from slem_app.formats import read_label_file
from slem_app.types import Grid
from tests.e2e.ohif import LPS_TO_RAS, browser_page

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
IDLE = "() => window.slem && !window.slem.busy"
SCREEN = """() => {
    const {begin, size, data} = slem.onScreen();
    let text = '';
    for (let k = 0; k < data.length; k += 8192)
        text += String.fromCharCode(...data.subarray(k, k + 8192));
    return {voxels: btoa(text), begin, size, shape: slem.info.grid.shape, affine: slem.info.grid.affine};
}"""
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
VIEW = """id => {
    const view = slem.views.all().find(one => one.id === `slem-${id}`);
    const box = view.element.getBoundingClientRect();
    return {view, box};
}"""
PAINTED = f"""async id => {{
    const {{view}} = ({VIEW})(id), canvas = view.getCanvas();
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const copy = document.createElement('canvas');
    Object.assign(copy, {{width: canvas.width, height: canvas.height}});
    copy.getContext('2d').drawImage(canvas, 0, 0);
    const pixels = copy.getContext('2d').getImageData(0, 0, copy.width, copy.height).data;
    let painted = 0;
    for (let at = 0; at < pixels.length; at += 4)
        painted += Math.max(pixels[at], pixels[at + 1], pixels[at + 2])
            - Math.min(pixels[at], pixels[at + 1], pixels[at + 2]) > 30;
    return painted;
}}"""


class LabelMode:
    """A page with the mode open on one study, and what its console and its network said."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, study: str) -> None:
        """Load a study and wait until its images are there."""
        self.page.goto(f"{self.url}/ohif/slem-label?StudyInstanceUIDs={study}", wait_until="commit")
        self.wait()
        self.page.add_style_tag(content="[class*=investigational]{display:none}")
        notice = self.page.get_by_text("Confirm and Hide")
        if notice.count():
            notice.click()

    def wait(self) -> None:
        self.page.wait_for_function(IDLE)

    def press(self, name: str) -> None:
        """Press a button of the panel, and wait until it is done."""
        self.page.get_by_role("button", name=name, exact=True).click()
        self.wait()

    def choose(self, label: str) -> None:
        """Choose the label that clicks and brushes paint."""
        self.page.get_by_role("radio", name=label).click()

    def place(self, sequence: str, world: np.ndarray) -> tuple[float, float]:
        """Pixels of a point, RAS mm, in the viewport of a sequence, once all look at its slice."""
        point = (LPS_TO_RAS[:3, :3] @ world).tolist()
        self.page.evaluate("point => slem.views.lookAt(point)", point)
        return tuple(
            self.page.evaluate(
                f"""([id, point]) => {{
                    const {{view, box}} = ({VIEW})(id), [x, y] = view.worldToCanvas(point);
                    return [x + box.x, y + box.y];
                }}""",
                [sequence, point],
            )
        )

    def click(self, sequence: str, world: np.ndarray) -> float:
        """Click at a point in a viewport; milliseconds until the segmentation had changed."""
        done = self.page.evaluate("() => slem.times.length")
        self.page.mouse.click(*self.place(sequence, world))
        self.page.wait_for_function("done => slem.times.length > done || slem.problem", arg=done)
        self.wait()
        assert self.problem == ""
        return self.page.evaluate("() => slem.times.at(-1).painted ?? 0")

    def paint(self, sequence: str, world: np.ndarray) -> None:
        """A stroke with the chosen tool, from a point on."""
        steps = self.page.evaluate("() => slem.steps.done.length")
        x, y = self.place(sequence, world)
        self.drag([(x + 3 * step, y) for step in range(4)])
        self.page.wait_for_function("steps => slem.steps.done.length > steps", arg=steps)

    def drag(self, path: list[tuple[float, float]]) -> None:
        """Draw a line with the left button, as fast as a hand: the viewer sees each place before the next."""
        self.press_along(path)
        self.page.mouse.up()

    def press_along(self, path: list[tuple[float, float]]) -> None:
        """The same, with the button still held at the end."""
        self.page.mouse.move(*path[0])
        self.page.evaluate(FRAMES)
        self.page.mouse.down()
        for place in path[1:]:
            self.page.mouse.move(*place)
            self.page.evaluate(FRAMES)

    def line(self, sequence: str, start: np.ndarray, end: np.ndarray) -> None:
        """Draw from one point to another, RAS mm, of one slice, and wait for what the server makes of it."""
        steps = self.page.evaluate("() => slem.steps.done.length")
        last, first = [np.array(self.place(sequence, point)) for point in (end, start)]
        self.drag([tuple(first + (last - first) * part / 4) for part in range(5)])
        self.page.wait_for_function("steps => slem.steps.done.length > steps || slem.problem", arg=steps)
        self.wait()

    @property
    def said(self) -> str:
        return self.page.evaluate("() => slem.said")

    @property
    def problem(self) -> str:
        return self.page.evaluate("() => slem.problem")

    def painted(self, sequence: str) -> int:
        """Coloured pixels on the canvas of a viewport; images are grey."""
        return self.page.evaluate(PAINTED, sequence)

    def screen(self) -> tuple[np.ndarray, Grid]:
        """Label values as they are on the screen, and where they lie."""
        raw = self.page.evaluate(SCREEN)
        shown = np.frombuffer(base64.b64decode(raw["voxels"]), np.uint8).reshape(raw["size"], order="F")
        values = np.zeros(raw["shape"], np.uint8, order="F")
        box = tuple(slice(first, first + n) for first, n in zip(raw["begin"], raw["size"], strict=True))
        values[box] = shown
        return values, Grid(tuple(raw["shape"]), np.vstack([raw["affine"], [0, 0, 0, 1]]))


@contextmanager
def label_mode(url: str) -> Iterator[LabelMode]:
    """The mode in a browser of its own."""
    with browser_page() as page:
        yield LabelMode(page, url)


def point(values: np.ndarray, affine: np.ndarray, value: int, seed: int) -> np.ndarray:
    """A voxel of a label, RAS mm."""
    index = np.argwhere(values == value)
    return affine[:3, :3] @ index[np.random.default_rng(seed).integers(len(index))] + affine[:3, 3]


def work_through(mode: LabelMode, study: str, folder: Path) -> tuple[np.ndarray, Grid]:
    """Segment, click in each of four viewports, undo, paint and click, submit, reload: what is stored and
    what is shown again is what was seen. Returns this label map and where it lies.
    """
    mode.open(study)
    assert [mode.painted(one) for one in SEQUENCES] == [0, 0, 0, 0]
    mode.press("Segment")
    assert mode.problem == ""
    automatic, grid = mode.screen()
    assert {1, 2, 3} <= set(np.unique(automatic))
    assert min(mode.painted(one) for one in SEQUENCES) > 100

    mode.choose("edema")
    outside = np.where(automatic == 0, 9, 0)
    head = np.linalg.norm(np.indices(grid.shape).T - np.array(grid.shape) / 2, axis=-1).T < 12
    for count, sequence in enumerate(SEQUENCES):
        before, _ = mode.screen()
        world = point(np.where(head & (before == 0), outside, 0), grid.affine, 9, count)
        mode.click(sequence, world)
        after, _ = mode.screen()
        assert after[tuple(np.round(grid.to_index(world)).astype(int))] == 2, sequence

    clicked, _ = mode.screen()
    mode.page.keyboard.press("Control+z")
    np.testing.assert_array_equal(mode.screen()[0], before)
    mode.page.keyboard.press("Control+y")
    np.testing.assert_array_equal(mode.screen()[0], clicked)

    mode.press("Brush")
    mode.choose("necrosis")
    mode.paint("t1c", point(np.where(head, clicked == 0, 0), grid.affine, 1, 7))
    painted, _ = mode.screen()
    stroke = painted != clicked
    assert stroke.any()
    assert set(painted[stroke]) == {1}
    mode.press("Click")
    mode.choose("edema")
    mode.click("t1n", point(np.where(head & (painted == 0), 9, 0), grid.affine, 9, 8))
    seen, _ = mode.screen()
    assert (seen[stroke] == 1).mean() > 0.5  # the stroke went along with the click

    mode.press("Submit")
    assert mode.problem == ""
    assert mode.said == "Submitted as version 1."
    kept = {"image": study, "tag": "final", "version": 1}
    answer = requests.get(f"{mode.url}/slem/labels/file", params=kept, timeout=60)
    path = folder / "label.nii.gz"
    path.write_bytes(answer.content)
    stored, stored_grid, _ = read_label_file(path)
    np.testing.assert_array_equal(stored, seen)
    assert stored_grid.same_as(grid)

    mode.open(study)
    np.testing.assert_array_equal(mode.screen()[0], seen)
    assert min(mode.painted(one) for one in SEQUENCES) > 100
    return seen, grid
