"""A report's page for a PACS: as Encapsulated PDF (PS3.3 A.45.1), and its pictures as Secondary Capture
images (PS3.3 A.8.1), which every viewer shows.
"""

from __future__ import annotations

from datetime import datetime

import highdicom
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from slem_app.errors import BadStudy
from slem_app.formats.planes import Sources, planes_of
from slem_app.formats.provenance import MANUFACTURER, MODEL_NAME, Provenance, study_fields
from slem_app.studies.dicom_header import reason

__all__ = ["make_capture", "make_pdf_document"]

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
REPORT = ("18748-4", "LN", "Diagnostic imaging study")
"""Concept name of the document (CID 7020 is open; LOINC)."""


def make_pdf_document(pdf: bytes, title: str, sources: Sources, provenance: Provenance) -> Dataset:
    """A page of PDF as an instance of the study that it is about.

    Args:
        pdf: the file.
        title: of the document.
        sources: the series that was segmented.
        provenance: its description and series number are the document's.

    Raises:
        BadStudy: the images lack what a document must say of them.
        NotFound, BadVolume: a source that is gone, or no image.
    """
    image = planes_of(sources)[0].image
    now = datetime.now()
    document = _patient_and_study(image)
    document.SOPClassUID = ENCAPSULATED_PDF
    document.SOPInstanceUID = generate_uid(prefix=None)
    document.Modality = "DOC"
    document.SeriesInstanceUID = generate_uid(prefix=None)
    document.SeriesNumber = provenance.series_number
    document.SeriesDescription = provenance.description[:64]
    document.InstanceNumber = 1
    document.Manufacturer = MANUFACTURER
    document.ManufacturerModelName = MODEL_NAME
    document.ConversionType = "WSD"  # made on a workstation
    document.ContentDate, document.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = "YES"  # the page names the patient
    document.DocumentTitle = title[:1024]
    name = Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = REPORT
    document.ConceptNameCodeSequence = [name]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(pdf)
    document.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    document.preamble = b"\0" * 128  # without it a PACS is sent what no reader takes for DICOM
    document.file_meta = FileMetaDataset()
    document.file_meta.MediaStorageSOPClassUID = document.SOPClassUID
    document.file_meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    document.is_little_endian, document.is_implicit_VR = True, False
    return document


def make_capture(picture: np.ndarray, sources: Sources, provenance: Provenance) -> Dataset:
    """A picture as a Secondary Capture image of the study that it is about.

    Args:
        picture: (H, W, 3) uint8 RGB.
        sources: the series that was segmented.
        provenance: its description and numbers are the image's.

    Raises:
        BadStudy: the images lack what a capture must say of them.
        NotFound, BadVolume: a source that is gone, or no image.
    """
    image = planes_of(sources)[0].image
    try:
        capture = highdicom.sc.SCImage.from_ref_dataset(
            image,
            np.ascontiguousarray(picture, dtype=np.uint8),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            series_instance_uid=generate_uid(prefix=None),
            series_number=provenance.series_number,
            sop_instance_uid=generate_uid(prefix=None),
            instance_number=provenance.instance_number,
            manufacturer=MANUFACTURER,
            patient_orientation=("L", "P"),
            series_description=provenance.description[:64],
        )
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise BadStudy(
            f"no capture can be made for these images ({reason(error)}): correct their headers, "
            "or use the PDF"
        ) from error
    capture.BurnedInAnnotation = "YES"
    capture.Laterality = ""  # type 2C where nothing says which part of the body it is
    return capture


def _patient_and_study(image: Dataset) -> Dataset:
    """A new dataset that says whose study it is of, as an image of it does."""
    document = study_fields(image)
    if not document.StudyInstanceUID:
        raise BadStudy("the images have no StudyInstanceUID, so a document cannot be put into their study")
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "BodyPartExamined"):
        document.pop(keyword, None)  # a document has none
    return document
