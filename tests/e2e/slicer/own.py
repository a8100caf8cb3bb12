"""Readers' sessions with the project's own module, SLeM Label, on Slicer's C++ and without its windows: the
module's controller does what the buttons do, a panel writes down what it is told to show.

.venv-slicer/bin/python tests/e2e/slicer/own.py --server URL --out FOLDER --user NAME --password WORDS

Writes seen.json, and shown.npz with label maps (K, J, I). Imports nothing of this project but the module.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

PROJECT = Path(__file__).parents[3]
sys.path.insert(0, str(PROJECT / "clients/slicer/SLeMLabel"))

from SLeMLabelLib import views  # noqa: E402
from SLeMLabelLib.controller import Controller  # noqa: E402
from SLeMLabelLib.drawing import LASSO, SCRIBBLE, ViewMouse  # noqa: E402

PATIENCE = 300.0  # seconds for one answer


class RecordingPanel:
    """Writes down what the windows would show."""

    def __init__(self, log_ins: list[tuple[str, str]]) -> None:
        self.log_ins, self.asked = log_ins, []
        self.said: list[tuple[str, str]] = []
        self.server: Mapping[str, Any] = {}
        self.page: Mapping[str, Any] = {}
        self.facts: Mapping[str, Any] = {}
        self.volumes: Mapping[str, float] = {}
        self.case, self.holder, self.user, self.learning = None, "", "", ""
        self.confirms, self.leaves = False, True

    @property
    def status(self) -> str:
        return next((text for text, _ in reversed(self.said) if text), "")

    def show_status(self, text: str, kind: str) -> None:
        self.said.append((text, kind))

    def show_server(self, info: Mapping[str, Any], user: str) -> None:
        self.server, self.user = info, user

    def show_worklist(self, page: Mapping[str, Any]) -> None:
        self.page = page

    def show_case(self, case: Any, holder: str) -> None:
        self.case, self.holder = case, holder

    def show_result(self, facts: Mapping[str, Any]) -> None:
        self.facts = facts

    def show_volumes(self, volumes: Mapping[str, float], confirms: bool) -> None:
        self.volumes, self.confirms = volumes, confirms

    def show_learning(self, text: str, runs: bool) -> None:
        self.learning = text

    def ask_log_in(self, why: str) -> tuple[str, str] | None:
        self.asked.append(why)
        return self.log_ins.pop(0) if self.log_ins else None

    def ask_leave(self, case: str) -> bool:
        return self.leaves


class Reader:
    """One reader in front of Slicer."""

    def __init__(self, log_ins: list[tuple[str, str]]) -> None:
        self.panel = RecordingPanel(log_ins)
        self.controller = Controller(self.panel)

    def wait(self) -> None:
        """Until nothing is on its way, as the timer of the windows does."""
        end = time.monotonic() + PATIENCE
        self.controller.poll()
        while (self.controller.worker.busy or self.controller.worker.waiting) and time.monotonic() < end:
            time.sleep(0.02)
            self.controller.poll()

    def does(self, what: str, *words: Any) -> np.ndarray | None:
        """Press a button and wait; what is shown then."""
        getattr(self.controller, what)(*words)
        self.wait()
        return self.shown()

    def shown(self) -> np.ndarray | None:
        return None if self.controller.scene is None else self.controller.scene.read()

    def clicks(self, label: str, voxel: tuple[int, int, int]) -> np.ndarray:
        self.controller.label = label
        return self.does("draw", "click", np.array([self.controller.scene.world(voxel)]))

    def paints(self, value: int, voxels: tuple[slice, slice, slice]) -> np.ndarray:
        """What the Segment Editor's brush does: merge a small label map into a segment; slices of K, J, I."""
        scene = self.controller.scene
        brush = np.zeros(scene.shape, np.uint8)
        brush[voxels] = 1
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(*scene.size)
        image.GetPointData().SetScalars(numpy_to_vtk(brush.ravel(), deep=True))
        place = vtk.vtkMatrix4x4()
        scene.reference.GetIJKToRASMatrix(place)
        image.SetImageToWorldMatrix(place)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetBinaryLabelmapToSegment(
            image, scene.segmentation, f"slem_{value}", logic.MODE_MERGE_MAX, image.GetExtent()
        )
        return scene.read()

    def drags(self, tool: str, label: str, path: list[tuple[float, float]]) -> np.ndarray:
        """The mouse in the first view, from pressing its left button to letting go; pixels."""
        self.controller.label = label
        interactor = vtk.vtkGenericRenderWindowInteractor()
        mouse = ViewMouse(views.slices()[0], interactor, self.controller.draw)
        mouse.tool = tool
        for number, (x, y) in enumerate(path):
            interactor.SetEventPosition(int(x), int(y))
            interactor.InvokeEvent("MouseMoveEvent" if number else "LeftButtonPressEvent")
        interactor.InvokeEvent("LeftButtonReleaseEvent")
        mouse.remove()
        self.wait()
        return self.shown()


@dataclass
class Bare:
    """Slicer without windows."""

    application: Any
    layout: Any
    slice_logics: list[Any]
    kept: list[Any]
    """C++ holds some of them weakly."""


def start() -> Bare:
    """Slicer's scene and logics, and the module's four views."""
    scene = slicer.vtkMRMLScene()
    application, colors = slicer.vtkSlicerApplicationLogic(), slicer.vtkMRMLColorLogic()
    application.SetMRMLScene(scene)
    colors.SetMRMLScene(scene)
    application.SetModuleLogic("Colors", colors)
    application.GetColorLogic().SetMRMLScene(scene)
    application.GetColorLogic().AddDefaultColorNodes()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    logics = {
        "segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
        "volumes": slicer.vtkSlicerVolumesLogic(),
        "markups": slicer.vtkSlicerMarkupsLogic(),
    }
    for logic in logics.values():
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
    application.SetModuleLogic("Markups", logics["markups"])  # the marks' displayable manager asks for it
    slicer.mrmlScene = scene
    slicer.modules = types.SimpleNamespace(
        **{name: types.SimpleNamespace(logic=lambda one=one: one) for name, one in logics.items()}
    )
    layout = slicer.vtkMRMLLayoutLogic()
    layout.SetMRMLScene(scene)
    views.arrange(layout.GetLayoutNode())
    slice_logics = []
    for view in views.slices():
        view.SetDimensions(200, 200, 1)
        view.SetFieldOfView(160.0, 160.0, 1.0)
        slice_logics.append(slicer.vtkMRMLSliceLogic())
        slice_logics[-1].SetMRMLScene(scene)
        slice_logics[-1].SetSliceNode(view)
    return Bare(application, layout, slice_logics, [scene, colors, *logics.values()])


def affine(node: Any) -> list[list[float]]:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return [[matrix.GetElement(row, column) for column in range(4)] for row in range(4)]


def look(reader: Reader) -> dict[str, Any]:
    """The case as it lies in the scene and in the views."""
    scene = reader.controller.scene
    segmentation = scene.segmentation.GetSegmentation()
    segments = [segmentation.GetNthSegment(number) for number in range(segmentation.GetNumberOfSegments())]
    names = {node.GetID(): sequence for sequence, node in scene.volumes.items()}
    shown = [views.composite(view) for view in views.slices()]
    return {
        "volumes": {
            name: {"affine": affine(node), "shape": node.GetImageData().GetDimensions()}
            for name, node in scene.volumes.items()
        },
        "segments": [[one.GetName(), [round(255 * part) for part in one.GetColor()]] for one in segments],
        "views": [names.get(one.GetBackgroundVolumeID()) for one in shown],
        "linked": [bool(one.GetLinkedControl()) for one in shown],
        "centres": [[view.GetSliceToRAS().GetElement(row, 3) for row in range(3)] for view in views.slices()],
    }


def first_case(reader: Reader, kept: dict[str, np.ndarray]) -> dict[str, Any]:
    """Open, click, paint, click, back and forth, draw, box, submit."""
    panel, controller = reader.panel, reader.controller
    kept["automatic"] = reader.does("open", "Oblique")
    seen: dict[str, Any] = {"case": look(reader), "holder": panel.holder, "facts": dict(panel.facts)}
    seen["confirms"] = [panel.confirms]
    kept["clicked"] = reader.clicks("edema", (14, 20, 20))
    seen["marks"] = controller.scene.marks.GetNumberOfControlPoints()
    kept["painted"] = reader.paints(3, (slice(20, 24), slice(30, 34), slice(40, 44)))
    controller.poll()
    seen["confirms"].append(panel.confirms)
    seen["volumes"] = dict(panel.volumes)
    kept["clicked_again"] = reader.clicks("background", (15, 50, 30))
    seen["steps"] = [panel.facts["steps"]]
    kept["undone"] = reader.does("undo")
    kept["redone"] = reader.does("redo")
    kept["painted_again"] = reader.paints(3, (slice(30, 32), slice(20, 22), slice(20, 24)))
    kept["edit_undone"] = reader.does("undo")
    kept["edit_redone"] = reader.does("redo")
    reader.does("undo")
    kept["scribbled"] = reader.drags(SCRIBBLE, "edema", [(60, 90), (80, 95), (100, 100)])
    kept["lassoed"] = reader.drags(LASSO, "necrosis", [(120, 120), (150, 120), (150, 150), (120, 150)])
    seen["drawn"] = [
        {"label": one.label, "runs": [list(run) for run in one.runs]}
        for one in controller.session.prompts.drawn
        if one.runs
    ]
    kept["boxed"] = reader.does("add_box")
    seen["box"] = controller.scene.box_voxels()
    kept["unboxed"] = reader.does("remove_box")
    kept["over"] = reader.does("start_over")
    kept["back"] = reader.does("undo")
    reader.does("submit")
    kept["submitted"] = reader.shown()
    seen["submitted"] = panel.status
    return seen


def refusals(reader: Reader) -> dict[str, str]:
    """What the status says where something cannot be done."""
    panel, controller, said = reader.panel, reader.controller, {}
    reader.does("draw", "click", np.array([[900.0, 0.0, 0.0]]))
    said["outside"] = panel.status
    reader.does("draw", LASSO, np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    said["lasso"] = panel.status
    reader.does("open", "nobody")
    said["case"] = panel.status
    segmentation = controller.scene.segmentation.GetSegmentation()
    segmentation.AddEmptySegment("other", "my own")
    image = slicer.vtkOrientedImageData()
    controller.scene.segmentation.GetBinaryLabelmapRepresentation("slem_1", image)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
        image, controller.scene.segmentation, "other"
    )
    controller.submit()
    reader.wait()
    said["segment"] = panel.status
    segmentation.RemoveSegment("other")
    reader.does("train")
    said["train"] = panel.status
    return said


def second_case(reader: Reader, kept: dict[str, np.ndarray]) -> dict[str, Any]:
    """The next case, confirmed unchanged; then there is none."""
    panel = reader.panel
    reader.does("next_case", "first")
    seen: dict[str, Any] = {"case": panel.case.name, "places": (panel.facts.get("trust") or {}).get("places")}
    if seen["places"]:
        reader.controller.jump(seen["places"][0]["centre"])
        seen["centre"] = look(reader)["centres"]
    reader.does("undo")
    seen["nothing_to_undo"] = panel.status
    kept["second"] = reader.does("submit")
    seen["submitted"] = panel.status
    reader.does("next_case", "first")
    seen["none_left"] = panel.status
    kept["reopened"] = reader.does("open", "Oblique")
    seen["reopened"] = panel.status
    return seen


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("server", "user", "password"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--out", type=Path, required=True)
    given = options.parse_args()
    everything = start()
    reader = Reader([(given.user, "wrong"), (given.user, given.password)])
    kept: dict[str, np.ndarray] = {}
    reader.does("connect", given.server, "rea's Slicer")
    seen: dict[str, Any] = {
        "user": reader.panel.user,
        "asked": reader.panel.asked,
        "rows": reader.panel.page.get("rows"),
        "strategies": list(reader.panel.server.get("strategies", {})),
    }
    seen["first"] = first_case(reader, kept)
    seen["refusals"] = refusals(reader)
    seen["rows_after"] = reader.panel.page.get("rows")
    seen["second"] = second_case(reader, kept)
    seen["learning"] = reader.panel.learning
    seen["said"] = reader.panel.said
    reader.controller.close()
    seen["nodes_left"] = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    given.out.joinpath("seen.json").write_text(json.dumps(seen, indent=1), encoding="utf-8")
    np.savez_compressed(given.out / "shown.npz", **kept)
    del everything


if __name__ == "__main__":
    main()
