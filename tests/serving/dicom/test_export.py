"""Labels and DICOM segmentations: out to the shelf or the PACS, whatever it does meanwhile, and in from
whoever has stored one.
"""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest

from slem_app import phantom
from slem_app.errors import BadLabel, NotFound, StorageFailed
from slem_app.formats.provenance import Provenance
from slem_app.formats.seg import make_seg
from slem_app.formats.seg_reader import read_seg
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.dicom.export import ResultExchange, ResultStore
from slem_app.serving.dicom.sync import DicomSync
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.models.last_result import ResultOrigin
from slem_app.store.dicom_results import DicomResults
from slem_app.volumes.report import PreparationReport
from slem_app.weights import BRAIN_LABELS
from tests.fake_pacs import FakePacs, cut, status
from tests.serving.dicom.exchange import drawn, find, keep, uid

EDITED = ResultOrigin("SEMIAUTOMATIC", "slem_brain", "2")


@pytest.mark.parametrize("sequence", ["t2f", "adc"])
def test_a_version_is_stored_as_a_segmentation_of_its_series(results: ResultExchange, sequence: str) -> None:
    case = find(results, "t1c")
    if sequence == "adc":
        other = next(one.series for one in case.grouping.leftovers if "ADC" in one.series.name)
        case = results.datastore.cases.find(f"{case.id}/{other.id}")
    else:
        case = find(results, sequence)
    array = drawn(case)
    told = results.export(keep(results, case, array), case, EDITED)
    assert (told.stored, told.description, told.kind) == (
        True,
        "Segmentation 1: slem_brain 2, corrected",
        "SEMIAUTOMATIC",
    )
    [(series, instance)] = results.home.results(uid(case))
    assert (series, instance) == (told.series, told.instance)
    seg = results.home.get(uid(case), series, instance)
    assert (seg.PatientID, seg.StudyInstanceUID, seg.SeriesNumber, seg.ContentCreatorName) == (
        "ann",
        uid(case),
        1001,
        "eva^",
    )
    np.testing.assert_array_equal(read_seg(seg, case.series.grid, BRAIN_LABELS), array)
    assert [one.SegmentLabel for one in highdicom.seg.Segmentation.from_dataset(seg).SegmentSequence] == list(
        BRAIN_LABELS.names
    )


def test_a_segmentation_says_what_was_done_to_its_study(here: ResultExchange) -> None:
    case = find(here)
    report = PreparationReport({"t2f": 8.1}, "t1c", {"t2w": "\\not\nregistered"}, "slem_brainmask", 1401.0)
    making = replace(EDITED, preparation=report.table())
    told = here.export(keep(here, case, drawn(case)), case, making)
    assert told.description == "Segmentation 1: slem_brain 2, corrected; registered, brain mask"
    assert len(told.description) <= 64
    seg = here.home.get(uid(case), told.series, told.instance)
    assert seg.SeriesDescription == told.description
    assert {one.SegmentDescription for one in seg.SegmentSequence} == {
        "WARNING: t2w was left out: not registered; t2f was moved by 8.1 mm onto t1c; "
        "everything outside the brain was removed (slem_brainmask, 1401 ml)"
    }

    longer = replace(making, model="a_model_with_a_rather_long_name")
    told = here.export(keep(here, case, drawn(case)), case, longer)
    assert told.description.endswith("2, corrected"), "what does not fit stays away whole"

    many = PreparationReport({f"t{n}": 8.1 for n in range(60)}, "t1c")
    told = here.export(keep(here, case, drawn(case)), case, replace(making, preparation=many.table()))
    seg = here.home.get(uid(case), told.series, told.instance)
    assert len(seg.SegmentSequence[0].SegmentDescription) == 1024


def test_every_version_has_a_series_of_its_own(results: ResultExchange) -> None:
    case = find(results)
    told = [
        results.export(keep(results, case, drawn(case, seed)), case, making)
        for seed, making in enumerate((EDITED, ResultOrigin("MANUAL")))
    ]
    assert len({one.series for one in told}) == 2
    assert told[1].description == "Segmentation 2: drawn by hand"
    assert len(results.home.results(uid(case))) == 2
    assert results.home.results(uid(find(results, patient="ben"))) == []


@pytest.mark.parametrize("fault", [status(409), cut(0.0)], ids=["409", "cut"])
def test_what_cannot_be_stored_is_kept_told_and_sent_again(
    away: ResultExchange, pacs: FakePacs, fault: object
) -> None:
    case = find(away)
    pacs.fail("POST ", fault)
    version = keep(away, case, drawn(case))
    told = away.export(version, case, EDITED)
    assert not told.stored
    assert "the PACS at" in told.reason
    assert [(one, kept.number) for one, kept in away.unsent()] == [(case.id, 1)]
    again = ResultExchange(away.datastore, away.home)  # as after a restart
    pacs.mend()
    assert again.send(version).stored
    assert again.send(version).stored  # the same instance: once more changes nothing
    assert again.unsent() == []
    assert away.home.results(uid(case)) == [(told.series, told.instance)]
    assert again.collect(case.id) == 0  # its own


def test_storing_is_tried_again_at_once_where_that_may_help(away: ResultExchange, pacs: FakePacs) -> None:
    case = find(away)
    pacs.fail("POST ", status(503), times=2)
    assert away.export(keep(away, case, drawn(case)), case, EDITED).stored


def test_the_courier_sends_what_is_left_and_fetches_what_came(
    away: ResultExchange, pacs: FakePacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, came = find(away), []
    dicom_sync = DicomSync(away, away.datastore.cases.pacs, came.append)
    pacs.fail("POST ", status(409))
    away.export(keep(away, case, drawn(case)), case, EDITED)
    pacs.mend()
    dicom_sync.look()
    assert len(away.unsent()) == 1  # it was tried just now
    monkeypatch.setattr("slem_app.serving.dicom.sync.AGAIN", 0.0)
    foreign = make_seg(
        drawn(case, 7), case.series.grid, BRAIN_LABELS, case.series, Provenance("MANUAL", creator="Kim^Li")
    )
    pacs.dicom_results.put(foreign)
    dicom_sync.look()
    assert away.unsent() == []
    assert came == [case.id]
    dicom_sync.look()
    assert came == [case.id]


@pytest.mark.parametrize(("kind", "tag"), [("MANUAL", "final"), ("AUTOMATIC", "original")])
def test_segmentations_of_others_become_versions(results: ResultExchange, kind: str, tag: str) -> None:
    case = find(results, "t2w")
    array = drawn(case, 3)
    foreign = make_seg(
        array,
        case.series.grid,
        BRAIN_LABELS,
        case.series,
        Provenance(kind, "other" * (kind != "MANUAL"), "7", "By hand", creator="Kim^Li"),
    )
    put(results.home, foreign)
    assert results.collect(case.id) == 1
    assert results.collect(case.id) == 0
    version = results.datastore.store.latest(case.id, tag)
    assert (version.meta["sequence"], version.meta["series"], version.meta["dicom"]["description"]) == (
        "t2w",
        case.series.id,
        "By hand",
    )
    assert (version.record.reader, version.record.client, version.record.automatic) == (
        "Kim^Li",
        "SLeM Label",
        kind == "AUTOMATIC",
    )
    assert results.datastore.get_label_uri(case.id, tag) == str(version.label)
    np.testing.assert_array_equal(np.asarray(_voxels(version.label)), array)
    assert results.unsent() == []
    assert (case.id in results.datastore.get_labeled_images()) is (tag == "final")


def test_a_segmentation_of_something_else_is_no_label_and_told_once(
    here: ResultExchange, caplog: pytest.LogCaptureFixture
) -> None:
    case = find(here)
    foreign = make_seg(drawn(case), case.series.grid, BRAIN_LABELS, case.series, Provenance("MANUAL"))
    for segment in foreign.SegmentSequence:
        segment.SegmentLabel = "prostate"
        segment.SegmentedPropertyTypeCodeSequence[0].CodeValue = "41216001"
    put(here.home, foreign)
    assert [here.collect(case.id) for _ in range(2)] == [0, 0]
    assert caplog.text.count("'prostate'") == 1
    assert here.datastore.store.history(case.id) == ()


def test_what_is_no_label_is_not_remembered_without_end(
    here: ResultExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slem_app.serving.dicom.export.REFUSED", 2)
    monkeypatch.setattr(here, "_take", refuse)
    monkeypatch.setattr(type(here.home), "results", lambda *_: [("1", str(one)) for one in range(5)])
    assert here.collect(find(here).id) == 0
    assert list(here.refused) == ["3", "4"]


def refuse(*_: object) -> None:
    raise BadLabel("as asked")


def test_a_segmentation_that_the_pacs_no_longer_has_is_forgotten(
    away: ResultExchange, pacs: FakePacs
) -> None:
    case = find(away)
    dicom_sync = DicomSync(away, away.datastore.cases.pacs, lambda _: None)
    foreign = make_seg(
        drawn(case, 7), case.series.grid, BRAIN_LABELS, case.series, Provenance("MANUAL", creator="Kim^Li")
    )
    pacs.dicom_results.put(foreign)
    dicom_sync.look()
    assert dicom_sync.seen == {foreign.SeriesInstanceUID}
    shutil.rmtree(pacs.dicom_results.root)
    dicom_sync.look()
    assert dicom_sync.seen == set()


def test_a_label_of_nifti_images_has_a_segmentation_of_what_viewers_see(
    head: phantom.Phantom, tmp_path: Path
) -> None:
    phantom.write_nifti(head, tmp_path / "studies", "A")
    datastore = CaseDatastore(
        Cases(tmp_path / "studies", tmp_path / "uploads"), tmp_path / "store", {"slem_brain": BRAIN_LABELS}
    )
    results, case = ResultExchange(datastore, DicomResults(tmp_path / "dicom")), datastore.cases.find("A")
    made = results.export(keep(results, case, drawn(case)), case, EDITED)
    kept = results.home.get(datastore.cases.view("A").study, made.series, made.instance)
    assert kept.Modality == "SEG"


def test_an_unknown_result_is_not_found(here: ResultExchange) -> None:
    with pytest.raises(NotFound):
        here.home.get(uid(find(here)), "1.2", "1.3")


def put(home: ResultStore, dataset: object) -> None:
    """As somebody else's software does."""
    home.put(dataset)


def _voxels(path: Path) -> np.ndarray:
    import nibabel

    return nibabel.load(path).dataobj


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_while_a_result_is_sent_costs_neither_label_nor_result(
    away: ResultExchange, pacs: FakePacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = find(away)
    version = keep(away, case, drawn(case))
    pacs.fail("POST ", status(409))
    with monkeypatch.context() as patch:
        patch.setattr("slem_app.store.labels.atomic_file", full_disk)
        told = away.export(version, case, EDITED)
    assert not told.stored
    assert away.unsent() == [(case.id, version)]
    pacs.mend()
    assert away.send(version).stored
    assert away.unsent() == []
    assert version.meta["dicom"]["stored"]


def test_a_version_that_was_taken_away_is_not_sent(
    here: ResultExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = find(here)
    version = keep(here, case, drawn(case))
    monkeypatch.setattr(here.home, "put", full_disk_of_the_shelf)
    assert not here.export(version, case, EDITED).stored
    assert len(here.unsent()) == 1
    here.datastore.store.remove(case.id, "final")
    assert here.unsent() == []


def full_disk_of_the_shelf(*_: object) -> None:
    raise StorageFailed("the disk is full")
