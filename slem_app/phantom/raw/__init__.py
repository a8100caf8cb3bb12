"""Studies as a scanner gives them, made of stripped cases with truth: a head is put around the brain, each
sequence is moved, cut into thick slices and disturbed on its own, and the truth goes with it.
"""

from slem_app.phantom.raw.around import Surroundings, surroundings
from slem_app.phantom.raw.dicom import VENDORS, write_raw_dicom
from slem_app.phantom.raw.study import RawSettings, RawStudy, make_raw, write_raw_nifti

__all__ = [
    "VENDORS",
    "RawSettings",
    "RawStudy",
    "Surroundings",
    "make_raw",
    "surroundings",
    "write_raw_dicom",
    "write_raw_nifti",
]
