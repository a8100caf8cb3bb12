"""A label map as a client receives it or sends it back: NIfTI, NRRD, the result's description."""

from slem_app.formats.labelfile import place, read_label_file
from slem_app.formats.nifti import write_nifti
from slem_app.formats.nrrd import write_nrrd
from slem_app.formats.result import result_json, write_result_json

__all__ = [
    "place",
    "read_label_file",
    "result_json",
    "write_nifti",
    "write_nrrd",
    "write_result_json",
]
