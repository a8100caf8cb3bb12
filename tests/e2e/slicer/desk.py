"""3D Slicer without its windows: the scene, volumes and segmentations are Slicer's own C++ (`slicer-core`),
the plugin is the wheel's own file.

Only what Qt draws is stood in for: combo boxes remember their items (the plugin reads its choices back from
them), everything else that is shown swallows what it is told. Runs in `.venv-slicer`, so it imports nothing
of this project.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
import types
import urllib.request
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from slicer_core import vtkSegmentationCore
from vtkmodules.util.numpy_support import vtk_to_numpy


class ComboBox:
    """A list with one chosen entry, as much of QComboBox as the plugin reads back."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.currentIndex = -1

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def currentText(self) -> str:
        return self.itemText(self.currentIndex)

    @currentText.setter
    def currentText(self, text: str) -> None:
        self.setCurrentText(text)

    def addItem(self, *item: object) -> None:
        self.items.append(next(word for word in item if isinstance(word, str)))
        self.currentIndex = max(self.currentIndex, 0)

    def addItems(self, items: list[str]) -> None:
        for item in items:
            self.addItem(item)

    def clear(self) -> None:
        self.items, self.currentIndex = [], -1

    def itemText(self, index: int) -> str:
        return self.items[index] if 0 <= index < len(self.items) else ""

    def findText(self, text: str) -> int:
        return self.items.index(text) if text in self.items else -1

    def setCurrentIndex(self, index: int) -> None:
        self.currentIndex = index

    def setCurrentText(self, text: str) -> None:
        if text not in self.items:  # an editable box takes what is typed
            self.items.append(text)
        self.currentIndex = self.findText(text)

    def blockSignals(self, blocked: bool) -> bool:
        return not blocked

    def lineEdit(self) -> MagicMock:
        return MagicMock()

    def connect(self, *signal: object) -> None:
        """Nothing is clicked here: the test calls the plugin's handlers itself."""

    setItemData = setToolTip = setEnabled = connect


class Panel:
    """The widgets of the plugin's form: boxes with a choice are ComboBox, all others accept anything."""

    CHOICES = ("ComboBox", "Selector", "strategyBox", "trainerBox", "optionsSection", "optionsName")

    def __getattr__(self, name: str) -> object:
        widget = ComboBox() if name.endswith(self.CHOICES) else MagicMock(name=name)
        if name.endswith("PlacementWidget"):
            widget.placeModeEnabled = False
        if name.endswith("PlaceWidget"):
            widget.currentNode = lambda: None  # no box was drawn
        if name.endswith("CheckBox"):
            # as the form has them: only a click's effect is wanted at once
            widget.checked = name == "dgUpdateCheckBox"
        if name == "configTable":
            widget.rowCount = 0
        setattr(self, name, widget)
        return widget


class Desk:
    """One running Slicer: its scene, the settings the user made, the error boxes that were shown."""

    def __init__(self, plugin: Path, folder: Path) -> None:
        """Start it.

        Args:
            plugin: folder with the plugin's MONAILabel.py.
            folder: for what the plugin downloads.
        """
        self.folder = folder
        self.errors: list[str] = []
        self.settings: dict[str, object] = {}
        self._start_modules()
        self._stand_in_for_windows()
        sys.path.insert(0, str(plugin))
        self.plugin = importlib.import_module("MONAILabel")

    def open_module(self, server: str) -> object:
        """The plugin's widget as after clicking on the module, with the server's address typed in."""
        widget = self.plugin.MONAILabelWidget()
        widget.resourcePath = lambda path: path
        widget.setup()
        widget.ui.serverComboBox.setCurrentText(server)
        return widget

    def load(self, path: str, labels: bool = False) -> object:
        """A volume node of the file."""
        node = self.volumes.AddArchetypeVolume(
            path, Path(path).name.partition(".")[0], 1 if labels else 0, None
        )
        if node is None:
            raise ValueError(f"Slicer cannot read {path}")
        return node

    def _start_modules(self) -> None:
        scene = slicer.vtkMRMLScene()
        application = slicer.vtkSlicerApplicationLogic()
        application.SetMRMLScene(scene)
        colours = slicer.vtkMRMLColorLogic()
        colours.SetMRMLScene(scene)
        application.SetModuleLogic("Colors", colours)
        application.GetColorLogic().SetMRMLScene(scene)
        application.GetColorLogic().AddDefaultColorNodes()
        self.segmentations, self.volumes = (
            slicer.vtkSlicerSegmentationsModuleLogic(),
            slicer.vtkSlicerVolumesLogic(),
        )
        markups = slicer.vtkSlicerMarkupsLogic()
        for logic in (self.segmentations, self.volumes, markups):
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(scene)
        self.kept = (scene, application, colours, markups)  # C++ holds some of them weakly
        slicer.mrmlScene = scene
        slicer.modules = types.SimpleNamespace(
            segmentations=types.SimpleNamespace(logic=lambda: self.segmentations),
            markups=types.SimpleNamespace(logic=lambda: markups),
        )

    def _stand_in_for_windows(self) -> None:
        for name in ("qt", "ctk", "DICOMScalarVolumePlugin"):
            sys.modules[name] = MagicMock(name=name)
        sys.modules["qt"].QDialog = sys.modules["ctk"].ctkSettingsPanel = type("Window", (), {})
        sys.modules["qt"].QSettings = lambda: types.SimpleNamespace(
            value=self.settings.get, setValue=self.settings.__setitem__
        )
        sys.modules["vtkSegmentationCore"] = vtkSegmentationCore
        _module("SampleData", SampleDataLogic=lambda: types.SimpleNamespace(downloadFromURL=self._download))
        _module("sitkUtils", PushVolumeToSlicer=self._push)
        _module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
        bases = (
            "ScriptedLoadableModule",
            "ScriptedLoadableModuleWidget",
            "ScriptedLoadableModuleLogic",
            "ScriptedLoadableModuleTest",
        )
        _module("slicer.ScriptedLoadableModule", **{name: _scripted(name) for name in bases})
        util, quiet = slicer.util, MagicMock()
        util.VTKObservationMixin = getattr(util, "VTKObservationMixin", _scripted("VTKObservationMixin"))
        util.loadUI = util.infoDisplay = util.createProgressDialog = util.mainWindow = quiet
        util.childWidgetVariables = lambda form: Panel()
        util.confirmOkCancelDisplay = lambda *words, **more: True
        util.errorDisplay = lambda text, detailedText="", **words: self.errors.append(
            f"{text} {detailedText}"
        )
        util.warningDisplay = lambda text, *words, **more: self.errors.append(text)
        util.loadVolume = lambda path, properties=None: self.load(path)
        util.saveNode = _save
        util.settingsValue = lambda key, default, converter=None: self.settings.get(key, default)
        util.tempDirectory = lambda key="": tempfile.mkdtemp(dir=self.folder)
        slicer.app = quiet

    def _download(
        self, nodeNames: str, fileNames: str, uris: str, checksums: str | None = None
    ) -> list[object]:
        """What Slicer's SampleData does with one file: fetch, keep under its name, load."""
        path = self.folder / fileNames
        with urllib.request.urlopen(uris) as reply, path.open("wb") as file:
            shutil.copyfileobj(reply, file)
        node = self.load(str(path))
        node.SetName(nodeNames)
        return [node]

    def _push(
        self, image: sitk.Image, target: None = None, className: str = "", name: str | None = None
    ) -> object:
        path = Path(tempfile.mkstemp(suffix=".nrrd", dir=self.folder)[1])
        sitk.WriteImage(image, str(path))
        node = self.load(str(path), labels="LabelMap" in className)
        path.unlink()
        return node


def _scripted(name: str) -> type:
    """A base class of Slicer's scripted modules, without its windows."""

    def start(self: object, parent: object = None) -> None:
        self.parent, self.layout = MagicMock(name="parent"), MagicMock(name="layout")

    def parameter_node(self: object) -> object:
        node = slicer.mrmlScene.GetSingletonNode("MONAILabel", "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag("MONAILabel")
            node = slicer.mrmlScene.AddNode(node)
        return node

    return type(name, (), {"__init__": start, "setup": lambda self: None, "getParameterNode": parameter_node})


def _module(name: str, **content: object) -> None:
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)


def _save(node: object, path: str, properties: object = None) -> bool:
    storage = (
        slicer.vtkMRMLSegmentationStorageNode()
        if node.IsA("vtkMRMLSegmentationNode")
        else slicer.vtkMRMLVolumeArchetypeStorageNode()
    )
    storage.SetFileName(path)
    slicer.mrmlScene.AddNode(storage)
    written = bool(storage.WriteData(node))
    slicer.mrmlScene.RemoveNode(storage)
    return written


def segments(node: object) -> list[dict[str, object]]:
    """What a segmentation node shows: each segment's name, voxel count and centre of gravity in RAS mm."""
    found, segmentation = [], node.GetSegmentation()
    for number in range(segmentation.GetNumberOfSegments()):
        key = segmentation.GetNthSegmentID(number)
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(key, image)
        voxels = _voxels(image)
        to_world = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(to_world)
        centre = to_world.MultiplyPoint([*voxels.mean(0), 1.0])[:3] if len(voxels) else None
        found.append(
            {"name": segmentation.GetSegment(key).GetName(), "voxels": len(voxels), "centre": centre}
        )
    return found


def label_at(node: object, ras: list[float]) -> list[str]:
    """Names of the segments that a segmentation node shows at a point."""
    found, segmentation = [], node.GetSegmentation()
    for number in range(segmentation.GetNumberOfSegments()):
        key = segmentation.GetNthSegmentID(number)
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(key, image)
        from_world = vtk.vtkMatrix4x4()
        image.GetWorldToImageMatrix(from_world)
        voxel = np.round(from_world.MultiplyPoint([*ras, 1.0])[:3])
        if len(voxels := _voxels(image)) and (voxels == voxel).all(axis=1).any():
            found.append(segmentation.GetSegment(key).GetName())
    return found


def _voxels(image: object) -> np.ndarray:
    """(N, 3) indices of the voxels of a segment."""
    scalars = image.GetPointData().GetScalars()
    if scalars is None:
        return np.zeros((0, 3))
    extent = image.GetExtent()
    array = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])  # (K, J, I)
    return np.argwhere(array > 0)[:, ::-1] + np.array([extent[0], extent[2], extent[4]])
