"""What a client may use a model for."""

from __future__ import annotations

from enum import Enum

__all__ = ["TaskKind"]


class TaskKind(str, Enum):
    """The values are MONAI Label's words, by which its clients sort models into their panels."""

    SEGMENTATION = "segmentation"
    """Without the reader: Auto Segmentation."""
    CLICKS = "deepedit"
    """Follows clicks: SmartEdit in 3D Slicer, Point Prompts in OHIF."""
    SCRIBBLES = "scribbles"
    """Follows paint: Scribbles in 3D Slicer."""
