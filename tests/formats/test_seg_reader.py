"""DICOM segmentations of other software, read: which segment is which label, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from slem_app.errors import BadGrid, BadLabel, BadVolume, NotFound
from slem_app.formats.seg import make_seg, write_seg
from slem_app.formats.seg_reader import read_seg
from slem_app.labels import Code, Label, LabelSet, Region
from tests.formats.seg_cases import AUTOMATIC, Case, moved, planes_by_image


@pytest.fixture
def foreign(one: Case, labels: LabelSet) -> Dataset:
    """A segmentation to be changed into what other software writes."""
    return make_seg(one.array, one.grid, labels, one.series, AUTOMATIC)


def old_code(item: Dataset, value: str) -> None:
    code = item.SegmentedPropertyTypeCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SRT", "as before 2018"


def test_segments_of_other_software_are_known_by_name_or_code(
    foreign: Dataset, one: Case, labels: LabelSet
) -> None:
    """Other numbers, other names, SNOMED-RT codes, no references to images, no SegmentIdentificationSequence
    order.
    """
    first, second, third = foreign.SegmentSequence
    first.SegmentLabel, second.SegmentLabel, third.SegmentLabel = "Segment 1", "Segment 2", " Enhancing Tumor"
    old_code(second, "M-36300")
    del third.SegmentedPropertyTypeCodeSequence
    for item in foreign.SegmentSequence:
        item.SegmentNumber = {1: 9, 2: 4, 3: 1}[item.SegmentNumber]
    for frame in foreign.PerFrameFunctionalGroupsSequence:
        number = frame.SegmentIdentificationSequence[0]
        number.ReferencedSegmentNumber = {1: 9, 2: 4, 3: 1}[number.ReferencedSegmentNumber]
        del frame.DerivationImageSequence
    foreign.SegmentSequence = [third, first, second]
    np.testing.assert_array_equal(read_seg(foreign, one.grid, labels), one.array)


def test_two_segments_of_one_label_are_united(foreign: Dataset, one: Case, labels: LabelSet) -> None:
    first, _, third = foreign.SegmentSequence
    first.SegmentLabel, first.SegmentedPropertyTypeCodeSequence = (
        third.SegmentLabel,
        third.SegmentedPropertyTypeCodeSequence,
    )
    np.testing.assert_array_equal(read_seg(foreign, one.grid, labels), np.array([0, 3, 2, 3])[one.array])


def test_an_unknown_segment_is_refused_by_name_but_not_where_it_is_empty(
    foreign: Dataset, one: Case, labels: LabelSet
) -> None:
    cyst = foreign.SegmentSequence[1]
    cyst.SegmentLabel, cyst.SegmentedPropertyTypeCodeSequence[0].CodeValue = "cyst", "441457006"
    with pytest.raises(
        BadLabel,
        match=(
            "segment 2, 'cyst', coded 441457006 'Edema', is not one of the labels necrosis, edema, "
            "enhancing tumor"
        ),
    ):
        read_seg(foreign, one.grid, labels)
    without = make_seg(np.where(one.array == 2, 0, one.array), one.grid, labels, one.series, AUTOMATIC)
    without.SegmentSequence[1].SegmentLabel, without.SegmentSequence[1].SegmentedPropertyTypeCodeSequence = (
        "cyst",
        [],
    )
    assert set(np.unique(read_seg(without, one.grid, labels))) == {0, 1, 3}


def test_a_name_and_a_code_that_contradict_each_other_are_refused(
    foreign: Dataset, one: Case, labels: LabelSet
) -> None:
    foreign.SegmentSequence[0].SegmentLabel = "edema"
    with pytest.raises(
        BadLabel, match="segment 1 is called 'edema' but its type is coded as that of 'necrosis'"
    ):
        read_seg(foreign, one.grid, labels)


def test_overlapping_segments_are_refused(foreign: Dataset, one: Case, labels: LabelSet) -> None:
    frames = foreign.PerFrameFunctionalGroupsSequence
    edema = [
        n
        for n, frame in enumerate(frames)
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 2
    ]
    other = next(
        frame for frame in frames if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 3
    )
    other.PlanePositionSequence = frames[edema[0]].PlanePositionSequence
    bits = np.unpackbits(np.frombuffer(foreign.PixelData, np.uint8), bitorder="little")
    size = foreign.Rows * foreign.Columns
    bits[list(frames).index(other) * size :][:size] = bits[edema[0] * size :][:size]
    foreign.PixelData = np.packbits(bits, bitorder="little").tobytes()
    with pytest.raises(BadLabel, match="the segments 'edema' and 'enhancing tumor' overlap"):
        read_seg(foreign, one.grid, labels)


def test_a_label_map_segmentation_is_read(foreign: Dataset, one: Case, labels: LabelSet) -> None:
    """The SOP class of 2024: one frame a slice, whose values are segment numbers."""
    images = sorted(planes_by_image(one).items())
    places = {image.SOPInstanceUID: image.ImagePositionPatient for image in map(dcmread, one.files)}
    foreign.SOPClassUID, foreign.SegmentationType = "1.2.840.10008.5.1.4.1.1.66.7", "LABELMAP"
    foreign.BitsAllocated, foreign.BitsStored, foreign.HighBit, foreign.NumberOfFrames = 8, 8, 7, len(images)
    groups = []
    for uid, _ in images:
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = places[uid]
        group.PlanePositionSequence = [place]
        groups.append(group)
    foreign.PerFrameFunctionalGroupsSequence, foreign.PixelData = (
        groups,
        b"".join(np.ascontiguousarray(plane).tobytes() for _, plane in images),
    )
    np.testing.assert_array_equal(read_seg(foreign, one.grid, labels), one.array)


def test_a_segmentation_of_another_image_is_refused(foreign: Dataset, one: Case, labels: LabelSet) -> None:
    with pytest.raises(BadGrid, match="its voxels are not those of the image"):
        read_seg(foreign, moved(one.grid, 0.5), labels)
    with pytest.raises(BadGrid, match="lie outside the image"):
        read_seg(foreign, one.grid.crop((0, 0, 0), (16, 40, 28)), labels)
    with pytest.raises(BadGrid, match="another frame of reference"):
        read_seg(foreign, one.grid, labels, frame_of_reference="1.2.3")
    np.testing.assert_array_equal(
        read_seg(foreign, one.grid, labels, frame_of_reference=foreign.FrameOfReferenceUID), one.array
    )


def test_what_is_no_segmentation_is_refused(
    foreign: Dataset, one: Case, labels: LabelSet, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="gone.dcm"):
        read_seg(tmp_path / "gone.dcm", one.grid, labels)
    with pytest.raises(BadVolume, match="is not a DICOM segmentation"):
        read_seg(one.files[0], one.grid, labels)
    content = write_seg(one.array, one.grid, labels, one.series, AUTOMATIC, tmp_path / "a.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(BadVolume, match="cut.dcm"):
        read_seg(tmp_path / "cut.dcm", one.grid, labels)
    foreign.PixelData = foreign.PixelData[:100]
    with pytest.raises(BadVolume, match="cannot be read"):
        read_seg(foreign, one.grid, labels)
    foreign.SegmentationType, foreign.MaximumFractionalValue = "FRACTIONAL", 200
    foreign.BitsAllocated, foreign.BitsStored, foreign.HighBit = 8, 8, 7
    foreign.PixelData = b"\x64" * (foreign.Rows * foreign.Columns * int(foreign.NumberOfFrames))
    with pytest.raises(BadVolume, match="fractions or probabilities"):
        read_seg(foreign, one.grid, labels)


KIDNEY, ORGAN = Code("64033007", "Kidney"), Code("123037004", "Anatomical Structure")
SIDES = LabelSet(
    tuple(
        Label(f"{side} kidney", n, KIDNEY, ORGAN, laterality=side)
        for n, side in enumerate(("right", "left"), 1)
    ),
    tuple(Region(side, (f"{side} kidney",)) for side in ("right", "left")),
)


def test_a_side_is_coded_and_read_again_whatever_the_segment_is_called(one: Case) -> None:
    array = np.where(one.array == 1, 2, np.where(one.array == 3, 1, 0)).astype(np.uint8)
    seg = make_seg(array, one.grid, SIDES, one.series, AUTOMATIC)
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in seg.SegmentSequence]
    assert [t.CodeValue for t in types] == ["64033007", "64033007"]
    sides = [t.SegmentedPropertyTypeModifierCodeSequence[0] for t in types]
    assert [(m.CodeValue, m.CodeMeaning) for m in sides] == [("24028007", "Right"), ("7771000", "Left")]
    assert np.array_equal(read_seg(seg, one.grid, SIDES), array)
    for item in seg.SegmentSequence:
        item.SegmentLabel = f"Segment_{item.SegmentNumber}"
    assert np.array_equal(read_seg(seg, one.grid, SIDES), array)
    seg.SegmentSequence[0].SegmentLabel = "left kidney"
    with pytest.raises(
        BadLabel, match="is called 'left kidney' but its type is coded as that of 'right kidney'"
    ):
        read_seg(seg, one.grid, SIDES)
    for item in seg.SegmentSequence:
        del item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
        item.SegmentLabel = "kidney"
    with pytest.raises(BadLabel, match="is not one of the labels right kidney, left kidney"):
        read_seg(seg, one.grid, SIDES)
