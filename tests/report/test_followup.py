"""Two visits of a phantom patient: which lesion is which, what changed, and what cannot be said."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from slem_app import phantom
from slem_app.cli import main
from slem_app.formats import write_nifti
from slem_app.phantom.head import AXES, rotation
from slem_app.report.followup import FollowUp, compose_followup
from slem_app.store.case_labels import CaseLabels
from slem_app.store.labels import LabelStore
from slem_app.store.record import LabelRecord
from slem_app.weights import load_card, model_folder

SHAPE, SPACING = (44, 52, 38), (2.4, 2.4, 2.4)  # a small head: quick to register
GROWS, SHRINKS, NEW = (np.array(spot, float) for spot in ((30, 20, 12), (-30, -30, 15), (-28, 30, 5)))
FIRST = [(GROWS, (7.0, 12.0, 18.0)), (SHRINKS, (6.0, 13.0, 19.0))]
SECOND = [(GROWS, (10.0, 16.0, 22.0)), (SHRINKS, (3.0, 9.0, 14.0)), (NEW, (3.0, 12.0, 15.0))]
NAMES = ("necrosis", "edema", "enhancing tumor")


def move(degrees: tuple[float, float, float] = (4, -3, 6), shift: tuple[float, float, float] = (8, -5, 6)):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(np.array(degrees)), shift
    return matrix


def head(seed: int) -> phantom.Head:
    return phantom.draw(seed, float((np.array(SHAPE) * SPACING / (AXES * 2 + 16)).min()))


def visit(patient: phantom.Head, seed: int, tumours: list, where: np.ndarray) -> phantom.Phantom:
    return phantom.make(
        shape=SHAPE, spacing=SPACING, head=phantom.at_next_visit(patient, seed, where, tumours)
    )


def save(
    root: Path, case: str, made: phantom.Phantom, tag: str = "final", names: tuple[str, ...] = NAMES
) -> None:
    labels = load_card(model_folder("slem_brain")).labels
    meta = {"sequence": "t1c", "label_names": dict(zip(names, (1, 2, 3), strict=False))}
    record = LabelRecord(ts=1_700_000_000.0, reader="rae@desk", model="slem_brain", model_version="4")
    write = partial(write_nifti, made.labels, made.grid, labels)
    LabelStore(root / ".slem").save(case, tag, write, meta | record.to_meta())


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    first = visit(head(5), 105, FIRST, np.eye(4))
    second = visit(head(5), 106, SECOND, move())
    stranger = visit(head(5), 107, FIRST, np.eye(4))
    brain = stranger.images["t1c"] > 0  # phantoms have one anatomy: another one needs drawing
    detail = gaussian_filter(np.random.default_rng(0).standard_normal(brain.shape), 1.2)
    stranger.images["t1c"][brain] = np.clip(600 + 1500 * detail[brain], 1, None)
    for case, made in (
        ("BraTS-GLI-00001-100", first),
        ("BraTS-GLI-00001-101", second),
        ("BraTS-GLI-00002-100", stranger),
        ("BraTS-GLI-00002-101", first),  # another head under this name
    ):
        phantom.write_nifti(made, root, case, labels=False)
        save(root, case, made)
    return root


def compose(studies: Path, case: str) -> FollowUp:
    return compose_followup(CaseLabels(str(studies), studies / ".slem"), case, "slem_brain")


@pytest.fixture(scope="module")
def found(studies: Path) -> FollowUp:
    return compose(studies, "BraTS-GLI-00001-101")


def test_lesions_are_matched_over_a_move_and_a_new_one_is_named(found: FollowUp) -> None:
    assert found.move is not None
    assert found.move.doubt == ""
    assert [change.pair.kind for change in found.changes] == ["same", "new", "same"]
    grown, new, shrunk = (change.volumes_ml for change in found.changes)
    assert grown[1] > 1.5 * grown[0]
    assert shrunk[1] < 0.7 * shrunk[0]
    assert new[0] == 0
    assert found.response is not None
    assert found.response.category.name == "PD"
    assert found.response.reasons[0].startswith("A new measurable lesion")
    assert not found.draft


def test_volumes_are_those_of_each_visit_s_own_label(found: FollowUp) -> None:
    row = next(row for row in found.totals() if row["name"] == "enhancing tumor")
    made = visit(head(5), 106, SECOND, move())
    assert row["volumes_ml"][-1] == pytest.approx(made.grid.millilitres(made.labels == 3), abs=1e-3)


def test_the_two_pictures_show_the_same_slice(found: FollowUp) -> None:
    titles = list(found.pictures)
    assert titles == ["100, t1c", "101, t1c"]
    assert all(picture.std() > 10 for picture in found.pictures.values())


def test_another_head_under_the_same_name_is_recognised_and_nothing_is_matched(studies: Path) -> None:
    found = compose(studies, "BraTS-GLI-00002-101")
    assert found.move is not None
    assert found.move.likeness < 0.5, found.move
    assert found.changes == ()
    assert found.response is not None
    assert found.response.category.name == "NE"
    assert any("could not be laid on each other" in text for text in found.doubts)


def test_the_first_visit_has_nothing_before_it(studies: Path) -> None:
    found = compose(studies, "BraTS-GLI-00001-100")
    assert found.response is None
    assert found.doubts[-1].startswith("There is no earlier visit with a label")


def test_visits_that_cannot_be_compared_are_left_out_with_the_reason(tmp_path: Path) -> None:
    made = visit(head(5), 105, FIRST, np.eye(4))
    for number in (100, 101, 102, 103):
        phantom.write_nifti(made, tmp_path, f"BraTS-GLI-00001-{number}", labels=False)
    (tmp_path / "BraTS-GLI-00001-102" / "BraTS-GLI-00001-102-t1c.nii.gz").unlink()
    save(tmp_path, "BraTS-GLI-00001-101", made, names=("liver", "spleen", "kidney"))
    save(tmp_path, "BraTS-GLI-00001-102", made)
    save(tmp_path, "BraTS-GLI-00001-103", made, tag="original")
    found = compose(tmp_path, "BraTS-GLI-00001-103")
    assert len(found.visits) == 1
    assert found.draft
    assert [text.partition(" is left out")[0] for text in found.doubts[:3]] == [
        "BraTS-GLI-00001-100 (100) has no label and",
        "BraTS-GLI-00001-101 (101)",
        "BraTS-GLI-00001-102 (102)",
    ]
    assert "does not fit slem_brain" in found.doubts[1]


def test_the_command_writes_page_and_table_for_case_and_patient(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["followup", str(studies), "BraTS-GLI-00001", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "RANO 2.0, images alone: PD" in said
    table = json.loads((tmp_path / "BraTS-GLI-00001-101.followup.json").read_text())
    assert [one["case"] for one in table["visits"]] == ["BraTS-GLI-00001-100", "BraTS-GLI-00001-101"]
    assert table["response"]["category"] == "PD"
    assert [one["kind"] for one in table["lesions"]] == ["same", "new", "same"]
    assert (tmp_path / "BraTS-GLI-00001-101.followup.pdf").read_bytes().startswith(b"%PDF")
    assert main(["followup", str(studies), "nobody", "--out", str(tmp_path)]) == 2
    assert "no case and no patient of that name" in capsys.readouterr().err
