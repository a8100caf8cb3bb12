"""Whether a label that a reader saves is what a model made, voxel for voxel: then it was confirmed, not
drawn.
"""

from __future__ import annotations

import logging

import numpy as np

from slem_app.errors import SlemError
from slem_app.formats import read_label_file
from slem_app.store.labels import LabelStore, LabelVersion
from slem_app.store.record import FINAL
from slem_app.types import Grid

__all__ = ["is_a_draft"]

logger = logging.getLogger(__name__)


def is_a_draft(store: LabelStore, case: str, array: np.ndarray, grid: Grid) -> bool:
    """Whether a label map is one of the drafts that models made of a case, the newest of each tag and
    sequence.

    Args:
        store: of the drafts.
        case: case id.
        array: (I, J, K) label values.
        grid: their grid.
    """
    drafts = [one for one in store.history(case) if one.record.automatic and one.tag != FINAL]
    newest = {(one.tag, one.sequence): one for one in drafts}
    return any(_holds(one, array, grid) for one in newest.values())


def _holds(version: LabelVersion, array: np.ndarray, grid: Grid) -> bool:
    """Whether a version is this label map on this grid."""
    try:
        kept, own, _ = read_label_file(version.label)
    except SlemError as error:
        logger.warning("%s cannot be compared with what is saved: %s", version.label, error)
        return False
    return own.same_as(grid) and np.array_equal(kept, array)
