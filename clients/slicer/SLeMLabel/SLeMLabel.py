"""SLeM Label for 3D Slicer: segment MRI of several sequences with a SLeM Label server.

This file is what Slicer looks for; what the module does is in `SLeMLabelLib`.
"""

from __future__ import annotations

from SLeMLabelLib.panel import SlicerPanel
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget

HELP = """
Segments MRI of several sequences with a SLeM Label server: all sequences of a case side by side, corrected by
clicks, scribbles, lassos and a box, and by the Segment Editor.
"""


class SLeMLabel(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent: object) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "SLeM Label"
        self.parent.categories = ["Segmentation"]
        self.parent.dependencies = ["Segmentations", "Markups", "Volumes"]
        self.parent.contributors = ["SLeM Label contributors"]
        self.parent.helpText = HELP
        self.parent.acknowledgementText = ""


class SLeMLabelWidget(ScriptedLoadableModuleWidget):
    """The module's panel."""

    def setup(self) -> None:
        """Slicer shows the module for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        self.panel = SlicerPanel(self.layout)

    def enter(self) -> None:
        """The reader comes to the module."""
        self.panel.enter()

    def exit(self) -> None:
        """The reader goes to another one."""
        self.panel.exit()

    def cleanup(self) -> None:
        """Slicer ends, or loads the module anew."""
        self.panel.close()
