"""A case in Slicer's scene: its volumes, the segments, the marks of clicks, and reading back what the reader
sees.

Label maps are (K, J, I) uint8 on the voxels of the reference volume; segments are known by their IDs, so that
the reader may rename them. Uses MRML and VTK alone, no windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .session import BACKGROUND, Case, Drawn

__all__ = ["CaseScene", "SceneError"]

OTHER = (0.7, 0.7, 0.7)  # colour of marks that say: here is nothing
MARK = "SLeMLabel"  # attribute of every node that is made here


class SceneError(Exception):
    """What of the scene cannot be used, in a sentence for the reader."""


class CaseScene:
    """The nodes of one case.

    Args:
        case: which.
        files: its images by sequence, the reference among them.
        edited: called when the reader has changed a segment.

    Raises:
        SceneError: Slicer cannot read an image.
    """

    def __init__(self, case: Case, files: Mapping[str, Path], edited: Callable[[], None]) -> None:
        self.case, self.edited = case, edited
        self.nodes: list[slicer.vtkMRMLNode] = []
        self.drawing = False
        self.volumes = {name: self._volume(name, path) for name, path in files.items()}
        self.reference = self.volumes[case.reference]
        self.matrix = _matrix(self.reference)
        self.size: tuple[int, int, int] = self.reference.GetImageData().GetDimensions()
        self.segmentation = self._segmentation()
        self.marks = self._marks()
        self.box: slicer.vtkMRMLMarkupsROINode | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, J, I) of the reference volume."""
        return self.size[::-1]

    def show(self, array: np.ndarray) -> None:
        """Show a label map; only segments that differ are touched."""
        before = self.read()
        self.drawing = True
        try:
            for value in range(1, len(self.case.labels) + 1):
                wanted = array == value
                if self._segment(value) is None or not np.array_equal(wanted, before == value):
                    self._put(value, wanted)
        finally:
            self.drawing = False

    def read(self) -> np.ndarray:
        """The label map that the reader sees; where segments overlap, that of the higher value.

        Raises:
            SceneError: there is a segment that is no label.
        """
        self._refuse_others()
        array = np.zeros(self.shape, np.uint8)
        for value in range(1, len(self.case.labels) + 1):
            if self._segment(value) is not None:
                self._paint(array, value)
        return array

    def mark(self, drawn: Sequence[Drawn]) -> None:
        """Show a mark for each click, in its label's colour."""
        self.marks.RemoveAllControlPoints()
        for one in drawn:
            for voxel in one.voxels:
                number = self.marks.AddControlPoint(vtk.vtkVector3d(self.world(voxel)), one.label)
                self.marks.SetNthControlPointLocked(number, True)
        if drawn and drawn[-1].voxels:
            self.marks.GetDisplayNode().SetSelectedColor(self.color(drawn[-1].label))

    def color(self, label: str) -> tuple[float, float, float]:
        """Of a label, 0 to 1."""
        if label == BACKGROUND:
            return OTHER
        red, green, blue = self.case.colors[label]
        return red / 255, green / 255, blue / 255

    def world(self, voxel: Sequence[float]) -> tuple[float, float, float]:
        """RAS mm of a voxel's centre."""
        x, y, z = self.matrix[:3, :3] @ np.asarray(voxel, float) + self.matrix[:3, 3]
        return float(x), float(y), float(z)

    def largest_slice(self, array: np.ndarray) -> tuple[float, float, float] | None:
        """A point (RAS mm) in the slice that shows most of the segmentation; None: it is empty."""
        counts = [np.count_nonzero(array, axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
        if not counts[0].any():
            return None
        spacing = np.linalg.norm(self.matrix[:3, :3], axis=0)[::-1]
        through = int(np.argmax(spacing))  # K, J or I: the thickest
        layer = int(np.argmax(counts[through]))
        inside = np.argwhere(np.take(array, [layer], axis=through) > 0)
        middle = inside[np.argmin(((inside - inside.mean(0)) ** 2).sum(1))]
        middle[through] = layer
        return self.world(middle[::-1])

    # the box

    def add_box(self, array: np.ndarray | None, moved: Callable[[], None]) -> None:
        """A box around what is shown, or in the middle of the image, along the image's axes; `moved` is
        called when the reader has moved or resized it.
        """
        self.remove_box()
        found = np.argwhere(array > 0)[:, ::-1] if array is not None and (array > 0).any() else None
        size = np.array(self.size)
        low, high = (size * 0.35, size * 0.65) if found is None else (found.min(0) - 0.5, found.max(0) + 0.5)
        spacing = np.linalg.norm(self.matrix[:3, :3], axis=0)
        node = self._add("vtkMRMLMarkupsROINode", "box")
        place = np.eye(4)
        place[:3, :3] = self.matrix[:3, :3] / spacing
        if np.linalg.det(place) < 0:  # Slicer's boxes are right-handed; a box is the same turned inside out
            place[:3, 2] *= -1
        place[:3, 3] = self.world((low + high) / 2)
        to_node = vtk.vtkMatrix4x4()
        to_node.DeepCopy(place.ravel().tolist())
        node.SetAndObserveObjectToNodeMatrix(to_node)
        node.SetSize(*((high - low) * spacing).tolist())
        node.GetDisplayNode().SetFillVisibility(False)  # what is inside has to be seen
        node.AddObserver(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent, lambda *event: moved())
        self.box = node

    def remove_box(self) -> None:
        """Labels may be anywhere again."""
        if self.box is not None:
            slicer.mrmlScene.RemoveNode(self.box)
        self.box = None

    def box_voxels(self) -> tuple[int, ...] | None:
        """i1, i2, j1, j2, k1, k2 of the box, inside the image; None: there is none."""
        if self.box is None:
            return None
        to_world = self.box.GetObjectToWorldMatrix()
        half = np.array(self.box.GetSize()) / 2
        signs = np.indices((2, 2, 2)).reshape(3, -1).T * 2 - 1
        corners = np.c_[signs * half, np.ones(8)] @ _numpy(to_world).T
        index = (corners @ np.linalg.inv(self.matrix).T)[:, :3]
        last = np.array(self.size) - 1
        low = np.clip(np.ceil(index.min(0) - 1e-6), 0, last).astype(int)
        high = np.clip(np.floor(index.max(0) + 1e-6), 0, last).astype(int)
        return tuple(int(end) for pair in zip(low, np.maximum(low, high)) for end in pair)

    def close(self) -> None:
        """Take the case out of the scene."""
        self.remove_box()
        for node in reversed(self.nodes):
            of_it = [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
            slicer.mrmlScene.RemoveNode(node)
            for one in of_it:
                slicer.mrmlScene.RemoveNode(one)
        self.nodes.clear()

    # nodes

    def _add(self, kind: str, name: str) -> slicer.vtkMRMLNode:
        node = slicer.mrmlScene.AddNewNodeByClass(kind, f"{self.case.name} {name}")
        node.SetAttribute(MARK, self.case.name)
        if node.IsA("vtkMRMLDisplayableNode") and node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        return node

    def _volume(self, sequence: str, path: Path) -> slicer.vtkMRMLScalarVolumeNode:
        logic = slicer.modules.volumes.logic()
        node = logic.AddArchetypeVolume(str(path), f"{self.case.name} {sequence}", 0)
        if node is None:
            raise SceneError(f"Slicer cannot read the image {self.case.name}/{sequence}")
        node.SetAttribute(MARK, self.case.name)
        self.nodes.append(node)
        return node

    def _segmentation(self) -> slicer.vtkMRMLSegmentationNode:
        node = self._add("vtkMRMLSegmentationNode", "segmentation")
        self.nodes.append(node)
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.reference)
        for value in range(1, len(self.case.labels) + 1):
            self._new_segment(node, value)
        segmentation = node.GetSegmentation()
        segmentation.AddObserver(slicer.vtkSegmentation.SourceRepresentationModified, self._changed)
        segmentation.AddObserver(slicer.vtkSegmentation.SegmentRemoved, self._changed)
        return node

    def _new_segment(self, node: slicer.vtkMRMLSegmentationNode, value: int) -> None:
        name = self.case.labels[value - 1]
        key = node.GetSegmentation().AddEmptySegment(_key(value), name, self.color(name))
        # each on its own, so that changing one can never move another
        node.GetSegmentation().SeparateSegmentLabelmap(key)

    def _marks(self) -> slicer.vtkMRMLMarkupsFiducialNode:
        node = self._add("vtkMRMLMarkupsFiducialNode", "clicks")
        self.nodes.append(node)
        display = node.GetDisplayNode()
        display.SetPointLabelsVisibility(False)
        display.SetGlyphScale(1.5)
        return node

    def _changed(self, *event: object) -> None:
        if not self.drawing:
            self.edited()

    # segments

    def _segment(self, value: int) -> slicer.vtkSegment | None:
        return self.segmentation.GetSegmentation().GetSegment(_key(value))

    def _refuse_others(self) -> None:
        """Segments that are no label hold what would be lost."""
        segmentation = self.segmentation.GetSegmentation()
        keys = {_key(value) for value in range(1, len(self.case.labels) + 1)}
        for number in range(segmentation.GetNumberOfSegments()):
            key = segmentation.GetNthSegmentID(number)
            if key in keys:
                continue
            image = slicer.vtkOrientedImageData()
            self.segmentation.GetBinaryLabelmapRepresentation(key, image)
            scalars = image.GetPointData().GetScalars()
            if scalars is not None and vtk_to_numpy(scalars).any():
                name, has = segmentation.GetSegment(key).GetName(), ", ".join(self.case.labels)
                raise SceneError(
                    f"the segment {name!r} is no label of {self.case.model}, which has {has}: move what is "
                    f"in it to one of these, or remove it"
                )

    def _put(self, value: int, wanted: np.ndarray) -> None:
        """Make a segment what it should be."""
        if self._segment(value) is None:  # the reader has removed it
            self._new_segment(self.segmentation, value)
        found = np.nonzero(wanted)
        ends = [(int(one.min()), int(one.max())) if one.size else (0, 0) for one in found]  # empty: one voxel
        part = wanted[tuple(slice(low, high + 1) for low, high in ends)]
        image = slicer.vtkOrientedImageData()
        image.SetExtent(*ends[2], *ends[1], *ends[0])
        image.GetPointData().SetScalars(numpy_to_vtk(part.astype(np.uint8).ravel(), deep=True))
        to_world = vtk.vtkMatrix4x4()
        self.reference.GetIJKToRASMatrix(to_world)
        image.SetImageToWorldMatrix(to_world)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        if not logic.SetBinaryLabelmapToSegment(image, self.segmentation, _key(value)):
            raise SceneError(f"Slicer cannot show the segment {self.case.labels[value - 1]!r}")

    def _paint(self, array: np.ndarray, value: int) -> None:
        """Put a segment's voxels into a label map."""
        image = slicer.vtkOrientedImageData()
        self.segmentation.GetBinaryLabelmapRepresentation(_key(value), image)
        scalars = image.GetPointData().GetScalars()
        if scalars is None or not image.GetNumberOfPoints():
            return
        to_world = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(to_world)
        if not np.allclose(_numpy(to_world), self.matrix, atol=1e-4):
            whole = slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, _key(value), self.reference)
            array[whole > 0] = value
            return
        first, last = np.array(image.GetExtent()[4::-2]), np.array(image.GetExtent()[5::-2])
        part = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1]) > 0
        low, high = np.maximum(first, 0), np.minimum(last, np.array(self.shape) - 1)
        if (low > high).any():
            return
        here = tuple(slice(a, b + 1) for a, b in zip(low, high))
        there = tuple(slice(a - f, b + 1 - f) for a, b, f in zip(low, high, first))
        array[here][part[there]] = value


def _key(value: int) -> str:
    """Id of the segment of a label value."""
    return f"slem_{value}"


def _matrix(volume: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """Voxel indices to RAS mm."""
    to_world = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(to_world)
    return _numpy(to_world)


def _numpy(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    rows = [[matrix.GetElement(row, column) for column in range(4)] for row in range(4)]
    return np.array(rows)
