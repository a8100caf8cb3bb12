"""Whole heads from label maps, as a scanner might give them: four sequences of any contrast, with skull,
tumour, thick slices and shifts, and the truth.
"""

from slem_app.phantom.heads.acquire import ScanParameters, thick
from slem_app.phantom.heads.contrast import GROUPS, PARTS, signals
from slem_app.phantom.heads.heads import HeadSettings, SyntheticHead, make_head, stream, write_head
from slem_app.phantom.heads.maps import HeadMap, label_maps, read_map
from slem_app.phantom.heads.tumours import Shape, grown, real_shape

__all__ = [
    "GROUPS",
    "PARTS",
    "HeadMap",
    "HeadSettings",
    "ScanParameters",
    "Shape",
    "SyntheticHead",
    "grown",
    "label_maps",
    "make_head",
    "read_map",
    "real_shape",
    "signals",
    "stream",
    "thick",
    "write_head",
]
