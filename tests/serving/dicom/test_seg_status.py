"""What is known of a version's DICOM segmentation."""

from dataclasses import replace

from slem_app.serving.dicom.seg_status import DICOM, SegStatus

MADE = SegStatus("AUTOMATIC", False, 1.0, "1.2", "1.3", "Segmentation 1", "the PACS is away")


def test_is_read_back_as_it_was_kept() -> None:
    assert SegStatus.of({DICOM: MADE.to_json()}) == MADE
    assert SegStatus.of({DICOM: {**MADE.to_json(), "later": 1}}) == MADE


def test_a_version_without_one_has_no_status() -> None:
    assert [SegStatus.of(meta) for meta in ({}, {DICOM: {}}, {DICOM: None})] == [None, None, None]


def test_what_there_is_not_is_not_told() -> None:
    failed = SegStatus("MANUAL", False, 2.0, reason="no series")
    assert failed.to_json() == {"kind": "MANUAL", "stored": False, "at": 2.0, "reason": "no series"}


def test_only_what_is_made_and_not_stored_is_unsent() -> None:
    assert MADE.unsent
    assert not replace(MADE, stored=True).unsent
    assert not replace(MADE, instance=None).unsent
