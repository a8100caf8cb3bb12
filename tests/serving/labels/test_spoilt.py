"""What a client says of a label stays in its place, and a record that is spoilt spoils nothing else."""

import json
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app.errors import BadSetting, TooLarge
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.labels.submission import LabelSubmission
from slem_app.store.record import NOTES

SPOILT = [
    "{",
    "[]",
    '{"ts": NaN}',
    '{"record": 5}',
    '{"record": {"ts": "yesterday"}}',
    '{"record": {"seconds": [1]}}',
    '{"present": {"a": 1}, "label_names": {}}',
    '{"present": [1]}',
    '{"label_names": ["edema"]}',
    '{"label_names": {"edema": "1"}}',
    '{"dicom": "sent"}',
    '{"client_id": {"a": 1}}',
    '{"notes": []}',
]


def save(datastore: CaseDatastore, case: str, **info: object) -> None:
    grid = datastore.cases.find(case).series.grid
    path = datastore.root / "sent.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.affine), path)
    datastore.save_label(case, str(path), "final", info)


def meta_file(datastore: CaseDatastore, case: str, number: int = 1) -> Path:
    return datastore.root / f"labels/{case}/final/{number:06d}/meta.json"


def test_notes_cannot_pass_for_what_the_server_says(datastore: CaseDatastore) -> None:
    save(
        datastore, "A", client_id="eva", dicom={"instance": "1.2"}, record={"reader": "tom"}, present=["all"]
    )
    before = datastore.store.latest("A", "final")
    told = {"record": {"reader": "tom"}, "present": 5, "label_names": "x", "dicom": "x", "ts": "x"}
    datastore.update_label_info("A", "final", {**told, "remark": "good"})
    version = datastore.store.latest("A", "final")
    assert version.record == before.record
    assert version.record.reader == "eva"
    assert {key: version.meta[key] for key in ("present", "label_names", "ts")} == {
        key: before.meta[key] for key in ("present", "label_names", "ts")
    }
    assert "dicom" not in version.meta
    assert version.meta[NOTES]["remark"] == "good"
    info = datastore.get_label_info("A", "final")
    assert (info["remark"], info["present"], info["version"]) == ("good", [], 1)


def test_notes_have_a_limit(datastore: CaseDatastore) -> None:
    save(datastore, "A")
    with pytest.raises(TooLarge, match="may have 1024 KiB"):
        datastore.update_label_info("A", "final", {"remark": "x" * 2**20})
    with pytest.raises(TooLarge, match="may have 1024 KiB"):
        save(datastore, "A", remark="x" * 2**20)
    with pytest.raises(TooLarge, match="may have 64 KiB"):
        datastore.update_image_info("A", {"remark": "x" * 2**16})
    with pytest.raises(BadSetting, match="cannot be kept as JSON"):
        datastore.update_label_info("A", "final", {"remark": float("nan")})
    assert len(datastore.history("A")) == 1


@pytest.mark.parametrize("text", SPOILT)
def test_a_spoilt_record_is_set_aside_and_named(
    datastore: CaseDatastore, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    for case in ("A", "A", "B"):
        save(datastore, case)
    path = meta_file(datastore, "A", 2)
    kept = path.read_text()
    path.write_text(text)
    with caplog.at_level(logging.ERROR):
        assert [one["version"] for one in datastore.history("A")] == [1]
    assert "labels/A/final/000002 is set aside" in caplog.text
    assert datastore.get_labeled_images() == ["A", "B"]
    assert datastore.status()["completed"] == 2
    assert datastore.json()["objects"]["A"]["labels"]
    save(datastore, "A")  # a number of its own
    assert [one["version"] for one in datastore.history("A")] == [1, 3]
    path.write_text(kept)  # a person has mended it
    assert [one["version"] for one in datastore.history("A")] == [1, 2, 3]


def test_spoilt_notes_on_an_image_are_passed_over(
    datastore: CaseDatastore, caplog: pytest.LogCaptureFixture
) -> None:
    datastore.update_image_info("A", {"reader": "x"})
    (datastore.root / "notes/A.json").write_text('{"a": NaN}')
    assert datastore.image_notes("A") == {}
    assert "notes/A.json are set aside" in caplog.text
    assert json.dumps(datastore.json(), allow_nan=False)


def test_a_models_result_is_never_final(datastore: CaseDatastore) -> None:
    save(datastore, "A", params={"params": {}})
    assert datastore.store.latest("A", "final").record.automatic is False
    said = LabelSubmission({"model": "slem_brain"})
    with pytest.raises(BadSetting, match="never as final"):
        datastore.save_result("A", datastore.root / "sent.nii.gz", "final", said, {})
