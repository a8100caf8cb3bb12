"""Patients that never were, with the truth, as arrays, NIfTI and DICOM: a head with a tumour in four
sequences, an abdomen and a pelvis in three.
"""

from slem_app.phantom.abdomen import make_abdomen
from slem_app.phantom.body import BodyPhantom
from slem_app.phantom.chaos import write_chaos
from slem_app.phantom.files import write_dicom, write_nifti
from slem_app.phantom.head import (
    SEQUENCES,
    Head,
    Phantom,
    draw,
    make,
    render,
    reorient,
    reorient_phantom,
    truth,
)
from slem_app.phantom.pelvis import make_pelvis
from slem_app.phantom.visits import at_next_visit

__all__ = [
    "SEQUENCES",
    "BodyPhantom",
    "Head",
    "Phantom",
    "at_next_visit",
    "draw",
    "make",
    "make_abdomen",
    "make_pelvis",
    "render",
    "reorient",
    "reorient_phantom",
    "truth",
    "write_chaos",
    "write_dicom",
    "write_nifti",
]
