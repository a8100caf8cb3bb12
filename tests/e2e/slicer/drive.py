"""A reader's session in Slicer: open the module, fetch the next case, segment it, save the label; what was
seen goes into a JSON file.

.venv-slicer/bin/python tests/e2e/slicer/drive.py --plugin FOLDER --server URL --folder FOLDER --out FILE
[--elsewhere | --volume FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import vtk
from desk import Desk, label_at, segments


def work(
    desk: Desk, server: str, elsewhere: bool, own: Path | None, clicks: list[dict[str, object]]
) -> dict[str, object]:
    """One case from the first click to the saved label.

    Args:
        desk: the running Slicer.
        server: its address.
        elsewhere: the server's disk is another machine's, so that the image has to be downloaded.
        own: a volume of the reader's, which the server does not have, instead of the server's next case.
        clicks: what is clicked after the segmentation, one after the other: {"label": ..., "ras": [...]}, or
            {"remove": ...} for a label's last one.
    """
    desk.settings["MONAILabel/autoRunSegmentationOnNextSample"] = False
    widget = desk.open_module(server)
    if own:
        desk.load(str(own))
    widget.onClickFetchInfo()
    seen: dict[str, object] = {
        "info": widget.info,
        "model": widget.ui.segmentationModelSelector.currentText,
        "strategies": widget.ui.strategyBox.items,
    }
    if elsewhere:
        ask = widget.logic.next_sample
        widget.logic.next_sample = lambda *words: {
            key: value for key, value in ask(*words).items() if key != "path"
        }
    if not own:
        widget.onNextSampleButton()
    if widget.current_sample is None:
        return seen | {"errors": desk.errors}
    seen["volume"] = volume(widget._volumeNode)
    seen["before"] = segments(widget._segmentNode)
    widget.onClickSegmentation()
    seen["segments"] = segments(widget._segmentNode)
    seen["clicks"] = [click(widget, **one) for one in clicks]
    widget.onSaveLabel()
    seen["sample"] = widget.current_sample
    seen["datastore"] = widget.logic.datastore()
    seen["errors"] = desk.errors
    return seen


def click(
    widget: object, label: str = "", ras: list[float] | None = None, remove: str = ""
) -> dict[str, object]:
    """SmartEdit: choose a label and place a landmark, or take its last landmark away and press Update; what
    is shown then.
    """
    widget.ui.labelComboBox.setCurrentText(label or remove)
    widget.onSelectLabel()
    points = widget.dgPositivePointListNode
    if remove:
        gone = [0.0, 0.0, 0.0]
        points.GetNthControlPointPosition(points.GetNumberOfControlPoints() - 1, gone)
        points.RemoveNthControlPoint(points.GetNumberOfControlPoints() - 1)
        widget.onUpdateDeepgrow()
        ras = gone
    else:
        points.GetDisplayNode().SetActiveControlPoint(points.GetNumberOfControlPoints())
        points.AddControlPoint(ras)  # the plugin listens to it
    return {
        "at": label_at(widget._segmentNode, ras),
        "segments": segments(widget._segmentNode),
        "landmarks": points.GetNumberOfControlPoints(),
    }


def volume(node: object) -> dict[str, object]:
    """Size, and the 4x4 matrix from voxel indices to RAS mm, of a displayed volume."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    rows = [[matrix.GetElement(row, column) for column in range(4)] for row in range(4)]
    return {"name": node.GetName(), "shape": node.GetImageData().GetDimensions(), "affine": rows}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--plugin", type=Path, required=True, help="folder with the plugin's MONAILabel.py")
    options.add_argument("--server", required=True, help="address of the server")
    options.add_argument("--folder", type=Path, required=True, help="for downloads")
    options.add_argument("--out", type=Path, required=True, help="the JSON file")
    options.add_argument("--elsewhere", action="store_true", help="do not use paths of the server's disk")
    options.add_argument("--volume", type=Path, help="a volume that is not on the server")
    options.add_argument("--clicks", type=json.loads, default=[], help="JSON list of what is clicked")
    given = options.parse_args()
    seen = work(Desk(given.plugin, given.folder), given.server, given.elsewhere, given.volume, given.clicks)
    given.out.write_text(json.dumps(seen, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
