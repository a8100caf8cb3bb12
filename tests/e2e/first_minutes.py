"""The first five minutes in OHIF or 3D Slicer as ten pictures, and the time from a click to changed pixels.

    python -m tests.e2e.first_minutes OUT [--clicks 10] [--viewer .viewer] [--slicer]

A server of its own serves two phantoms in DICOM. Chromium is driven with the mouse, Slicer's module through
its own widgets (`slicer/windows.py`). OUT gets the pictures, all as one (`first_minutes.png`) and OHIF's
times (`times.md`). Fails where the browser's console has an error.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import requests
from scipy import ndimage

from slem_app import phantom
from slem_app.types import Grid
from tests.e2e.conftest import PROJECT, Server, server_command
from tests.e2e.film import film_strip
from tests.e2e.ohif_mode import LabelMode, label_mode

CASES = ("demo-1", "demo-2")
HEAD = {"shape": (80, 96, 72), "spacing": (2.0, 2.0, 2.0)}
IN_SLICER = {
    "worklist": "Connect: the worklist",
    "opened": "A case: all sequences, segmented at once",
    "clicked": "A click: edema is here, too",
    "more": "More: the answer reaches farther",
    "scribbled-away": "Scribble: nothing is here",
    "lassoed": "Lasso: all of this is necrosis",
    "box": "Box: labels only inside it",
    "check-here": "Check here: where the model is unsure",
    "sagittal": "Plane: the four views in another one",
    "submitted": "Submit: what is on the screen is stored",
}
STEPS = ("sent", "answered", "server", "network", "unpacked", "first", "painted")


@contextmanager
def server(viewer: Path | None) -> Iterator[str]:
    """The address of a server on the phantoms with an empty store."""
    with tempfile.TemporaryDirectory() as place:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        studies, log = Path(place) / "studies", Path(place) / "log.txt"
        for seed, name in enumerate(CASES, 1):
            phantom.write_dicom(phantom.make(seed=seed, **HEAD), studies, name)
        conf = {"store": f"{place}/store", "score_load": "0"} | (
            {"ohif": str(viewer.resolve())} if viewer else {}
        )
        options = [word for pair in conf.items() for word in ("--conf", *pair)]
        with (
            log.open("w") as stream,
            subprocess.Popen(
                server_command(studies, port, *options),
                cwd=PROJECT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(PROJECT)},
            ) as process,
        ):
            running = Server(process, f"http://127.0.0.1:{port}", log)
            try:
                running.wait()
                yield running.url
            finally:
                running.stop()


class Film:
    """Takes the pictures of a page."""

    def __init__(self, mode: LabelMode, out: Path) -> None:
        self.mode, self.out = mode, out
        self.frames: list[tuple[Path, str]] = []

    def take(self, caption: str) -> None:
        """Keep what is on the screen."""
        path = self.out / f"{len(self.frames) + 1:02}.png"
        self.mode.page.wait_for_timeout(400)  # until the last frame is painted
        self.mode.page.screenshot(path=path)
        self.frames.append((path, caption))


def beside(values: np.ndarray, grid: Grid, away: float, turn: float = 0.0) -> np.ndarray:
    """A place, RAS mm, so many millimetres outside of the labels, in the slice with most of them.

    Args:
        values: (I, J, K) label values.
        grid: of them.
        away: millimetres.
        turn: radians; which way to go from the middle of the labels.
    """
    labels = ndimage.binary_fill_holes(values > 0)
    slice_ = int(labels.sum(axis=(0, 1)).argmax())
    outside = ndimage.distance_transform_edt(~labels[:, :, slice_], sampling=grid.spacing[:2])
    at = np.argwhere(np.abs(outside - away) < grid.spacing[:2].max())
    middle = np.argwhere(labels[:, :, slice_]).mean(axis=0)
    home = np.array(values.shape[:2]) / 2 - middle  # towards the middle of the head
    angle = np.arctan2(home[1], home[0]) + turn
    ahead = (at - middle) @ np.array([np.cos(angle), np.sin(angle)])
    across = np.abs((at - middle) @ np.array([-np.sin(angle), np.cos(angle)]))
    i, j = at[np.argmax(ahead - 3 * across)]
    return grid.to_world(np.array([i, j, slice_]))


def film(mode: LabelMode, out: Path) -> list[tuple[Path, str]]:
    """From the worklist to the submitted label."""
    shots, page = Film(mode, out), mode.page
    page.goto(mode.url)
    page.wait_for_function("() => [...document.images].every(one => one.complete && one.naturalWidth)")
    shots.take("The worklist, at the server's address")
    mode.open(
        requests.get(f"{mode.url}/slem/viewer/case", params={"study": CASES[0]}, timeout=60).json()["study"]
    )
    shots.take("A case: all sequences, linked")
    mode.press("Segment")
    automatic, grid = mode.screen()
    shots.take("Segment: labels with volumes, in every sequence")
    places = page.locator(".places button")
    if places.count():
        places.first.click()
        shots.take("Check here: where the model is unsure")
    mode.choose("edema")
    mode.click("t2f", beside(automatic, grid, 6))
    shots.take("A click: edema is here, too")
    mode.press("More")
    shots.take("More: the answer reaches farther (Less takes it back)")
    mode.press("Less")
    mode.press("Undo")
    mode.press("Scribble")
    middle = grid.to_index(beside(automatic, grid, 16, 0.4))
    turns = np.linspace(0, 2 * np.pi * 0.98, 24)
    ring = [middle + 9 / grid.spacing * [np.cos(turn), np.sin(turn), 0] for turn in turns]
    path = [mode.place("t1c", grid.to_world(spot)) for spot in ring]
    steps = page.evaluate("() => slem.steps.done.length")
    mode.press_along(path)
    page.screenshot(path=out / "drawn.png")
    page.mouse.up()
    page.wait_for_function("steps => slem.steps.done.length > steps || slem.problem", arg=steps)
    mode.wait()
    shots.take("A scribble around something means what it encloses")
    mode.press("Brush")
    mode.choose("enhancing tumor")
    mode.paint("t1c", beside(automatic, grid, 5, 2.4))
    shots.take("Brush: goes along with the next click")
    page.get_by_text("Sequences", exact=True).click()
    page.get_by_label("T2", exact=True).select_option(label="AX T2 FLAIR")
    page.get_by_role("button", name="Use these series").scroll_into_view_if_needed()
    shots.take("Sequences: which series is which, and the choice by hand")
    page.get_by_text("Sequences", exact=True).click()
    mode.press("Submit")
    assert mode.problem == "", mode.problem
    shots.take("Submit: what is on the screen is stored")
    return shots.frames


def slicer_film(url: str, out: Path) -> list[tuple[Path, str]]:
    """The same in the module for 3D Slicer."""
    words = ["--server", url, "--out", out, "--user", "reader", "--password", "none", "--case", CASES[0]]
    command = [PROJECT / ".venv-slicer/bin/python", PROJECT / "tests/e2e/slicer/windows.py", *words]
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    environment.pop("PYTHONPATH", None)  # Slicer's Python has packages of its own
    subprocess.run([str(word) for word in command], check=True, env=environment)
    found = {path.stem[3:]: path for path in sorted(out.glob("*-*.png"))}
    return [(found[name], caption) for name, caption in IN_SLICER.items() if name in found]


def clicks(mode: LabelMode, count: int) -> Iterator[dict[str, float]]:
    """Milliseconds since the mouse button was released, by step, of so many clicks beside the labels."""
    mode.press("Segment")
    mode.press("Click")
    mode.choose("edema")
    values, grid = mode.screen()
    for number in range(count):
        mode.click("t2f", beside(values, grid, 5, 2 * np.pi * number / count))
        network = 1000 * mode.page.evaluate("() => slem.facts.latencies.network")
        yield mode.page.evaluate("() => slem.times.at(-1)") | {"network": network}


def table(rows: list[dict[str, float]]) -> str:
    """Times as a table in Markdown."""
    lines = [f"{len(rows)} clicks, load average {os.getloadavg()[0]:.1f}", ""]
    lines += ["| step | median, ms | most, ms |", "|---|---|---|"]
    for step in STEPS:
        values = [row[step] for row in rows if step in row]
        lines.append(f"| {step} | {statistics.median(values):.0f} | {max(values):.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Take the pictures and note the times."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("out", type=Path)
    options.add_argument("--clicks", type=int, default=0)
    options.add_argument(
        "--viewer",
        type=Path,
        help="folder of a built @ohif/app; default: MONAI Label's",
    )
    options.add_argument("--slicer", action="store_true", help="3D Slicer's module instead of OHIF")
    given = options.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server ends, too
    if given.slicer:
        with server(None) as url:
            film_strip(slicer_film(url, given.out), given.out / "first_minutes.png")
        return
    with server(given.viewer) as url, label_mode(url) as mode:
        film_strip(film(mode, given.out), given.out / "first_minutes.png")
        rows: list[dict[str, float]] = []
        for row in clicks(mode, given.clicks):
            rows.append(row)
            given.out.joinpath("times.md").write_text(table(rows), encoding="utf-8")
        assert mode.errors == [], mode.errors


if __name__ == "__main__":
    main()
