"""A head with a tumour of three parts in four sequences, with the truth, as arrays, NIfTI and DICOM."""

from slem_app.phantom.files import write_dicom, write_nifti
from slem_app.phantom.head import SEQUENCES, Head, Phantom, draw, make, render, reorient, reorient_phantom, truth

__all__ = ["SEQUENCES", "Head", "Phantom", "draw", "make", "render", "reorient", "reorient_phantom", "truth", "write_dicom", "write_nifti"]
