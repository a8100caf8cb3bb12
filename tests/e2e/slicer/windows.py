"""A reader's session through the module's own widgets, on real Qt off screen: buttons are pressed, the mouse
goes over a slice view, and each step is a picture of views and panel.

QT_QPA_PLATFORM=offscreen .venv-slicer/bin/python tests/e2e/slicer/windows.py --server URL --out FOLDER
    --user NAME --password WORDS --case CASE

Writes seen.json and 01.png, 02.png, ...
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pythonqt
import slicer
from offscreen import OffscreenView
from own import PATIENCE, start
from PIL import Image, ImageDraw
from PySide6 import QtCore, QtGui, QtWidgets

ROOT = Path(__file__).parents[3] / "clients/slicer/SLeMLabel"
SIDE = 330  # pixels of a view


class Window:
    """Slicer's window: four views and the module's panel."""

    def __init__(self, out: Path) -> None:
        self.out, self.frames = out, 0
        self.bare = start()
        self.application = pythonqt.install()
        self.main = QtWidgets.QMainWindow()
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        slicer.mrmlScene.AddNode(crosshair)
        sys.path.insert(0, str(ROOT))
        self.views = [
            OffscreenView(view, logic, self.bare.application, SIDE)
            for view, logic in zip(self._nodes(), self.bare.slice_logics)
        ]
        self._stand_in()
        self.widget = importlib.import_module("SLeMLabel").SLeMLabelWidget()
        self.widget.setup()
        self.widget.enter()
        self.panel = self.widget.panel

    def wait(self, until: Any = None) -> None:
        """Let Qt run until nothing is on its way."""
        end = time.monotonic() + PATIENCE
        worker = self.panel.controller.worker
        while time.monotonic() < end:
            self.application.processEvents()
            time.sleep(0.02)
            if not worker.busy and not worker.waiting and (until is None or until()):
                return
        raise TimeoutError(self.panel.status.text)

    def press(self, text: str) -> None:
        """Press a button of the panel and wait for what comes of it."""
        buttons = self.widget.parent.findChildren(QtWidgets.QPushButton)
        next(one for one in buttons if QtWidgets.QPushButton.text(one) == text).click()
        self.wait()

    def drag(self, view: int, *pixels: tuple[int, int]) -> None:
        """The mouse in a view, its left button down from the first to the last pixel."""
        interactor = self.views[view].interactor
        for number, (x, y) in enumerate(pixels):
            interactor.SetEventPosition(x, y)
            interactor.InvokeEvent("MouseMoveEvent" if number else "LeftButtonPressEvent")
        interactor.InvokeEvent("LeftButtonReleaseEvent")
        self.wait()

    def pixel(self, view: int, point: Any) -> tuple[int, int]:
        """Where a place (RAS mm) is seen."""
        from_ras = slicer.vtkMRMLSliceNode.GetXYToRAS(self.views[view].node)
        inverse = type(from_ras)()
        inverse.DeepCopy(from_ras)
        inverse.Invert()
        x, y, _, _ = inverse.MultiplyPoint((*point, 1.0))
        return round(x), round(y)

    def picture(self, caption: str) -> None:
        """Keep what is seen: the four views and the panel."""
        parent = self.widget.parent  # no window manager is there to make room for all of it
        parent.resize(parent.width(), max(parent.height(), parent.minimumSizeHint().height()))
        self.application.processEvents()
        tiles = [_labelled(view.pixels(), view.node.GetLayoutLabel()) for view in self.views]
        left = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
        grabbed = parent.grab().toImage().convertToFormat(QtGui.QImage.Format.Format_RGB888)
        rows = np.frombuffer(grabbed.constBits(), np.uint8).reshape(grabbed.height(), -1)
        right = rows[:, : 3 * grabbed.width()].reshape(grabbed.height(), grabbed.width(), 3)
        views = np.asarray(Image.fromarray(left).resize((len(right), len(right))))
        self.frames += 1
        Image.fromarray(np.hstack([right, views])).save(self.out / f"{self.frames:02}-{caption}.png")

    def _nodes(self) -> list[Any]:
        return importlib.import_module("SLeMLabelLib.views").slices()

    def _stand_in(self) -> None:
        """What is Slicer's and no part of `slicer-core`: the layout manager, windows, bases of modules."""
        by_name = {view.node.GetLayoutName(): view for view in self.views}

        def slice_widget(name: str) -> Any:
            view = by_name[name]
            style = types.SimpleNamespace(GetInteractor=lambda: view.interactor)
            seen = types.SimpleNamespace(interactorStyle=lambda: style)
            return types.SimpleNamespace(
                sliceView=lambda: seen, mrmlSliceNode=lambda: view.node, sliceLogic=lambda: view.logic
            )

        manager = types.SimpleNamespace(layoutLogic=lambda: self.bare.layout, sliceWidget=slice_widget)
        slicer.app = types.SimpleNamespace(layoutManager=lambda: manager)
        slicer.qMRMLSegmentEditorWidget = pythonqt.SegmentEditor
        slicer.util.mainWindow = lambda: self.main
        slicer.util.confirmYesNoDisplay = lambda text: True
        scripted = types.ModuleType("slicer.ScriptedLoadableModule")
        scripted.ScriptedLoadableModule = type("ScriptedLoadableModule", (), {})
        scripted.ScriptedLoadableModuleWidget = type("ScriptedLoadableModuleWidget", (), {"setup": _setup})
        sys.modules["slicer.ScriptedLoadableModule"] = scripted


def _labelled(pixels: np.ndarray, text: str) -> np.ndarray:
    """A view with its name, which Slicer shows in the bar above it."""
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text((8, 6), text, fill=(255, 255, 255))
    return np.asarray(image)


def _setup(widget: Any) -> None:
    widget.parent = QtWidgets.QWidget()
    widget.parent.setFixedWidth(440)
    widget.layout = QtWidgets.QVBoxLayout(widget.parent)
    widget.parent.show()


def log_in(application: Any, name: str, password: str) -> None:
    """Fill in the dialog once it is there."""
    dialog = application.activeModalWidget()
    if dialog is None:
        QtCore.QTimer.singleShot(100, lambda: log_in(application, name, password))
        return
    fields = dialog.findChildren(QtWidgets.QLineEdit)
    fields[0].setText(name)
    fields[1].setText(password)
    dialog.accept()


def work(window: Window, given: argparse.Namespace) -> dict[str, Any]:
    """From the empty panel to the submitted label."""
    panel, seen = window.panel, {}
    panel.address.setText(given.server)
    log_in(window.application, given.user, given.password)
    window.press("Connect")
    seen["rows"] = panel.cases.rowCount()
    window.picture("worklist")
    names = [panel.cases.item(row, 0).text() for row in range(panel.cases.rowCount())]
    panel.cases.selectRow(names.index(given.case))
    window.press("Open")
    window.picture("opened")
    rows = range(panel.labels.rowCount())
    seen["labels"] = [panel.labels.item(row, 1).text() for row in rows]
    seen["ml"] = [panel.labels.item(row, 0).text() for row in rows]
    window.press("Start over")
    window.picture("segmented")
    seen["places"] = panel.list.count()
    seen["automatic"] = panel.submit.text
    scene = panel.controller.scene
    centre = scene.largest_slice(scene.read())
    x, y = window.pixel(1, centre)
    panel.labels.selectRow(1)
    window.press("Click")
    window.drag(1, (x - 70, y + 20))
    seen["clicked"], seen["edema"] = panel.submit.text, panel.labels.item(1, 0).text()
    window.picture("clicked")
    window.press("More")
    seen["more"] = panel.labels.item(1, 0).text()
    window.picture("more")
    window.press("Less")
    seen["less"] = panel.labels.item(1, 0).text()
    window.press("Click")  # off again
    panel.labels.selectRow(3)
    window.press("Scribble")
    window.drag(0, (x - 40, y - 25), (x - 20, y - 30), (x, y - 35), (x + 20, y - 30))
    window.picture("scribbled-away")
    panel.labels.selectRow(0)
    window.press("Lasso")
    window.drag(2, (x - 12, y - 5), (x + 15, y - 8), (x + 18, y + 15), (x - 10, y + 18))
    window.picture("lassoed")
    window.press("Lasso")
    window.press("Undo")
    seen["undone"] = panel.labels.item(0, 0).text()
    window.picture("undone")
    window.press("Box")
    window.picture("box")
    window.press("Box")
    if panel.list.count():
        panel.list.setCurrentRow(0)
        window.wait()
        window.picture("check-here")
    panel.plane.setCurrentText("Sagittal")
    window.wait()
    window.picture("sagittal")
    panel.plane.setCurrentText("As acquired")
    window.press(panel.submit.text)
    seen["submitted"] = QtWidgets.QLabel.text(panel.status)
    window.picture("submitted")
    seen["editor"] = sorted(panel.editor.given)
    return seen


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("server", "user", "password", "case"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--out", type=Path, required=True)
    given = options.parse_args()
    window = Window(given.out)
    seen = work(window, given)
    window.widget.exit()
    window.widget.cleanup()
    given.out.joinpath("seen.json").write_text(json.dumps(seen, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
