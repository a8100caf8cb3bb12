import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from slem_app import phantom
from slem_app.errors import BadLabel, BadVolume
from slem_app.grouping import group
from slem_app.labels import codings
from slem_app.studies import Study, open_source
from slem_app.volumes.read import read, read_labels

SPACING = (24.0, 24.0, 24.0)
T1, T2 = Path("T1DUAL"), Path("T2SPIR")


@pytest.fixture(scope="module")
def case() -> phantom.BodyPhantom:
    return phantom.make_abdomen(seed=1, spacing=SPACING)


@pytest.fixture
def root(case: phantom.BodyPhantom, tmp_path: Path) -> Path:
    phantom.write_chaos(case, tmp_path / "set", "7")
    return tmp_path / "set"


def only(root: Path) -> Study:
    source = open_source(root)
    return source.study(source.ids()[0])


def names_of(grey: np.ndarray) -> np.ndarray:
    """Grey values as the model's values 1..4."""
    values = codings()["chaos"].values
    order = ("liver", "right kidney", "left kidney", "spleen")
    return np.vectorize(lambda value: order.index(values[value]) + 1 if value else 0)(grey.astype(int))


@pytest.mark.parametrize("start", ["", "MR", "MR/7"])
def test_patients_are_found_from_any_folder_above_them(root: Path, start: str) -> None:
    source = open_source(root / start)
    assert (source.layout, source.ids()) == ("chaos", ("7",))


def test_series_that_share_their_uids_are_told_apart_by_folder(root: Path, case: phantom.BodyPhantom) -> None:
    files = [
        sorted((root / "MR/7" / T1 / "DICOM_anon" / phase).iterdir()) for phase in ("InPhase", "OutPhase")
    ]
    uids = [[(d.SeriesInstanceUID, d.SOPInstanceUID) for d in map(dcmread, some)] for some in files]
    assert uids[0] == uids[1]
    grouping = group(only(root))
    assert list(grouping.sequences) == ["t1_in", "t1_out", "t2"]
    assert not grouping.leftovers
    for name, series in grouping.sequences.items():
        volume = read(series)
        assert volume.grid.same_as(case.grids[name])
        assert np.abs(volume.array - case.images[name]).max() <= 0.51


def test_both_truths_are_there_each_on_its_own_grid(root: Path, case: phantom.BodyPhantom) -> None:
    study = only(root)
    (part,) = study.parts
    assert (part.id, [one.id for one in part.series]) == ("7_T2SPIR", ["T2SPIR"])
    for one, name in ((study, "t1_in"), (part, "t2")):
        grey, grid = read_labels(one.label)
        assert grid.same_as(case.grids[name])
        assert np.array_equal(names_of(grey), case.truths[name])
    assert not study.label.grid.same_as(part.label.grid)


def test_a_set_beside_computed_tomography_and_a_test_set_without_truth(
    root: Path, case: phantom.BodyPhantom
) -> None:
    phantom.write_chaos(case, root / "Test_Sets", "3", labels=False)
    (root / "CT/2/DICOM_anon").mkdir(parents=True)
    (root / "CT/2/Ground").mkdir()
    source = open_source(root)
    assert source.ids() == ("3", "7")
    assert source.study("3").label is None
    assert source.study("3").parts == ()


def test_other_studies_beside_patients_are_not_hidden(root: Path, case: phantom.BodyPhantom) -> None:
    phantom.write_dicom(case, root, "hospital")
    assert open_source(root).layout == "dicom"


def test_the_same_number_in_two_sets_stays_two_cases(root: Path, case: phantom.BodyPhantom) -> None:
    phantom.write_chaos(case, root / "Train_Sets", "7")
    assert open_source(root).ids() == ("MR_7", "Train_Sets_MR_7")


def test_both_phases_in_one_folder_are_told_apart_by_echo_time(root: Path) -> None:
    folder = root / "MR/7" / T1 / "DICOM_anon"
    for phase in ("InPhase", "OutPhase"):
        for file in (folder / phase).iterdir():
            file.rename(folder / file.name)
        (folder / phase).rmdir()
    grouping = group(only(root))
    assert {name: one.header["EchoTime"] for name, one in grouping.sequences.items()} == {
        "t1_in": 4.6,
        "t1_out": 2.3,
        "t2": 70.0,
    }


@pytest.mark.parametrize(("missing", "left"), [("InPhase", ["t1_out", "t2"]), ("OutPhase", ["t1_in", "t2"])])
def test_one_phase_alone_is_a_case_with_its_truth(root: Path, missing: str, left: list[str]) -> None:
    shutil.rmtree(root / "MR/7" / T1 / "DICOM_anon" / missing)
    study = only(root)
    assert list(group(study).sequences) == left
    if missing == "OutPhase":
        assert read_labels(study.label)[0].any()
    else:  # the truth has the names of the in-phase's files, which are gone: by their order then
        assert read_labels(study.label)[0].any()


def test_t2_alone_is_a_case(root: Path) -> None:
    shutil.rmtree(root / "MR/7" / T1)
    study = only(root)
    assert list(group(study).sequences) == ["t2"]
    assert (study.label.id, study.parts) == ("T2SPIR_Ground", ())


def test_an_unknown_sequence_beside_the_known_ones_is_reported(root: Path) -> None:
    shutil.copytree(root / "MR/7" / T2 / "DICOM_anon", root / "MR/7/XY/DICOM_anon")
    grouping = group(only(root))
    assert list(grouping.sequences) == ["t1_in", "t1_out", "t2"]
    (other,) = grouping.leftovers
    assert (other.kind, other.series.id) == ("unknown", "XY")


def test_two_candidates_for_one_sequence_are_asked_for(root: Path) -> None:
    shutil.copytree(root / "MR/7" / T2, root / "MR/7/T2SPIR again")
    study = only(root)
    grouping = group(study)
    assert list(grouping.sequences) == ["t1_in", "t1_out"]
    assert [(one.series.id, one.kind) for one in grouping.leftovers] == [
        ("T2SPIR", "tie"),
        ("T2SPIR_again", "tie"),
    ]
    assert "choose one of them by its id" in grouping.leftovers[0].reason
    assert group(study, chosen={"t2": "T2SPIR_again"}).sequences["t2"].id == "T2SPIR_again"


def test_slices_out_of_order_are_sorted_with_their_truth(root: Path, case: phantom.BodyPhantom) -> None:
    folder = root / "MR/7" / T2
    count = case.grids["t2"].shape[2]
    for below, ending in (("DICOM_anon", "dcm"), ("Ground", "png")):
        for k in range(count):
            (folder / below / f"IMG-0002-{k:05d}.{ending}").rename(
                folder / below / f"{(k * 5) % 11:02d}-{k}.{ending}"
            )
    (part,) = only(root).parts
    assert part.series[0].grid.same_as(case.grids["t2"])
    assert np.array_equal(names_of(read_labels(part.label)[0]), case.truths["t2"])


def test_a_missing_slice_is_an_error_that_says_where(root: Path) -> None:
    sorted((root / "MR/7" / T2 / "DICOM_anon").iterdir())[3].unlink()
    with pytest.raises(
        BadVolume, match="misses slices: 60.00 mm from slice 3 to 4 of 6 where 30.00 mm is usual"
    ):
        read(group(only(root)).sequences["t2"])


def truth_files(root: Path) -> list[Path]:
    return sorted((root / "MR/7" / T1 / "Ground").iterdir())


def expect(root: Path, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        read_labels(only(root).label)


def test_a_truth_of_another_size_is_refused(root: Path) -> None:
    Image.fromarray(np.zeros((5, 8), np.uint8)).save(truth_files(root)[2])
    expect(
        root,
        BadLabel,
        (
            r"IMG-0004-00006.png has 8x5 pixels, but the slices of T1DUAL InPhase have 16x12: was it "
            r"drawn on another series"
        ),
    )


def test_a_slice_without_truth_is_refused(root: Path) -> None:
    truth_files(root)[2].unlink()
    expect(
        root,
        BadLabel,
        (
            r"1 of 9 slices have no PNG file \(IMG-0004-00006.dcm\): add or remove files; an empty slice "
            r"needs a black one"
        ),
    )


def test_a_truth_without_a_slice_is_refused(root: Path) -> None:
    shutil.copy(truth_files(root)[2], truth_files(root)[2].with_name("extra.png"))
    expect(root, BadLabel, "1 files belong to no slice")


def test_names_that_do_not_match_go_by_their_numbers_if_there_is_one_a_slice(
    root: Path, case: phantom.BodyPhantom
) -> None:
    for k, path in enumerate(truth_files(root)):
        path.rename(path.with_name(f"liver_GT_{k}.png"))
    assert np.array_equal(names_of(read_labels(only(root).label)[0]), case.truths["t1_in"])
    (root / "MR/7" / T1 / "Ground/liver_GT_3.png").unlink()
    expect(
        root,
        BadLabel,
        "8 PNG files for the 9 slices of T1DUAL InPhase, and their names do not tell which is which",
    )


def test_a_damaged_or_coloured_truth_is_refused(root: Path) -> None:
    path = truth_files(root)[1]
    shape = (*np.array(Image.open(path)).shape, 3)
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    expect(root, BadVolume, "is a picture in colour")
    path.write_bytes(b"\x89PNG broken")
    expect(root, BadVolume, re.escape(f"{path.name} is no readable PNG file"))


def test_a_folder_with_other_files_among_the_slices(root: Path, image: Callable[..., Path]) -> None:
    (root / "MR/7" / T2 / "DICOM_anon" / "notes.txt").write_text("none")
    assert list(group(only(root)).sequences) == ["t1_in", "t1_out", "t2"]
