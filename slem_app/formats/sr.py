"""Measurements as a DICOM Structured Report: Comprehensive 3D SR (PS3.3 A.35.13) by template TID 1500.

Each label is a measurement group (TID 1411) that refers to its segment of the stored segmentation; a region
of several labels, which is no segment of its own, is a group without a picture (TID 1501). A group's tracking
UID follows from the patient and its name, so that reports of later studies carry the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom
from pydicom import Dataset
from pydicom.sr.coding import Code as DicomCode

from slem_app.errors import BadStudy
from slem_app.formats.dicom_code import dicom_code
from slem_app.formats.named_uid import named_uid
from slem_app.formats.planes import Sources, planes_of
from slem_app.formats.provenance import MANUFACTURER, MODEL_NAME, Provenance, study_fields
from slem_app.labels import LabelSet
from slem_app.measure import Measurements, Structure
from slem_app.studies.dicom_header import reason

__all__ = ["CODES", "make_sr"]

OWN = "99SLEM"  # PS3.16 8.2: a private coding scheme begins with 99
CODES = {
    "volume": DicomCode("118565006", "SCT", "Volume"),
    "long": DicomCode("103339001", "SCT", "Long Axis"),
    "short": DicomCode("103340004", "SCT", "Short Axis"),
    "diameter": DicomCode("L0JK", "IBSI", "Maximum 3D diameter"),
    "product": DicomCode("RANO-SPD", OWN, "Sum of products of perpendicular diameters"),
    "lesions": DicomCode("LESIONS", OWN, "Number of lesions"),
    "assessable": DicomCode("ASSESSABLE", OWN, "Assessable with the sequences of this study"),
    "no": DicomCode("373067005", "SCT", "No"),
}
BRAIN = DicomCode("12738006", "SCT", "Brain")
SITES = {
    "frontal lobe": DicomCode("83251001", "SCT", "Frontal lobe"),
    "parietal lobe": DicomCode("16630005", "SCT", "Parietal lobe"),
    "temporal lobe": DicomCode("78277001", "SCT", "Temporal lobe"),
    "occipital lobe": DicomCode("31065004", "SCT", "Occipital lobe"),
    "insula": DicomCode("36169008", "SCT", "Insula"),
    "thalamus": DicomCode("42695009", "SCT", "Thalamus"),
    "brainstem": DicomCode("119238007", "SCT", "Brain stem"),
    "corpus callosum": DicomCode("88442005", "SCT", "Corpus callosum"),
}
"""Parts of the brain by the name in which `Location` tells them."""
LATERALITY = {
    "left": DicomCode("7771000", "SCT", "Left"),
    "right": DicomCode("24028007", "SCT", "Right"),
    "both": DicomCode("51440002", "SCT", "Right and left"),
}
UNITS = {
    "volume": DicomCode("ml", "UCUM", "milliliter"),
    "long": DicomCode("mm", "UCUM", "millimeter"),
    "short": DicomCode("mm", "UCUM", "millimeter"),
    "diameter": DicomCode("mm", "UCUM", "millimeter"),
    "product": DicomCode("mm2", "UCUM", "square millimeter"),
    "lesions": DicomCode("1", "UCUM", "no units"),
}
Group = (
    highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | highdicom.sr.MeasurementsAndQualitativeEvaluations
)
PROCEDURE = DicomCode("113091000", "SCT", "Magnetic resonance imaging")


def make_sr(
    found: Measurements,
    labels: LabelSet,
    segmentation: Dataset,
    sources: Sources,
    provenance: Provenance,
    confirmed: bool,
) -> Dataset:
    """A report that refers to a segmentation and to the images it was made from.

    Args:
        found: what was measured.
        labels: what the segments mean; segment n is label n.
        segmentation: the stored SEG.
        sources: the series that was segmented.
        provenance: how the segmentation came about; its numbers and description are the report's.
        confirmed: a reader has confirmed the segmentation. Without it the report is partial and preliminary.

    Returns:
        A new instance in a new series of the same study, ready to be stored.

    Raises:
        BadStudy: the segmentation or the images lack what a report must say of them.
        NotFound, BadVolume: a source that is gone, or no image.
    """
    images = [plane.image for plane in planes_of(sources)]
    about = study_fields(images[0])
    try:
        groups: list[Group] = [
            *_segments(found, labels, segmentation, provenance),
            *_without_segment(found, segmentation),
        ]
        content = highdicom.sr.MeasurementReport(
            observation_context=_observers(provenance),
            procedure_reported=PROCEDURE,
            imaging_measurements=groups,
        )
        report = highdicom.sr.Comprehensive3DSR(
            evidence=[segmentation, *_unlike(images)],
            content=content,
            **provenance.new_instance(),
            is_complete=confirmed,
            is_final=confirmed,
        )
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise BadStudy(
            f"no report can refer to this segmentation and its images ({reason(error)}): correct their "
            f"headers, or write JSON instead"
        ) from error
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "BodyPartExamined"):
        about.pop(keyword, None)  # a report has none
    report.update(about)
    return report


def _segments(
    found: Measurements, labels: LabelSet, segmentation: Dataset, provenance: Provenance
) -> list[highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations]:
    algorithm = None
    if provenance.algorithm:
        algorithm = highdicom.sr.AlgorithmIdentification(provenance.algorithm, provenance.version)
    framed = _framed(segmentation)
    groups = []
    for label in labels.labels:
        # a label without voxels is described by the segmentation and has no frame to refer to
        if label.value in framed and label.name not in found.not_assessable:
            groups.append(
                highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=_tracking(segmentation, label.name),
                    referenced_segment=highdicom.sr.ReferencedSegment.from_segmentation(
                        segmentation, label.value
                    ),
                    finding_type=dicom_code(label.type),
                    finding_category=dicom_code(label.category),
                    algorithm_id=algorithm,
                    measurements=_measures(found.structure(label.name)),
                    finding_sites=_sites(found.structure(label.name)),
                )
            )
    return groups


def _without_segment(
    found: Measurements, segmentation: Dataset
) -> list[highdicom.sr.MeasurementsAndQualitativeEvaluations]:
    """Regions of several labels, labels without a voxel, and what cannot be assessed."""
    framed = _framed(segmentation)
    names = {item.SegmentLabel for item in segmentation.SegmentSequence if item.SegmentNumber in framed}
    groups = [
        highdicom.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(segmentation, one.name), measurements=_measures(one)
        )
        for one in found.structures
        if one.name not in names
    ]
    groups += [
        highdicom.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(segmentation, name),
            qualitative_evaluations=[
                highdicom.sr.QualitativeEvaluation(name=CODES["assessable"], value=CODES["no"])
            ],
        )
        for name in found.not_assessable
    ]
    return groups


def _framed(segmentation: Dataset) -> set[int]:
    """Numbers of the segments that have frames."""
    return {
        int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for frame in segmentation.PerFrameFunctionalGroupsSequence
    }


def _measures(one: Structure) -> list[highdicom.sr.Measurement]:
    values = {"volume": one.volume_ml, "diameter": one.diameter, "lesions": float(len(one.lesions))}
    pair = one.diameters
    if pair is not None:
        values |= {"long": pair.long, "short": pair.short, "product": one.product}
    return [
        highdicom.sr.Measurement(name=CODES[name], value=round(value, 3), unit=UNITS[name])
        for name, value in values.items()
    ]


def _sites(one: Structure) -> list[highdicom.sr.FindingSite] | None:
    """Where its lesions lie, each place once; None where that is not known."""
    places: dict[tuple[str, str], None] = {}
    for lesion in one.lesions:
        where = lesion.location
        parts = where.mentioned or (("",) if where.side else ())
        places |= dict.fromkeys((part, where.side) for part in parts)
    return [
        highdicom.sr.FindingSite(SITES.get(part, BRAIN), LATERALITY.get(side)) for part, side in places
    ] or None


def _tracking(segmentation: Dataset, name: str) -> highdicom.sr.TrackingIdentifier:
    patient = str(segmentation.get("PatientID") or segmentation.StudyInstanceUID)
    return highdicom.sr.TrackingIdentifier(uid=named_uid(patient, name), identifier=name)


def _observers(provenance: Provenance) -> highdicom.sr.ObservationContext:
    device = highdicom.sr.ObserverContext(
        observer_type=highdicom.sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=highdicom.sr.DeviceObserverIdentifyingAttributes(
            uid=named_uid(provenance.software),
            name=MODEL_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=provenance.algorithm or MODEL_NAME,
        ),
    )
    person = None
    if provenance.creator:
        person = highdicom.sr.ObserverContext(
            observer_type=highdicom.sr.CodedConcept("121006", "DCM", "Person"),
            observer_identifying_attributes=highdicom.sr.PersonObserverIdentifyingAttributes(
                name=provenance.creator_name
            ),
        )
    return highdicom.sr.ObservationContext(observer_person_context=person, observer_device_context=device)


def _unlike(images: Sequence[Dataset]) -> list[Dataset]:
    """Each file once: a multi-frame one stands behind many planes."""
    return list({str(image.SOPInstanceUID): image for image in images}.values())
