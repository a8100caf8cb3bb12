"""A page of a report as DICOM, as it is sent to a PACS."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread, dcmwrite

from slem_app import phantom
from slem_app.formats.documents import make_capture, make_pdf_document
from slem_app.formats.provenance import Provenance
from slem_app.studies import open_source


def test_page_and_picture_are_whole_files_as_a_client_of_a_pacs_writes_them(tmp_path: Path) -> None:
    """DICOMweb clients write what an instance holds; without a preamble no reader takes it for DICOM."""
    made = phantom.make(seed=3, shape=(20, 24, 16), spacing=(5.0, 5.0, 6.0))
    phantom.write_dicom(made, tmp_path, "one")
    series = open_source(tmp_path).study("one").series[0]
    about = Provenance("MANUAL", "", "", "Report", series_number=1101)
    page = make_pdf_document(b"%PDF-1.7 page", "Report", series, about)
    picture = make_capture(np.zeros((8, 8, 3), np.uint8), series, about)
    for instance in (page, picture):
        sent = BytesIO()
        dcmwrite(sent, instance)
        read = dcmread(BytesIO(sent.getvalue()))
        assert read.SOPInstanceUID == instance.SOPInstanceUID
        assert read.PatientID == "one"
    assert bytes(page.EncapsulatedDocument).startswith(b"%PDF")
