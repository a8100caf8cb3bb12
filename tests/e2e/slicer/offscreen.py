"""Slice views drawn off screen by Slicer's own displayable managers: what a reader would see in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

MANAGERS = (
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
)


class OffscreenView:
    """One slice view.

    Args:
        node: its slice node.
        logic: its slice logic, which makes the picture of the volumes.
        application: Slicer's application logic.
        size: pixels of a side.
    """

    def __init__(self, node: Any, logic: Any, application: Any, size: int = 300) -> None:
        self.logic, self.node = logic, node
        self.renderer = vtk.vtkRenderer()
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.window = vtk.vtkRenderWindow()
        self.window.ShowWindowOff()
        self.window.SetOffScreenRendering(1)
        self.window.SetSize(size, size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        mapper = vtk.vtkImageMapper()  # the volumes come as RGBA, 0 to 255
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        self.picture = vtk.vtkActor2D()
        self.picture.SetMapper(mapper)
        self.picture.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(self.picture)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application)
        for name in MANAGERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.SetRenderer(self.renderer)
        self.managers.Initialize(factory, self.renderer)
        self.managers.SetMRMLDisplayableNode(node)
        logic.ResizeSliceNode(size, size)

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, top row first."""
        self.picture.GetMapper().SetInputConnection(self.logic.GetImageDataConnection())
        self.window.Render()
        grabbed = vtk.vtkWindowToImageFilter()
        grabbed.SetInput(self.window)
        grabbed.ReadFrontBufferOff()
        grabbed.Update()
        image = grabbed.GetOutput()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()
