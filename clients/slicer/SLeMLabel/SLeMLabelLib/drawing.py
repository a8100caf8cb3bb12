"""The left mouse button in slice views while a tool is on: a click, or what is drawn from pressing it to
letting go. Without a tool, and with Shift, Ctrl or Alt, views behave as always.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import slicer
import vtk

__all__ = ["CLICK", "LASSO", "SCRIBBLE", "ViewMouse"]

CLICK, SCRIBBLE, LASSO = "click", "scribble", "lasso"
FIRST = 10.0  # priority: before Slicer's own handling, which the tools hold back
WIDTH = 2.0  # pixels of the line that follows the mouse


class ViewMouse:
    """The mouse in one slice view.

    Args:
        view: the slice node of the view.
        interactor: of the view.
        drawn: called with the tool and the points (n, 3), RAS mm; a click has one.
    """

    def __init__(
        self,
        view: slicer.vtkMRMLSliceNode,
        interactor: vtk.vtkRenderWindowInteractor,
        drawn: Callable[[str, np.ndarray], None],
    ) -> None:
        self.view, self.interactor, self.drawn = view, interactor, drawn
        self.tool, self.color = "", (1.0, 1.0, 0.0)
        self.points: list[tuple[float, float]] | None = None
        self.trace: vtk.vtkActor2D | None = None
        handlers = {
            "LeftButtonPressEvent": self._press,
            "MouseMoveEvent": self._move,
            "LeftButtonReleaseEvent": self._release,
        }
        self.tags = {event: interactor.AddObserver(event, call, FIRST) for event, call in handlers.items()}

    def remove(self) -> None:
        """Leave the view alone."""
        self._draw_trace(())
        for tag in self.tags.values():
            self.interactor.RemoveObserver(tag)
        self.tags.clear()

    def _press(self, *event: object) -> None:
        keys = self.interactor
        if not self.tool or keys.GetShiftKey() or keys.GetControlKey() or keys.GetAltKey():
            return
        self.points = [self._here()]
        self._hold_back("LeftButtonPressEvent")

    def _move(self, *event: object) -> None:
        if self.points is None:
            return
        if self.tool != CLICK and self._here() != self.points[-1]:
            self.points.append(self._here())
            self._draw_trace(self.points)
        self._hold_back("MouseMoveEvent")

    def _release(self, *event: object) -> None:
        if self.points is None:
            return
        points, self.points = self.points, None
        self._draw_trace(())
        self._hold_back("LeftButtonReleaseEvent")
        self.drawn(self.tool, np.array([self._world(point) for point in points]))

    def _hold_back(self, event: str) -> None:
        self.interactor.GetCommand(self.tags[event]).SetAbortFlag(1)

    def _here(self) -> tuple[float, float]:
        x, y = self.interactor.GetEventPosition()
        return float(x), float(y)

    def _world(self, point: tuple[float, float]) -> tuple[float, float, float]:
        x, y, z, _ = self.view.GetXYToRAS().MultiplyPoint((*point, 0.0, 1.0))
        return x, y, z

    def _draw_trace(self, points: object) -> None:
        """The line that follows the mouse; none for no points."""
        window = self.interactor.GetRenderWindow()
        renderer = window.GetRenderers().GetFirstRenderer() if window is not None else None
        if renderer is None:
            return
        if self.trace is not None:
            renderer.RemoveViewProp(self.trace)
            self.trace = None
        if points:
            self.trace = _line(points, self.color)
            renderer.AddViewProp(self.trace)
        self.interactor.Render()


def _line(points: list[tuple[float, float]], color: tuple[float, float, float]) -> vtk.vtkActor2D:
    """A line through pixels."""
    corners, cells = vtk.vtkPoints(), vtk.vtkCellArray()
    cells.InsertNextCell(len(points))
    for x, y in points:
        cells.InsertCellPoint(corners.InsertNextPoint(x, y, 0.0))
    data = vtk.vtkPolyData()
    data.SetPoints(corners)
    data.SetLines(cells)
    mapper = vtk.vtkPolyDataMapper2D()
    mapper.SetInputData(data)
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetColor(*color)
    actor.GetProperty().SetLineWidth(WIDTH)
    return actor
