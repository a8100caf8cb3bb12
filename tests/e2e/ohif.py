"""The OHIF viewer of MONAI Label's wheel in a headless Chromium, driven with the mouse, and what it shows
read back.
"""

import base64
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from slem_app.types import Grid

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
TOOLS = (
    ("chromium: apt-get install chromium", CHROMIUM),
    ("playwright: pip install -e '.[test]'", importlib.util.find_spec("playwright")),
)
MISSING = next((text for text, there in TOOLS if not there), "")
NEEDED = pytest.mark.skipif(bool(MISSING), reason=f"no {MISSING}")
FLAGS = (
    *(
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ),
    *("--disable-sync", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)
PATIENCE = 1000 * int(os.environ.get("SLEM_PATIENCE", "120"))  # ms until a page must have reacted
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

VIEWPORT = """() => {
    const {viewportGridService, cornerstoneViewportService, displaySetService} = window.services;
    const id = viewportGridService.getActiveViewportId();
    const viewport = cornerstoneViewportService.getCornerstoneViewport(id);
    const [uid] = viewportGridService.getState().viewports.get(id).displaySetInstanceUIDs;
    return {viewport, set: displaySetService.getDisplaySetByUID(uid)};
}"""
READY = """() => {
    const engine = window.services?.cornerstoneViewportService?.getRenderingEngine();
    return engine?.getViewports()?.[0]?.getImageData?.();
}"""
BOX = f"""() => {{
    const box = ({VIEWPORT})().viewport.element.getBoundingClientRect();
    return [box.x, box.y, box.width, box.height];
}}"""
SHOWN = """() => {
    const {segmentationService} = window.services, volume = segmentationService.getLabelmapVolume('1');
    const voxels = Uint8Array.from(volume.voxelManager.getCompleteScalarDataArray());
    let text = '';
    for (let k = 0; k < voxels.length; k += 8192)
        text += String.fromCharCode(...voxels.subarray(k, k + 8192));
    const segments = Object.values(segmentationService.getSegmentation('1').segments).filter(Boolean);
    const names = segments.map(one => [one.segmentIndex, one.label]);
    return {voxels: btoa(text), names, size: [...volume.dimensions], spacing: [...volume.spacing],
            direction: [...volume.direction], origin: [...volume.origin]};
}"""

FORGET = """() => {
    const {cache} = window.cornerstone, {state} = window.cornerstoneTools.segmentation;
    const [one] = window.services.segmentationService.getSegmentations();
    const ids = state.getSegmentation(one.segmentationId).representationData.Labelmap.imageIds;
    const slice = cache.getImage(ids.at(-1)).referencedImageId;
    if (cache.getImage(slice)) cache.removeImageLoadObject(slice);
}"""


@dataclass(frozen=True)
class Shown:
    """The segmentation as the viewer holds it."""

    names: np.ndarray
    """(I, J, K) label names; '' is background."""
    grid: Grid
    """Where it lies."""


class Viewer:
    """A page with the mode *MONAI Label* open on one study."""

    def __init__(self, page, url: str) -> None:
        self.page, self.url = page, url

    def open(self, study: str) -> None:
        """Load a study and wait until its first image is on the screen."""
        self.page.goto(f"{self.url}/ohif/monai-label?StudyInstanceUIDs={study}", wait_until="commit")
        self.page.wait_for_selector("#monailabelServerURL")
        self.page.wait_for_function(READY)

    def open_from_list(self, patient: str) -> None:
        """Find a patient's study in the viewer's list, open it in the mode *MONAI Label*, and wait until its
        first image is on the screen.
        """
        self.page.goto(f"{self.url}/ohif/", wait_until="commit")
        self.page.locator('[data-cy="studyRow"], tr').filter(has_text=patient).first.click()
        self.page.get_by_role("button", name="MONAI Label", exact=True).first.click()
        self.page.wait_for_selector("#monailabelServerURL")
        self.page.wait_for_function(READY)

    def show(self, description: str) -> None:
        """Bring a series into the viewport: a double click on its picture."""
        self.page.locator('[data-cy^="study-browser-thumbnail"]').filter(
            has_text=description
        ).first.dblclick()
        self.page.wait_for_function(
            (
                f"wanted => ({VIEWPORT})().set.SeriesDescription === wanted && "
                f"({VIEWPORT})().viewport.getImageData?.()"
            ),
            arg=description,
        )

    def save(self) -> str:
        """Press the bar's button; what it says then."""
        self.page.click("#slem-save button")
        self.page.wait_for_function(
            "() => /aved/.test(document.querySelector('#slem-save span').textContent)"
        )
        return self.page.inner_text("#slem-save span")

    def sequences(self) -> str:
        """What the bar says about the sequences that the segmentation was made from; '' if it does not show
        anything.
        """
        return (
            self.page.locator("#slem-save output").inner_text()
            if self.page.locator("#slem-save output").is_visible()
            else ""
        )

    def edit(self, study: str, segmentation: str, label: str, name: str) -> None:
        """In the mode *Segmentation*: load a stored segmentation, paint a stroke of one label with the mouse,
        and export it under a name.
        """
        page = self.page
        page.goto(f"{self.url}/ohif/segmentation?StudyInstanceUIDs={study}", wait_until="commit")
        page.wait_for_function(READY)
        page.get_by_text("Confirm and Hide").click()
        page.locator('[data-cy^="study-browser-thumbnail"]').filter(has_text=segmentation).first.dblclick()
        page.get_by_text("Yes", exact=True).click()
        page.wait_for_function("() => window.services.segmentationService.getSegmentations().length")
        page.get_by_text(label, exact=True).click()
        tools = page.get_by_text("Segmentation Tools", exact=True).bounding_box()
        # the brush, the first of the icons below
        page.mouse.click(tools["x"] + 11, tools["y"] + tools["height"] / 2 + 43)
        page.get_by_text("Radius (mm)").wait_for()
        box = page.evaluate(BOX)
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        page.mouse.move(x, y)
        for _ in range(11):  # the first slices are empty
            page.mouse.wheel(0, 100)
            page.wait_for_timeout(150)
        page.mouse.down()
        for step in range(6):
            page.mouse.move(x + 4 * step, y)
            page.wait_for_timeout(50)
        page.mouse.up()
        # as on a slow line: the viewer by itself exports nothing then, and does not say so
        page.evaluate(FORGET)
        title = page.get_by_text(segmentation).last.bounding_box()
        page.mouse.click(title["x"] - 25, title["y"] + title["height"] / 2)  # the three dots before it
        page.get_by_role("menuitem", name="Export & Download").click()
        page.get_by_role("menuitem", name="Export DICOM SEG").click()
        page.get_by_text("Enter the report name").wait_for()
        page.locator("input[type=text]").first.fill(name)
        with page.expect_response(lambda answer: answer.request.method == "POST") as got:
            page.get_by_role("button", name="Save", exact=True).last.click()
        assert got.value.ok, got.value.text()

    def connect(self) -> None:
        """Press the button beside the server's address."""
        self.page.click(".settingsTable button.actionButton")
        self.page.wait_for_function(
            "() => { try { return window.services.segmentationService.getLabelmapVolume('1') } catch { "
            "return false } }"
        )

    def tab(self, name: str) -> None:
        self.page.click(f"label.tab-label:text-is('{name}')")

    def run(self, what: str) -> None:
        """Press the arrow of the open tab and wait until the viewer has taken the reply over."""
        with self.page.expect_console_message(lambda message: "updated the segmentation" in message.text):
            self.page.click(f"button[title='Run {what}']:visible")

    def choose(self, label: str) -> None:
        """Choose whose points the next clicks are."""
        self.page.click(f".clickable-row:visible td:text-is('{label}')")

    def set_options(self, section: str, name: str, **values: object) -> None:
        """Fill in fields of the dialog 'Options / Configurations'."""
        self.page.click("text='Options / Configurations'")
        self.page.select_option("select[name='selectSection']", section)
        self.page.select_option("select[name='selectName']", name)
        for key, value in values.items():
            self.page.fill(f"#{section}{name}{key}", str(value))
        self.page.click("button:has-text('Confirm')")
        self.page.wait_for_selector("select[name='selectSection']", state="detached")

    def press(self, button: str) -> None:
        """Press a button of the open tab by its text."""
        self.page.click(f"button.actionInput:visible:text-is('{button}')")

    @property
    def series(self) -> str:
        """SeriesInstanceUID of the active viewport."""
        return self.page.evaluate(f"() => ({VIEWPORT})().set.SeriesInstanceUID")

    def descriptions(self) -> list[str]:
        """The series that the viewer has found."""
        return self.page.evaluate(
            "() => window.services.displaySetService.getActiveDisplaySets().map(set => set.SeriesDescription)"
        )

    def click(self, world: np.ndarray, within: float = 0.1) -> np.ndarray:
        """Scroll to the slice of a point (RAS mm) and click on it with the mouse; the point that was really
        clicked on.

        `within`: how far off that slice may be, mm; slices that the viewer computes lie between those of the
        series.
        """
        point = (LPS_TO_RAS[:3, :3] @ world).tolist()
        self._scroll(point, within)
        x, y = self.page.evaluate(
            f"""point => {{
                const {{viewport}} = ({VIEWPORT})(), box = viewport.element.getBoundingClientRect();
                const [x, y] = viewport.worldToCanvas(point);
                return [x + box.x, y + box.y];
            }}""",
            point,
        )
        self.page.mouse.move(x, y)
        self.page.mouse.click(x, y, delay=60)
        clicked = self.page.evaluate(
            f"""([x, y]) => {{
                const {{viewport}} = ({VIEWPORT})(), box = viewport.element.getBoundingClientRect();
                return [...viewport.canvasToWorld([x - box.x, y - box.y])];
            }}""",
            [x, y],
        )
        # the viewer waits for a second click before it takes the first one for a point, and only then draws
        # it
        self.page.wait_for_function(
            f"""([x, y]) => {{
                const {{viewport}} = ({VIEWPORT})(), box = viewport.element.getBoundingClientRect();
                const away = one =>
                    Math.hypot(one.cx.baseVal.value + box.x - x, one.cy.baseVal.value + box.y - y);
                return [...viewport.element.querySelectorAll('svg circle')].some(one => away(one) < 2);
            }}""",
            arg=[x, y],
        )
        return LPS_TO_RAS[:3, :3] @ np.array(clicked)

    def _scroll(self, point: list[float], within: float) -> None:
        """Turn the mouse's wheel until the slice nearest to the point is shown."""
        box = self.page.evaluate(BOX)
        self.page.mouse.move(box[0] + box[2] / 2, box[1] + box[3] / 2)
        turn, away = 100, self._away(point)
        for _ in range(400):
            if abs(away) < within:
                self.page.wait_for_timeout(300)  # a turn that is still on its way
                if abs(self._away(point)) < within:
                    return
            self.page.mouse.wheel(0, turn)
            self.page.wait_for_timeout(80)
            now = self._away(point)
            turn, away = -turn if abs(now) > abs(away) else turn, now
        pytest.fail(f"the viewer does not scroll to {point}: {away} mm away")

    def _away(self, point: list[float]) -> float:
        """Millimetres from the shown slice to a point (LPS mm)."""
        return self.page.evaluate(
            f"""point => {{
                const camera = ({VIEWPORT})().viewport.getCamera(), normal = camera.viewPlaneNormal;
                return normal.reduce((sum, part, k) => sum + part * (point[k] - camera.focalPoint[k]), 0);
            }}""",
            point,
        )

    def shown(self) -> Shown:
        """The segmentation, read from the viewer's memory."""
        raw = self.page.evaluate(SHOWN)
        values = np.frombuffer(base64.b64decode(raw["voxels"]), np.uint8).reshape(raw["size"], order="F")
        table = np.full(256, "", dtype="<U32")
        for index, name in raw["names"]:
            table[index] = "" if name == "background" else name
        lps = np.eye(4)
        # vtk lists axis by axis
        lps[:3, :3] = np.array(raw["direction"]).reshape(3, 3).T * np.array(raw["spacing"])
        lps[:3, 3] = raw["origin"]
        return Shown(table[values], Grid(tuple(raw["size"]), LPS_TO_RAS @ lps))


@contextmanager
def browser_page() -> Iterator[Any]:
    """A page in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=list(FLAGS), timeout=PATIENCE
        )
        try:
            context = browser.new_context(viewport={"width": 1400, "height": 820}, service_workers="block")
            context.set_default_timeout(PATIENCE)
            # nothing of the test leaves the machine
            context.route("**/fonts.googleapis.com/**", lambda route: route.abort())
            yield context.new_page()
        finally:
            browser.close()


@contextmanager
def viewer(url: str) -> Iterator[Viewer]:
    """A viewer in a browser of its own."""
    with browser_page() as page:
        yield Viewer(page, url)
