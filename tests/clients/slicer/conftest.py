"""The library of 3D Slicer's module, which lies outside the package; what of it needs no Slicer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "clients/slicer/SLeMLabel"))
