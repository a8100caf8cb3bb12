"""Sending what is left to the PACS and fetching what came, again and again."""

from pathlib import Path

import pytest

from slem_app import phantom
from slem_app.errors import StorageFailed
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.dicom.export import ResultExchange
from slem_app.serving.dicom.sync import DicomSync
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.store.dicom_results import DicomResults
from slem_app.store.labels import LabelVersion
from slem_app.weights import BRAIN_LABELS
from tests.serving.dicom.exchange import drawn, keep
from tests.waiting import wait_until


def test_the_courier_outlives_a_full_disk_and_a_spoilt_store(
    away: ResultExchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("slem_app.serving.dicom.sync.ROUND", 0.01)
    monkeypatch.setattr("slem_app.serving.dicom.sync.PATIENCE", 0)
    faults = [StorageFailed("the disk is full"), OSError("gone"), ValueError("a spoilt file"), KeyError("ts")]
    rounds = []

    def look() -> None:
        rounds.append(1)
        if len(rounds) <= len(faults):
            raise faults[len(rounds) - 1]

    dicom_sync = DicomSync(away, away.datastore.cases.pacs, lambda case: None)
    monkeypatch.setattr(dicom_sync, "look", look)
    dicom_sync.start()
    try:
        wait_until(lambda: len(rounds) > len(faults) + 1, 20)
    finally:
        dicom_sync.stop()
    assert "the disk is full" in caplog.text
    assert "Traceback" in caplog.text  # of those that nobody foresaw


def test_the_store_is_looked_through_once(
    head: phantom.Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phantom.write_nifti(head, tmp_path / "studies", "A")
    datastore = CaseDatastore(
        Cases(tmp_path / "studies", tmp_path / "uploads"), tmp_path / "store", {"slem_brain": BRAIN_LABELS}
    )
    results = ResultExchange(datastore, DicomResults(tmp_path / "store/dicom"))
    case = datastore.cases.find("A")
    keep(results, case, drawn(case))
    read = []
    plain = LabelVersion.meta.fget
    monkeypatch.setattr(LabelVersion, "meta", property(lambda one: read.append(one) or plain(one)))
    dicom_sync = DicomSync(results, None, lambda case: None)
    dicom_sync.look()
    first = len(read)
    for _ in range(5):
        dicom_sync.look()
    assert len(read) == first
