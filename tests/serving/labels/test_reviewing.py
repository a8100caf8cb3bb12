"""Decisions as the reviewer module of MONAI Label's 3D Slicer plugin sends and reads them; what is
confirmed.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import monailabel
import nibabel
import numpy as np
import pytest

from slem_app.errors import BadSetting
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.labels.reviewing import REVIEWER_FIELD, Verdict
from slem_app.serving.labels.submission import LabelSubmission

PLUGIN = "monailabel/plugins/slicer/MONAILabelReviewer"


def flag(status: str, comment: str = "", level: str = "easy") -> dict:
    fields = {"status": status, "level": level, "approvedBy": "rev", "comment": comment, "editTime": 1}
    return {REVIEWER_FIELD: fields}


@pytest.fixture
def labelled(datastore: CaseDatastore, heads: dict, tmp_path: Path) -> CaseDatastore:
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(heads["A"].labels.astype(np.uint8), heads["A"].grid.affine), path)
    datastore.save_label("A", str(path), "final", {"client_id": "ann"})
    return datastore


@pytest.fixture
def parser() -> Iterator[ModuleType]:
    """The module's own reader of what a server tells."""
    places = [Path(sys.prefix) / PLUGIN, Path(monailabel.__file__).parents[1] / PLUGIN]
    place = next((one for one in places if one.is_dir()), None)
    if place is None:
        pytest.skip("this MONAI Label has no reviewer module")
    sys.path.insert(0, str(place))
    try:
        spec = importlib.util.find_spec("MONAILabelReviewerLib.JsonParser")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(place))


def test_the_reviewer_module_reads_back_what_it_and_the_pages_decide(
    labelled: CaseDatastore, parser: ModuleType
) -> None:
    def seen():
        one = parser.JsonParser(labelled.json())
        one.init()
        return one.getMapIdToImageData()["A"]

    assert not seen().isApproved()
    labelled.update_label_info("A", "final", flag("approved", "good", "hard"))
    assert seen().isApproved()
    assert (seen().getApprovedBy(), seen().getLevel(), seen().getComment()) == ("rev", "hard", "good")
    assert labelled.history("A")[0]["state"] == "approved"
    labelled.decide("A", "final", 1, Verdict("rejected", "wrong side", named="kim"))
    assert seen().isFlagged()
    assert (seen().getApprovedBy(), seen().getComment()) == ("kim", "wrong side")


def test_a_rejected_case_is_to_be_done_again(labelled: CaseDatastore) -> None:
    assert labelled.get_labeled_images() == ["A"]
    labelled.update_label_info("A", "final", flag("flagged"))
    assert (labelled.get_labeled_images(), labelled.get_unlabeled_images()) == ([], ["A", "B"])
    assert labelled.status()["states"] == {"rejected": 1}
    info = labelled.get_label_info("A", "final")
    assert (info["state"], info[REVIEWER_FIELD]["comment"]) == (
        "rejected",
        "flagged in 3D Slicer, without a comment",
    )


def test_other_notes_stay_notes_and_bad_fields_are_refused(labelled: CaseDatastore) -> None:
    labelled.update_label_info("A", "final", {"remark": "x", **flag("")})
    info = labelled.get_label_info("A", "final")
    assert (info["remark"], info["state"]) == ("x", "submitted")
    with pytest.raises(BadSetting, match="segmentationMeta must be an object, got str"):
        labelled.update_label_info("A", "final", {REVIEWER_FIELD: "approved"})


def test_nobody_approves_a_label_by_saving_it(labelled: CaseDatastore, tmp_path: Path) -> None:
    labelled.save_label("A", str(tmp_path / "label.nii.gz"), "final", flag("approved", "mine"))
    info = labelled.get_label_info("A", "final")
    assert (info["version"], info["state"]) == (2, "submitted")
    assert (info[REVIEWER_FIELD]["status"], info[REVIEWER_FIELD]["comment"]) == ("", "mine")


def test_a_draft_that_is_saved_as_it_is_counts_as_confirmed_only(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    array, path = heads["A"].labels.astype(np.uint8), tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, heads["A"].grid.affine), path)
    datastore.writer.record = lambda *args: _record(*args)
    datastore.save_result("A", path, "original", LabelSubmission({"client_id": "ann"}), {})
    said = LabelSubmission({"client_id": "ann"})
    assert datastore.submit("A", path, "final", said).version.record.confirmed
    assert datastore.status()["confirmed"] == 1
    changed = array.copy()
    changed[tuple(np.argwhere(array == 0)[0])] = 1
    nibabel.save(nibabel.Nifti1Image(changed, heads["A"].grid.affine), path)
    assert not datastore.submit("A", path, "final", said).version.record.confirmed
    assert datastore.status()["confirmed"] == 0


def _record(case, said, automatic, preparation, warnings):
    from slem_app.store.record import LabelRecord

    return LabelRecord(1.0, "" if automatic else f"{said.client_id}@1", automatic=automatic)
