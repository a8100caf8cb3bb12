"""Four linked slice views, a sequence in each, the segmentation on all.

The views turn to the plane of the reference image, so that its voxels are seen as they were acquired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import quoteattr

import slicer

__all__ = [
    "LAYOUT",
    "NAMES",
    "PLANES",
    "arrange",
    "composite",
    "jump",
    "layout_xml",
    "order",
    "show_volumes",
    "slices",
    "turn",
]

LAYOUT = 27451  # number of the layout; Slicer's own end below 1000
NAMES = ("SLeM1", "SLeM2", "SLeM3", "SLeM4")
COLORS = ("#E17012", "#3B9AB2", "#78B7C5", "#A6A6A6")
PLANES = ("As acquired", "Axial", "Sagittal", "Coronal")
ORDER = ("t1n", "t1c", "t2w", "t2f")


def layout_xml(labels: Sequence[str]) -> str:
    """The description of a 2 x 2 layout whose views are labelled."""
    texts = [*labels, *("" for _ in NAMES[len(labels) :])]
    views = [_view(name, text, color) for name, text, color in zip(NAMES, texts, COLORS)]
    rows = [_row(views[:2]), _row(views[2:])]
    return f'<layout type="vertical" split="true">{"".join(rows)}</layout>'


def _row(views: Sequence[str]) -> str:
    items = "".join(f"<item>{view}</item>" for view in views)
    return f'<item><layout type="horizontal" split="true">{items}</layout></item>'


def _view(name: str, text: str, color: str) -> str:
    return (
        f'<view class="vtkMRMLSliceNode" singletontag={quoteattr(name)}>'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{text or name[-1]}</property>'
        f'<property name="viewcolor" action="default">{color}</property></view>'
    )


def arrange(layout: slicer.vtkMRMLLayoutNode) -> None:
    """Show the 2 x 2 layout."""
    description = layout_xml(())
    if layout.IsLayoutDescription(LAYOUT):
        layout.SetLayoutDescription(LAYOUT, description)
    else:
        layout.AddLayoutDescription(LAYOUT, description)
    layout.SetViewArrangement(LAYOUT)


def slices() -> list[slicer.vtkMRMLSliceNode]:
    """The four views that there are."""
    found = {node.GetLayoutName(): node for node in _nodes("vtkMRMLSliceNode")}
    return [found[name] for name in NAMES if name in found]


def composite(view: slicer.vtkMRMLSliceNode) -> slicer.vtkMRMLSliceCompositeNode | None:
    """What a view shows; None where Slicer has not made it yet."""
    name = view.GetLayoutName()
    return next((one for one in _nodes("vtkMRMLSliceCompositeNode") if one.GetLayoutName() == name), None)


def order(sequences: Sequence[str]) -> list[str]:
    """The sequences in the order of the views: T1, T1 after contrast, T2, FLAIR; others as they come."""
    known = [name for name in ORDER if name in sequences]
    return [*known, *(name for name in sequences if name not in known)]


def show_volumes(volumes: Mapping[str, slicer.vtkMRMLScalarVolumeNode], reference: str) -> None:
    """A sequence in each view, linked, in the plane of the reference.

    Of more than four the reference and the first others are shown.
    """
    names = order(tuple(volumes))
    if len(names) > len(NAMES):
        others = [name for name in names if name != reference][: len(NAMES) - 1]
        names = order((reference, *others))
    for view, name in zip(slices(), [*names, *("" for _ in NAMES[len(names) :])]):
        shown = composite(view)
        if shown is None:
            continue
        # set apart from each other: a linked view would give its volume to the others
        shown.SetLinkedControl(False)
        shown.SetBackgroundVolumeID(volumes[name].GetID() if name else None)
        shown.SetForegroundVolumeID(None)
        shown.SetLabelVolumeID(None)
        view.SetLayoutLabel(name or view.GetLayoutName()[-1])
    turn(PLANES[0], volumes[reference])
    for view in slices():
        shown = composite(view)
        if shown is not None:
            shown.SetHotLinkedControl(True)
            shown.SetLinkedControl(True)


def turn(plane: str, reference: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Turn all views to one of `PLANES`."""
    for view in slices():
        if plane == PLANES[0]:
            view.RotateToVolumePlane(reference)
        else:
            view.SetOrientation(plane)


def jump(point: Sequence[float]) -> None:
    """Show a place (RAS mm) in all views."""
    for view in slices():
        view.JumpSliceByCentering(*point)


def _nodes(kind: str) -> list:
    found = slicer.mrmlScene.GetNodesByClass(kind)
    found.UnRegister(None)
    return [found.GetItemAsObject(number) for number in range(found.GetNumberOfItems())]
