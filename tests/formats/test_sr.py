"""A DICOM report: what it says of each structure, and what it refers to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from slem_app import phantom
from slem_app.formats.provenance import Provenance, save_dicom
from slem_app.formats.seg import make_seg
from slem_app.formats.sr import CODES, make_sr
from slem_app.labels import LabelSet
from slem_app.measure import measure
from slem_app.studies import Series, open_source
from slem_app.types import Grid
from slem_app.volumes.location import Location

READ = Provenance(
    "SEMIAUTOMATIC", "slem_brain", "4", "Measurements", series_number=1100, creator="Reader^Rae"
)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, Grid, Series]:
    folder = tmp_path_factory.mktemp("head")
    made = phantom.make(seed=3, shape=(48, 56, 40), spacing=(1.25, 1.0, 3.0), oblique=True)
    phantom.write_dicom(dataclasses.replace(made, images={"t1c": made.images["t1c"]}), folder, "one")
    return made.labels, made.grid, open_source(folder).study("one").series[0]


def report(
    head: tuple[np.ndarray, Grid, Series],
    labels: LabelSet,
    array: np.ndarray | None = None,
    hidden: tuple[str, ...] = (),
    confirmed: bool = True,
) -> tuple[Dataset, Dataset]:
    """The segmentation and its report, as they come out of a file."""
    mine, grid, series = head
    array = mine if array is None else array
    seg = make_seg(array, grid, labels, series, READ)
    made = make_sr(measure(array, grid, labels, hidden), labels, seg, series, READ, confirmed)
    return seg, dcmread(save_dicom(made, Path(series.paths[0]).parents[2] / "report.dcm"))


def values(group: object) -> dict[str, float]:
    return {m.name.meaning: float(m.value) for m in group.get_measurements()}


def test_every_label_is_measured_on_its_segment(
    head: tuple[np.ndarray, Grid, Series], labels: LabelSet
) -> None:
    seg, made = report(head, labels)
    read = highdicom.sr.Comprehensive3DSR.from_dataset(made)
    found = measure(*head[:2], labels)
    groups = read.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == list(labels.names)
    for group, label in zip(groups, labels.labels, strict=True):
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert [*reference.referenced_segment_numbers] == [label.value]
        assert group.finding_type.value == label.type.value
        said = values(group)
        ml = (head[0] == label.value).sum() * head[1].voxel_volume / 1000
        assert said["Volume"] == pytest.approx(ml, abs=1e-3)
        one = found.structure(label.name)
        assert said["Maximum 3D diameter"] == pytest.approx(one.diameter, abs=1e-3)
        assert said["Long Axis"] == pytest.approx(one.lesions[0].diameters.long, abs=1e-3)
        assert said[CODES["product"].meaning] == pytest.approx(one.product, abs=1e-3)


def test_regions_are_there_without_a_segment_of_their_own(
    head: tuple[np.ndarray, Grid, Series], labels: LabelSet
) -> None:
    read = highdicom.sr.Comprehensive3DSR.from_dataset(report(head, labels)[1])
    groups = {g.tracking_identifier: values(g) for g in read.content.get_image_measurement_groups()}
    assert set(groups) == {"WT", "TC"}
    assert groups["WT"]["Volume"] == pytest.approx(
        (head[0] > 0).sum() * head[1].voxel_volume / 1000, abs=1e-3
    )


def test_it_belongs_to_the_patient_and_refers_to_images_and_segmentation(
    head: tuple[np.ndarray, Grid, Series], labels: LabelSet
) -> None:
    seg, made = report(head, labels)
    assert (made.PatientID, made.StudyInstanceUID) == (seg.PatientID, seg.StudyInstanceUID)
    assert (made.Modality, made.SeriesNumber, made.SeriesDescription) == ("SR", 1100, "Measurements")
    evidence = {
        item.ReferencedSOPInstanceUID
        for part in (made.CurrentRequestedProcedureEvidenceSequence, made.PertinentOtherEvidenceSequence)
        for study in part
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert seg.SOPInstanceUID in evidence
    assert len(evidence) == 1 + len(head[2].paths)
    assert "FrameOfReferenceUID" not in made


@pytest.mark.parametrize(
    ("confirmed", "flags"), [(True, ("COMPLETE", "FINAL")), (False, ("PARTIAL", "PRELIMINARY"))]
)
def test_only_what_a_reader_confirmed_is_final(
    head: tuple[np.ndarray, Grid, Series], labels: LabelSet, confirmed: bool, flags: tuple[str, str]
) -> None:
    made = report(head, labels, confirmed=confirmed)[1]
    assert (made.CompletionFlag, made.PreliminaryFlag) == flags


def test_what_cannot_be_assessed_is_said_and_has_no_number(
    head: tuple[np.ndarray, Grid, Series], labels: LabelSet
) -> None:
    array = head[0].copy()
    array[array == 3] = 1
    read = highdicom.sr.Comprehensive3DSR.from_dataset(report(head, labels, array, ("enhancing tumor",))[1])
    groups = {g.tracking_identifier: g for g in read.content.get_image_measurement_groups()}
    assert values(groups["enhancing tumor"]) == {}
    [said] = groups["enhancing tumor"].get_qualitative_evaluations()
    assert (said.name.meaning, said.value.meaning) == (CODES["assessable"].meaning, "No")


def test_a_label_without_a_voxel_has_the_volume_zero(
    head: tuple[np.ndarray, Grid, Series], labels: LabelSet
) -> None:
    array = head[0].copy()
    array[array == 2] = 0
    read = highdicom.sr.Comprehensive3DSR.from_dataset(report(head, labels, array)[1])
    groups = {g.tracking_identifier: values(g) for g in read.content.get_image_measurement_groups()}
    assert groups["edema"]["Volume"] == 0


def test_a_structure_keeps_its_tracking_uid_from_study_to_study(
    head: tuple[np.ndarray, Grid, Series], labels: LabelSet
) -> None:
    first, second = (highdicom.sr.Comprehensive3DSR.from_dataset(report(head, labels)[1]) for _ in range(2))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    uids = [
        [g.tracking_uid for g in one.content.get_volumetric_roi_measurement_groups()]
        for one in (first, second)
    ]
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == 3


def test_where_lesions_lie_is_a_finding_site(
    head: tuple[np.ndarray, Grid, Series], labels: LabelSet, tmp_path: Path
) -> None:
    array, grid, series = head
    seg = make_seg(array, grid, labels, series, READ)

    def where(mask: np.ndarray, there: Grid) -> Location:
        return Location(0.97, {"frontal lobe": 0.7, "insula": 0.2, "thalamus": 0.02})

    for told, parts in ((where, ["Frontal lobe", "Insula"]), (lambda mask, there: Location(0.02), ["Brain"])):
        made = make_sr(measure(array, grid, labels, (), told), labels, seg, series, READ, True)
        stored = dcmread(save_dicom(made, tmp_path / "report.dcm"))
        read = highdicom.sr.Comprehensive3DSR.from_dataset(stored)
        for group in read.content.get_volumetric_roi_measurement_groups():
            sites = group.finding_sites
            assert [site.value.meaning for site in sites] == parts
            assert {site.laterality.meaning for site in sites} == {"Left" if told is where else "Right"}
