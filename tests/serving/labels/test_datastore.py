"""MONAI Label's view of the cases: images, labels renumbered by name, what is done, bad labels."""

import json
import resource
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app import phantom
from slem_app.errors import BadGrid, BadLabel, BadSetting, BadVolume, NotFound, StorageFailed
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.labels.submission import LabelSubmission
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

NAMES = ["necrosis", "edema", "enhancing tumor"]


def label_file(array: np.ndarray, grid: Grid, path: Path) -> str:
    nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), grid.affine), path)
    return str(path)


def segments(*names: str) -> dict:
    return {"label_info": [{"name": name, "idx": place + 2} for place, name in enumerate(names)]}


def stored(datastore: CaseDatastore, case: str, tag: str = "final") -> np.ndarray:
    return np.asarray(nibabel.load(datastore.get_label_uri(case, tag)).dataobj)


def test_lists_cases_and_what_is_done(datastore: CaseDatastore, heads: dict, tmp_path: Path) -> None:
    assert datastore.list_images() == ["A", "B"]
    assert datastore.status() == {
        "total": 2,
        "completed": 0,
        "label_tags": {},
        "states": {},
        "confirmed": 0,
    }
    path = label_file(heads["A"].labels, heads["A"].grid, tmp_path / "label.nii.gz")
    assert datastore.save_label("A", path, "final", segments(*NAMES)) == "A"
    datastore.save_label(
        "B", label_file(heads["B"].labels, heads["B"].grid, tmp_path / "label.nii.gz"), "original", {}
    )
    assert datastore.status() == {
        "total": 2,
        "completed": 1,
        "label_tags": {"final": 1, "original": 1},
        "states": {"submitted": 1, "draft": 1},
        "confirmed": 0,
    }
    assert (datastore.get_labeled_images(), datastore.get_unlabeled_images()) == (["A"], ["B"])
    assert datastore.get_labeled_images("original") == ["B"]
    assert datastore.get_labeled_images("final", ["liver"]) == []
    assert datastore.get_labels_by_image_id("A") == {"final": "A"}
    assert datastore.get_label_by_image_id("A", "final") == "A"
    assert [(Path(row["image"]).name, Path(row["label"]).name) for row in datastore.datalist()] == [
        ("A-t1c.nii.gz", "label.nii.gz")
    ]
    objects = datastore.json()["objects"]
    assert list(objects["A"]["labels"]) == ["final"]
    assert objects["A"]["labels"]["final"]["info"]["present"] == NAMES


def test_serves_the_source_file_under_a_name_that_tells_case_and_sequence(
    datastore: CaseDatastore, studies: Path
) -> None:
    assert datastore.get_image_uri("A") == str(studies / "A/A-t1c.nii.gz")
    assert datastore.get_image_uri("A/t2f") == str(studies / "A/A-t2f.nii.gz")
    assert datastore.get_image("A") == (studies / "A/A-t1c.nii.gz").read_bytes()
    info = datastore.get_image_info("A/t2f")
    assert (info["name"], info["sequence"]) == ("A_t2f.nii.gz", "t2f")
    assert info["sequences"]["t1c"]["series"] == "t1c"


def test_a_dicom_case_is_served_as_one_file(heads: dict, tmp_path: Path) -> None:
    phantom.write_dicom(heads["B"], tmp_path / "dicom", "B")
    datastore = CaseDatastore(
        Cases(tmp_path / "dicom", tmp_path / "store/uploads"),
        tmp_path / "store",
        {"slem_brain": BRAIN_LABELS},
    )
    (case,) = datastore.list_images()
    path = Path(datastore.get_image_uri(case))
    image = nibabel.load(path)
    assert Grid(image.shape, image.affine).same_as(datastore.cases.find(case).series.grid)
    assert tmp_path / "store" in path.parents
    assert datastore.get_image_uri(case) == str(path)  # made once
    assert (
        np.corrcoef(np.sort(np.asarray(image.dataobj).ravel()), np.sort(heads["B"].images["t1c"].ravel()))[
            0, 1
        ]
        > 0.999
    )


def test_a_channel_of_a_4d_file_is_served_as_one_3d_file(heads: dict, tmp_path: Path) -> None:
    head, folder = heads["A"], tmp_path / "Task01"
    (folder / "imagesTr").mkdir(parents=True)
    order = ("t2f", "t1n", "t1c", "t2w")
    stacked = np.stack([head.images[sequence] for sequence in order], axis=-1).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(stacked, head.grid.affine), folder / "imagesTr/BRATS_001.nii.gz")
    channels = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    training = [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}]
    (folder / "dataset.json").write_text(
        json.dumps({"modality": channels, "labels": {"0": "background"}, "training": training, "test": []})
    )
    datastore = CaseDatastore(
        Cases(folder, tmp_path / "store/uploads"), tmp_path / "store", {"slem_brain": BRAIN_LABELS}
    )
    for key, sequence in (("BRATS_001", "t1c"), ("BRATS_001/t2f", "t2f")):
        image = nibabel.load(datastore.get_image_uri(key))
        np.testing.assert_allclose(np.asarray(image.dataobj), head.images[sequence], atol=1e-3)
        assert Grid(image.shape, image.affine).same_as(head.grid)
        assert datastore.get_image_info(key)["name"] == f"BRATS_001_{sequence}.nii.gz"


def test_labels_are_renumbered_by_position_and_name(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    shuffled = np.array([0, 3, 1, 2])[heads["A"].labels]
    path = label_file(shuffled, heads["A"].grid, tmp_path / "label.nii.gz")
    datastore.save_label("A", path, "final", segments("edema", "enhancing tumor", "necrosis"))
    np.testing.assert_array_equal(stored(datastore, "A"), heads["A"].labels)
    assert datastore.get_label_info("A", "final")["label_names"] == {
        "necrosis": 1,
        "edema": 2,
        "enhancing tumor": 3,
    }


def test_a_background_segment_is_background(datastore: CaseDatastore, heads: dict, tmp_path: Path) -> None:
    path = label_file(heads["A"].labels + 1, heads["A"].grid, tmp_path / "label.nii.gz")
    datastore.save_label("A", path, "final", segments("background", *NAMES))
    np.testing.assert_array_equal(stored(datastore, "A"), heads["A"].labels)


def test_an_empty_segment_of_another_name_does_no_harm(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    path = label_file(heads["A"].labels, heads["A"].grid, tmp_path / "label.nii.gz")
    datastore.save_label("A", path, "final", segments(*NAMES, "ventricle"))
    np.testing.assert_array_equal(stored(datastore, "A"), heads["A"].labels)


def test_a_label_may_lie_on_any_sibling_of_the_case(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    grid = heads["B"].grids["t2f"]
    path = label_file(np.ones(grid.shape), grid, tmp_path / "label.nii.gz")
    datastore.save_label("B", path, "final", segments(*NAMES))
    assert datastore.get_label_info("B/t1c", "final")["sequence"] == "t2f"


def test_a_cropped_label_is_put_back_on_its_image(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    box = tuple(
        slice(int(low), int(high) + 1)
        for low, high in zip(np.argwhere(heads["A"].labels).min(0), np.argwhere(heads["A"].labels).max(0))
    )
    part = heads["A"].grid.crop(
        tuple(side.start for side in box), tuple(side.stop - side.start for side in box)
    )
    datastore.save_label(
        "A", label_file(heads["A"].labels[box], part, tmp_path / "label.nii.gz"), "final", segments(*NAMES)
    )
    np.testing.assert_array_equal(stored(datastore, "A"), heads["A"].labels)


def test_every_earlier_version_stays_when_a_bad_label_comes(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    grid, path = heads["A"].grid, tmp_path / "label.nii.gz"
    for value in (1, 2):
        datastore.save_label(
            "A", label_file(np.full(grid.shape, value), grid, path), "final", segments(*NAMES)
        )
    strange = Grid((5, 5, 5), np.diag([3.3, 3.3, 3.3, 1.0]))
    with pytest.raises(
        BadGrid, match="No other sequence of case 'A' has that grid either.*nothing was saved"
    ):
        datastore.save_label("A", label_file(np.ones((5, 5, 5)), strange, path), "final", segments(*NAMES))
    label_file(np.ones(grid.shape), grid, path)
    with pytest.raises(
        BadLabel, match="unknown label 'liver': this model has necrosis, edema, enhancing tumor"
    ):
        datastore.save_label("A", str(path), "final", segments("liver"))
    with pytest.raises(BadLabel, match="label_info must be a list"):
        datastore.save_label("A", str(path), "final", {"label_info": {"name": "edema"}})
    with pytest.raises(BadLabel, match="label values \\[4\\] have no name"):
        datastore.save_label("A", label_file(np.full(grid.shape, 4), grid, path), "final", segments(*NAMES))
    with pytest.raises(NotFound, match="no model 'other'; this server has slem_brain"):
        datastore.save_label("A", str(path), "final", {"model": "other"})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadVolume, match="truncated"):
        datastore.save_label("A", str(path), "final", segments(*NAMES))
    assert [
        np.asarray(nibabel.load(version.label).dataobj).max()
        for version in datastore.store.versions("A", "final")
    ] == [1, 2]


def test_a_full_disk_while_saving_is_told_and_loses_nothing(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    rng, grid = np.random.default_rng(0), heads["A"].grid
    path = label_file(rng.integers(0, 4, grid.shape), grid, tmp_path / "label.nii.gz")
    datastore.save_label("A", path, "final", segments(*NAMES))
    before = stored(datastore, "A")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # a write beyond this fails as on a full disk
    try:
        with pytest.raises(StorageFailed, match="Nothing that was there before is lost"):
            datastore.save_label("A", path, "final", segments(*NAMES))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_array_equal(stored(datastore, "A"), before)
    assert len(datastore.store.versions("A", "final")) == 1


def test_notes_about_images_and_labels_are_kept(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    datastore.update_image_info("A", {"reader": "x"})
    datastore.update_image_info("A/t2f", {"strategy": {"random": {"ts": 5}}})
    assert datastore.image_notes("A") == {"reader": "x", "strategy": {"random": {"ts": 5}}}
    assert datastore.get_image_info("A")["reader"] == "x"
    datastore.save_label(
        "A", label_file(heads["A"].labels, heads["A"].grid, tmp_path / "label.nii.gz"), "final", {}
    )
    datastore.update_label_info("A", "final", {"checked": True})
    assert datastore.get_label_info("A", "final")["checked"] is True
    datastore.remove_label("A", "final")
    with pytest.raises(NotFound, match="has no label with tag 'final'"):
        datastore.get_label_uri("A", "final")


def test_uploaded_images_become_cases(datastore: CaseDatastore, studies: Path, tmp_path: Path) -> None:
    path = tmp_path / "upload.nii.gz"
    shutil.copy(studies / "A/A-t2w.nii.gz", path)
    assert datastore.add_image("my scan", str(path), {"user": "x"}) == "my scan"
    assert datastore.list_images() == ["A", "B", "my scan"]
    case = datastore.cases.find("my scan")
    assert (case.sequence, len(case.warnings)) == ("t1c", 1)  # the name tells nothing
    datastore.add_image("my scan", str(path), {})  # the same again
    shutil.copy(studies / "A/A-t2f.nii.gz", path)
    with pytest.raises(BadSetting, match="another image with the id 'my scan'"):
        datastore.add_image("my scan", str(path), {})
    with pytest.raises(BadSetting, match="another image with the id 'A'"):
        datastore.add_image("A", str(path), {})
    datastore.remove_image("my scan")
    assert datastore.list_images() == ["A", "B"]
    assert len(list((tmp_path / "store/removed").rglob("*.nii.gz"))) == 1


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\\b", "x" * 151])
def test_an_upload_cannot_choose_its_place(datastore: CaseDatastore, studies: Path, name: str) -> None:
    with pytest.raises(BadSetting, match="cannot be the id of an image"):
        datastore.add_image(name, str(studies / "A/A-t2w.nii.gz"), {})


def test_an_upload_must_be_a_3d_image(datastore: CaseDatastore, tmp_path: Path) -> None:
    with pytest.raises(BadVolume, match="send .nii.gz or .nii"):
        datastore.add_image("x", str(tmp_path / "x.png"), {})
    path = tmp_path / "x.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), path)
    with pytest.raises(BadVolume, match="where one 3D image is needed"):
        datastore.add_image("x", str(path), {})
    assert datastore.list_images() == ["A", "B"]


def test_sources_are_never_removed(datastore: CaseDatastore, studies: Path) -> None:
    with pytest.raises(BadSetting, match="this server removes nothing"):
        datastore.remove_image("A")
    assert (studies / "A").is_dir()


def test_two_readers_of_one_case_both_stay_and_one_rule_says_which_counts(
    heads: dict, cases: Cases, tmp_path: Path
) -> None:
    datastore = CaseDatastore(cases, tmp_path / "store", {"slem_brain": BRAIN_LABELS}, experts=("eva",))
    path = label_file(heads["A"].labels, heads["A"].grid, tmp_path / "label.nii.gz")
    nothing = label_file(0 * heads["A"].labels, heads["A"].grid, tmp_path / "nothing.nii.gz")
    datastore.save_label("A", path, "final", {**segments(*NAMES), "client_id": "eva"})
    datastore.save_label("A", nothing, "final", {"client_id": "tom", "record": {"reader": "eva@x"}})
    datastore.save_label("A", nothing, "original", {"client_id": "eva"})
    assert [(one["tag"], one["version"], one["reader"], one["counts"]) for one in datastore.history("A")] == [
        ("final", 1, "eva", True),
        ("final", 2, "tom", False),
        ("original", 1, "eva", False),
    ]
    assert stored(datastore, "A").any()
    assert datastore.get_label_info("A", "final")["version"] == 1
    assert datastore.get_labeled_images("final", ["edema"]) == ["A"]
    datastore.update_label_info("A", "final", {"remark": "good"})
    assert datastore.get_label_info("A", "final")["remark"] == "good"
    datastore.experts = ()
    assert not stored(datastore, "A").any()
    assert [one["counts"] for one in datastore.history("A")] == [False, True, False]


def test_a_saved_label_is_told_by_its_own_version(
    datastore: CaseDatastore, heads: dict, tmp_path: Path
) -> None:
    path = label_file(heads["A"].labels, heads["A"].grid, tmp_path / "label.nii.gz")
    said = [LabelSubmission({"client_id": who}) for who in ("eva", "tom")]
    first, second = (datastore.submit("A/t1c", Path(path), "final", one) for one in said)
    assert [(one.case, one.version.number, one.version.record.who) for one in (first, second)] == [
        ("A", 1, "eva"),
        ("A", 2, "tom"),
    ]


def test_a_label_lies_right_on_another_image_of_a_study_whose_sequences_were_moved(
    cases: Cases, heads: dict, tmp_path: Path
) -> None:
    move = np.eye(4)
    move[:3, 3] = (8.0, -4.0, 12.0)
    asked = []
    datastore = CaseDatastore(
        cases,
        tmp_path / "store",
        {"slem_brain": BRAIN_LABELS},
        moves=lambda case, model: asked.append((case.id, model)) or {"t2f": move},
    )
    head = heads["A"]
    info = {"model": "slem_brain", **segments(*NAMES)}
    datastore.save_label(
        "A", label_file(head.labels, head.grid, tmp_path / "label.nii.gz"), "final", dict(info)
    )
    for same in ("A", "A/t1c", "A/t2w"):
        np.testing.assert_array_equal(stored(datastore, same), head.labels)
    path = Path(datastore.get_label_uri("A/t2f", "final"))
    image = nibabel.load(path)
    shown, grid = np.asarray(image.dataobj), Grid(image.shape, image.affine)
    assert grid.same_as(head.grids["t2f"])
    there = grid.to_world(np.argwhere(shown == 2)).mean(axis=0)
    expected = head.grid.to_world(np.argwhere(head.labels == 2)).mean(axis=0) + move[:3, 3]
    np.testing.assert_allclose(there, expected, atol=0.5)
    assert datastore.get_label_uri("A/t2f", "final") == str(path), "it is made once"
    assert asked[-1] == ("A", "slem_brain")

    drawn = label_file(shown, grid, tmp_path / "label.nii.gz")
    datastore.save_label("A/t2f", drawn, "final", dict(info))
    back = stored(datastore, "A")
    assert 2 * (back * head.labels > 0).sum() / ((back > 0).sum() + (head.labels > 0).sum()) > 0.98
    np.testing.assert_array_equal(stored(datastore, "A/t2f"), shown)


def test_where_images_cannot_be_used_the_label_is_given_as_it_was_saved(
    cases: Cases, heads: dict, tmp_path: Path
) -> None:
    def moves(case: object, model: str) -> dict:
        raise BadVolume("no brain")

    datastore = CaseDatastore(cases, tmp_path / "store", {"slem_brain": BRAIN_LABELS}, moves=moves)
    path = label_file(heads["A"].labels, heads["A"].grid, tmp_path / "label.nii.gz")
    datastore.save_label("A", path, "final", segments(*NAMES))
    np.testing.assert_array_equal(stored(datastore, "A/t2f"), heads["A"].labels)
