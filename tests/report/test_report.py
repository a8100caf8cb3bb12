"""A case's report: where the pictures show what, what the page says, and what is confirmed."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from slem_app import phantom
from slem_app.cli import main
from slem_app.formats import write_nifti
from slem_app.labels import Code, Label, LabelSet, Region
from slem_app.measure import measure
from slem_app.report.contents import Contents
from slem_app.report.page import pdf
from slem_app.report.pictures import draw
from slem_app.result_warning import ResultWarning
from slem_app.store.labels import LabelStore
from slem_app.store.record import LabelRecord
from slem_app.trust import Place, Quality, Trust
from slem_app.types import Grid
from slem_app.volumes.levels import Volume
from slem_app.volumes.location import NO_ATLAS, Location
from slem_app.weights import load_card, model_folder

LABELS = LabelSet(
    (Label("lesion", 1, Code("1", "x", "99X"), color=(0, 255, 0)),), (Region("lesion", ("lesion",)),)
)


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIL", "SRA"])
def test_the_patients_right_is_on_the_left_and_the_front_on_top(code: str) -> None:
    """An axial picture, however the array lies: a lesion in the right front is at the top left."""
    grid = Grid((40, 50, 12), np.diag([1.0, 1.0, 5.0, 1.0]))  # RAS
    head = np.ones(grid.shape, dtype=np.float32)
    label_map = np.zeros(grid.shape, dtype=np.uint8)
    label_map[30:36, 40:46, 5:8] = 1  # x grows to the right, y to the front
    turned, there = phantom.reorient(label_map, grid, code)
    found = measure(turned, there, LABELS)
    shades = phantom.reorient(head, grid, code)[0]
    picture = draw({"t1c": Volume(shades, there)}, turned, there, LABELS, found)["t1c"]
    green = (picture[..., 1].astype(int) - picture[..., 0]) > 60
    rows, columns = np.nonzero(green)
    assert rows.size
    assert rows.mean() < picture.shape[0] / 3
    assert columns.mean() < picture.shape[1] / 3


def test_a_draft_says_so_and_a_confirmed_one_by_whom() -> None:
    grid = Grid((9, 9, 9), np.eye(4))
    found = measure(np.ones(grid.shape, np.uint8), grid, LABELS, [])
    draft = Contents("one", found, LABELS, confirmed_by="")
    done = Contents("one", found, LABELS, confirmed_by="rae", saved="2026-11-28")
    assert (draft.status, done.status) == ("DRAFT: not confirmed by a reader", "Confirmed by rae, 2026-11-28")
    assert (draft.table()["status"], done.table()["status"]) == ("draft", "confirmed")
    assert pdf(draft).startswith(b"%PDF")


def test_a_name_that_the_font_lacks_does_not_stop_the_page() -> None:
    grid = Grid((9, 9, 9), np.eye(4))
    found = measure(np.zeros(grid.shape, np.uint8), grid, LABELS, ["lesion"])
    contents = Contents(
        "病例",
        found,
        LABELS,
        "김",
        facts={"Patient": "김 철수"},
        warnings=(ResultWarning("nothing-found", "≥ 2"),),
    )
    assert pdf(contents).startswith(b"%PDF")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    made = phantom.make(seed=3, shape=(40, 48, 32), spacing=(1.25, 1.0, 3.0), oblique=True)
    phantom.write_dicom(made, folder, "one")
    store = LabelStore(folder / ".slem")
    card = load_card(model_folder("slem_brain"))
    write = partial(write_nifti, made.labels, made.grid, card.labels)
    meta = {"sequence": "t1c", "label_names": dict(zip(card.labels.names, (1, 2, 3), strict=True))}
    record = LabelRecord(ts=1_700_000_000.0, reader="rae@desk", model="slem_brain", model_version="4")
    store.save("one", "draft", write, meta | record.to_meta())
    return folder


def test_the_command_writes_a_draft_then_what_the_reader_has_confirmed(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["report", str(studies), "one", "--out", str(tmp_path)]) == 0
    assert "DRAFT" in capsys.readouterr().out
    assert dcmread(tmp_path / "one.sr.dcm").PreliminaryFlag == "PRELIMINARY"
    store = LabelStore(studies / ".slem")
    version = store.latest("one", "draft")
    store.save("one", "final", partial(shutil.copyfile, version.label), version.meta)
    assert main(["report", str(studies), "one", "--out", str(tmp_path)]) == 0
    assert "Confirmed by rae" in capsys.readouterr().out
    document, capture = (dcmread(tmp_path / f"one.{kind}.dcm") for kind in ("pdf", "sc"))
    assert bytes(document.EncapsulatedDocument).startswith(b"%PDF")
    assert "Confirmed by rae" in document.DocumentTitle
    assert capture.pixel_array.shape[2] == 3
    series = {dcmread(tmp_path / f"one.{kind}.dcm").SeriesInstanceUID for kind in ("seg", "sr", "pdf", "sc")}
    assert len(series) == 4
    assert {one.StudyInstanceUID for one in (document, capture)} == {
        dcmread(tmp_path / "one.seg.dcm").StudyInstanceUID
    }
    table = json.loads((tmp_path / "one.report.json").read_text())
    assert (table["status"], table["confirmed_by"]) == ("confirmed", "rae")
    assert table["facts"]["Patient ID"] == dcmread(tmp_path / "one.seg.dcm").PatientID
    report = highdicom.sr.Comprehensive3DSR.from_dataset(dcmread(tmp_path / "one.sr.dcm"))
    assert report.PreliminaryFlag == "FINAL"
    [edema] = [
        group
        for group in report.content.get_volumetric_roi_measurement_groups()
        if group.tracking_identifier == "edema"
    ]
    referenced = edema.referenced_segment.referenced_sop_instance_uid
    assert referenced == dcmread(tmp_path / "one.seg.dcm").SOPInstanceUID
    said = {row["name"]: row["volume_ml"] for row in table["structures"]}
    volume = next(m for m in edema.get_measurements() if m.name.meaning == "Volume")
    assert said["edema"] == pytest.approx(float(volume.value), abs=2e-3)


def test_a_report_of_an_automatic_result_says_where_to_look() -> None:
    place = Place("edema, left side: 0.4 ml, may be no tumor", 0.4, (1.0, 2.0, 3.0), "edema", "")
    quality = Quality({"WT": 0.71}, {"WT": 0.5}, "look closer")
    grid = Grid((9, 9, 9), np.eye(4))
    found = measure(np.ones(grid.shape, np.uint8), grid, LABELS, [])
    contents = Contents("one", found, LABELS, confirmed_by="", trust=Trust((place,), quality))
    assert contents.doubts == (
        "The model expects of its result: look closer (expected Dice WT 0.71).",
        "Check 1: edema, left side: 0.4 ml, may be no tumor",
    )
    assert contents.table()["trust"]["places"][0]["centre"] == (1.0, 2.0, 3.0)
    assert pdf(contents).startswith(b"%PDF")


def test_the_page_and_the_table_say_where_lesions_lie() -> None:
    grid = Grid((20, 20, 20), np.eye(4))
    array = np.zeros(grid.shape, np.uint8)
    array[2:8, 2:8, 2:8] = 1

    def where(mask: np.ndarray, there: Grid) -> Location:
        return Location(1.0, {"insula": 0.95})

    found = measure(array, grid, LABELS, (), where)
    contents = Contents("one", found, LABELS, confirmed_by="", limits=("Lobes are those of an atlas.",))
    assert contents.places == ("lesion, lesion 1 (0.22 ml): left, insula",)
    [row] = contents.table()["structures"][0]["lesions"]
    assert (row["side"], row["parts"]) == ("left", {"insula": 0.95})
    assert contents.table()["limits"] == ["Lobes are those of an atlas."]
    assert pdf(contents).startswith(b"%PDF")


def test_a_report_of_a_case_tells_sides_and_that_there_is_no_atlas(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slem_app.report.compose.installed_atlas", lambda: None)
    assert main(["report", str(studies), "one", "--out", str(tmp_path)]) == 0
    table = json.loads((tmp_path / "one.report.json").read_text())
    [whole] = [row for row in table["structures"] if row["name"] == "WT"]
    middle = phantom.make(seed=3, shape=(40, 48, 32), spacing=(1.25, 1.0, 3.0), oblique=True).head.centre
    assert whole["lesions"][0]["side"] == ("left" if middle[0] < 0 else "right")
    assert table["limits"] == [NO_ATLAS]
