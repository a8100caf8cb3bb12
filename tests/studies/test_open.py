import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slem_app.errors import BadLabel, BadSetting, BadStudy, BadVolume, NotFound
from slem_app.grouping import group
from slem_app.studies import Study, open_source

Files = Callable[..., Path]


def names(study: Study) -> list[str]:
    return [series.id for series in study.series]


def no_header_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a header was read")

    monkeypatch.setattr("slem_app.studies.nifti_header.NiftiHeader.read", refuse)
    monkeypatch.setattr("slem_app.studies.dicom_header.read_file", refuse)


def brats(case: str, *suffixes: str) -> list[str]:
    return [f"{case}/{case}{suffix}.nii.gz" for suffix in suffixes]


@pytest.mark.parametrize(
    ("case", "suffixes", "layout"),
    [
        ("Brats18_A", ("_t1", "_t1ce", "_t2", "_flair", "_seg"), "brats2018"),
        ("BraTS2021_00001", ("_t1", "_t2", "_seg"), "brats2018"),
        ("BraTS-GLI-00001-000", ("-t1n", "-t1c", "-t2w", "-t2f", "-seg"), "brats2023"),
        ("BraTS-GLI-00002-000", ("-t1n", "-t1c", "-t2W", "-t2f", "-seg"), "brats2023"),
        ("patient1", ("_t1", "_t2", "_flair", "_seg"), "nifti"),
    ],
)
def test_recognises_brats_naming(files: Files, case: str, suffixes: tuple[str, ...], layout: str) -> None:
    source = open_source(files(*brats(case, *suffixes)))
    study = source.study(case)
    assert source.layout == study.layout == layout
    assert names(study) == sorted(suffix[1:] for suffix in suffixes if suffix[1:] != "seg")
    assert study.label is not None
    assert study.label.id == "seg"
    assert study.coding is None


def test_a_folder_of_brats_cases_lends_its_layout_to_a_case_without_t1ce(files: Files) -> None:
    source = open_source(files(*brats("A", "_t1", "_t1ce", "_seg"), *brats("B", "_t1", "_t2", "_seg")))
    assert source.study("B").layout == "brats2018"


def test_finds_cases_in_folders_of_folders(files: Files) -> None:
    source = open_source(
        files(
            *(f"HGG/{name}" for name in brats("A", "_t1", "_t1ce")),
            *(f"LGG/{name}" for name in brats("B", "_t1", "_t1ce")),
        )
    )
    assert source.ids() == ("A", "B")
    assert source.study("A").root.name == "A"


def test_cases_of_one_name_are_told_apart_by_their_path(files: Files) -> None:
    assert open_source(files("HGG/A/t1.nii", "LGG/A/t1.nii")).ids() == ("HGG_A", "LGG_A")


def test_a_case_folder_opens_as_one_case(files: Files) -> None:
    root = files(*brats("A", "_t1", "_t1ce"), *brats("B", "_t1", "_t1ce"))
    assert open_source(root / "A").ids() == ("A",)
    assert open_source(root / "A" / "A_t1.nii.gz").ids() == ("A",)


def test_files_of_many_cases_beside_each_other(files: Files) -> None:
    source = open_source(
        files(
            "a_1_T1.nii.gz",
            "a_1_FLAIR.nii.gz",
            "a_1_brain_mask.nii.gz",
            "a_1_seg.nii.gz",
            "b-T1.nii",
            "b-T2.nii",
        )
    )
    assert source.layout == "nifti"
    assert source.ids() == ("a_1", "b")
    study = source.study("a_1")
    assert names(study) == ["FLAIR", "T1", "brain_mask"]
    assert study.label is not None
    assert study.label.id == "seg"


def test_one_sequence_of_many_cases_beside_each_other(files: Files) -> None:
    assert open_source(files("a_t1.nii", "b_t1.nii", "c_t1.nii")).ids() == ("a", "b", "c")


@pytest.mark.parametrize(
    "stems",
    [
        ("MRHR_FLAIR_fla", "T1_AX_t1", "POST_t1c", "T2_AX_t2"),
        ("T1_pre", "T1_post", "T2_ax"),
        ("T1", "T1_seg", "T2"),
    ],
)
def test_names_without_a_repeated_beginning_are_one_case(files: Files, stems: tuple[str, ...]) -> None:
    assert open_source(files(*(f"patient/{stem}.nii.gz" for stem in stems))).ids() == ("patient",)


def test_two_label_maps_are_left_to_the_user(files: Files) -> None:
    study = open_source(files("p/T1.nii", "p/seg.nii", "p/ground_truth.nii")).study("p")
    assert study.label is None
    assert {one.series.id: one.kind for one in group(study).leftovers} == {
        "ground_truth": "derived",
        "seg": "derived",
    }


def test_results_of_a_server_are_no_cases(files: Files) -> None:
    assert open_source(files("p/T1.nii", "labels/final/p.nii", ".slem/p.nii")).ids() == ("p",)


def test_decathlon_channels_are_known_by_name(tmp_path: Path, image: Callable[..., Path]) -> None:
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {
                "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
                "labels": {"0": "background", "1": "edema"},
            }
        )
    )
    image(tmp_path / "imagesTr" / "BRATS_001.nii.gz", (4, 5, 6, 4))
    image(tmp_path / "labelsTr" / "BRATS_001.nii.gz")
    image(tmp_path / "imagesTs" / "BRATS_485.nii.gz", (4, 5, 6, 4))
    source = open_source(tmp_path)
    assert source.layout == "msd"
    assert source.ids() == ("BRATS_001", "BRATS_485")
    assert source.study("BRATS_485").label is None
    study = source.study("BRATS_001")
    assert study.label is not None
    assert {name: series.channel for name, series in group(study).sequences.items()} == {
        "t1n": 1,
        "t1c": 2,
        "t2w": 3,
        "t2f": 0,
    }
    assert all(series.grid.shape == (4, 5, 6) for series in study.series)
    assert open_source(tmp_path / "imagesTr").ids() == source.ids()
    assert open_source(tmp_path / "imagesTr" / "BRATS_001.nii.gz").ids() == ("BRATS_001",)


def test_a_decathlon_task_with_other_labels_presumes_no_coding(files: Files) -> None:
    root = files("imagesTr/a.nii.gz")
    (root / "dataset.json").write_text(
        json.dumps({"modality": {"0": "T2", "1": "ADC"}, "labels": {"1": "peripheral zone"}})
    )
    assert open_source(root).study("a").layout == "msd-other"


def test_nnunet_channels_are_known_by_name(files: Files) -> None:
    root = files(
        "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b_0001.nii.gz"
    )
    (root / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "T2w", "1": "T1c"}, "labels": {"background": 0}})
    )
    source = open_source(root)
    assert source.layout == "nnunet"
    assert source.ids() == ("a", "b")
    assert {name: series.id for name, series in group(source.study("a")).sequences.items()} == {
        "t1c": "0001",
        "t2w": "0000",
    }
    assert source.study("a").label is not None
    assert names(source.study("b")) == ["0001"]


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "{": "is not JSON",
        "[]": "must be an object with 'channel_names'",
        '{"labels": {}}': "must be an object",
    }.items(),
)
def test_refuses_a_broken_dataset_json(files: Files, text: str, message: str) -> None:
    root = files("imagesTr/a_0000.nii.gz")
    (root / "dataset.json").write_text(text)
    with pytest.raises(BadStudy, match=message):
        open_source(root)


def test_bids_subjects_and_sessions(files: Files) -> None:
    root = files(
        "dataset_description.json",
        *(f"sub-1/anat/sub-1_{name}.nii.gz" for name in ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR")),
        "derivatives/manual/sub-1/anat/sub-1_label-tumor_dseg.nii.gz",
        "derivatives/bet/sub-1/anat/sub-1_desc-brain_mask.nii.gz",
        "sub-2/ses-pre/anat/sub-2_ses-pre_T1w.nii.gz",
        "sub-2/ses-post/anat/sub-2_ses-post_T1w.nii.gz",
        "sub-3/func/sub-3_bold.nii.gz",
    )
    source = open_source(root)
    assert source.layout == "bids"
    assert source.ids() == ("sub-1", "sub-2_ses-post", "sub-2_ses-pre")
    study = source.study("sub-1")
    assert {name: series.id for name, series in group(study).sequences.items()} == {
        "t1n": "sub-1_T1w",
        "t1c": "sub-1_ce-gadolinium_T1w",
        "t2w": "sub-1_T2w",
        "t2f": "sub-1_FLAIR",
    }
    assert study.label is not None
    assert study.label.id == "sub-1_label-tumor_dseg"
    # the session's name is no contrast
    assert list(group(source.study("sub-2_ses-post")).sequences) == ["t1n"]
    assert open_source(root / "sub-2").ids() == ("sub-2_ses-post", "sub-2_ses-pre")


def test_a_json_file_beside_an_image_is_its_header(tmp_path: Path, image: Callable[..., Path]) -> None:
    image(tmp_path / "p" / "s5.nii.gz")
    (tmp_path / "p" / "s5.json").write_text(
        json.dumps(
            {"SeriesDescription": "x", "ProtocolName": "AX FLAIR", "EchoTime": 0.11, "InversionTime": 2.5}
        )
    )
    study = open_source(tmp_path).study("p")
    assert study.series[0].header["EchoTime"] == pytest.approx(110)
    assert list(group(study).sequences) == ["t2f"]


@pytest.mark.parametrize("id", ["nobody", "../A", "/etc/passwd", "..", "", "A/../A", "A\\t1"])
def test_unknown_ids_and_paths_are_not_found(files: Files, id: str) -> None:
    source = open_source(files(*brats("A", "_t1", "_t1ce")))
    with pytest.raises(
        NotFound,
        match="ids are plain names and never lead out"
        if id != "nobody"
        else "no case 'nobody' in .*: it has 1 cases",
    ):
        source.study(id)


def test_says_what_was_seen_where_nothing_fits(files: Files) -> None:
    with pytest.raises(
        BadStudy,
        match=(
            "no studies found in .*: seen notes.txt, x/y.png, x, y.png|no studies found in .*: seen "
            "notes.txt, x, x/y.png"
        ),
    ):
        open_source(files("notes.txt", "x/y.png"))
    with pytest.raises(BadStudy, match="expected one of\n  one folder a case"):
        open_source(files("notes.txt"))


def test_refuses_what_is_not_there_or_no_image(files: Files) -> None:
    root = files("notes.txt")
    with pytest.raises(NotFound, match="no folder .*none: give the folder that holds the studies"):
        open_source(root / "none")
    with pytest.raises(BadStudy, match="without the ending of NIfTI"):
        open_source(root / "notes.txt")


def test_coding_and_layout_are_declared_in_slem_yaml(files: Files) -> None:
    root = files(*brats("A", "_t1", "_t1ce", "_seg"))
    (root / "slem.yaml").write_text("coding: brats2023\nlayout: brats2018\n")
    assert open_source(root).study("A").coding == "brats2023"
    assert open_source(root, coding="brats2018").study("A").coding == "brats2018"
    assert open_source(root).study("A").rules is None
    (root / "slem.yaml").write_text("rules: ../own.yaml\n")
    assert open_source(root).study("A").rules == root.parent / "own.yaml"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("colour: red", BadSetting, "slem.yaml: unknown keys \\['colour'\\]; known are coding, layout"),
        ("layout: pile", BadSetting, "unknown layout 'pile'; known are brats2018"),
        ("coding: morse", BadLabel, "unknown label coding 'morse': known are brats2018"),
        ("a: [", BadSetting, "is not YAML"),
    ],
)
def test_refuses_a_wrong_slem_yaml(files: Files, text: str, error: type[Exception], message: str) -> None:
    root = files(*brats("A", "_t1", "_t1ce"))
    (root / "slem.yaml").write_text(text)
    with pytest.raises(error, match=message):
        open_source(root)


def test_ten_thousand_studies_are_listed_in_seconds_without_a_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_header_is_read(monkeypatch)
    for k in range(10_000):
        case = tmp_path / f"case_{k:05d}"
        case.mkdir()
        (case / f"case_{k:05d}_t1ce.nii.gz").touch()
    start = time.process_time()
    source = open_source(tmp_path)
    assert len(source.ids()) == 10_000
    assert source.study("case_09999").series[0].id == "t1ce"
    assert time.process_time() - start < 10


def test_a_new_case_is_seen_after_refresh(files: Files) -> None:
    source = open_source(files("A/t1.nii"))
    files("B/t1.nii")
    assert source.ids() == ("A",)
    source.refresh()
    assert source.ids() == ("A", "B")


def test_grouping_reads_no_file_where_names_suffice(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    no_header_is_read(monkeypatch)
    study = open_source(files(*brats("A", "_t1", "_t1ce", "_t2", "_flair"))).study("A")
    assert list(group(study).sequences) == ["t1n", "t1c", "t2w", "t2f"]


def test_a_broken_file_does_not_win_over_a_good_one(tmp_path: Path, image: Callable[..., Path]) -> None:
    image(tmp_path / "p" / "T1_a.nii.gz")
    (tmp_path / "p" / "T1_b.nii.gz").write_bytes(b"nonsense")
    grouping = group(open_source(tmp_path).study("p"))
    assert grouping.sequences["t1n"].id == "T1_a"
    assert "would be t1n but cannot be used" in grouping.leftovers[0].reason


def test_a_damaged_json_beside_an_image_is_reported(tmp_path: Path, image: Callable[..., Path]) -> None:
    image(tmp_path / "p" / "T1.nii.gz")
    (tmp_path / "p" / "T1.json").write_text("{")
    study = open_source(tmp_path).study("p")
    with pytest.raises(BadVolume, match="T1.json, beside the image of that name, is not JSON"):
        _ = study.series[0].header
    assert group(study).leftovers[0].kind == "unknown"


@pytest.mark.parametrize(
    ("folder", "layout", "count", "labelled"),
    [("brats", "brats2018", 24, True), ("open_ms", "nifti", 2, True), ("raw_glioma", "nifti", 1, False)],
)
def test_real_cases_open_and_group(
    real_data: Path, folder: str, layout: str, count: int, labelled: bool
) -> None:
    source = open_source(real_data / folder)
    assert (source.layout, len(source)) == (layout, count)
    for study in source:
        grouping = group(study)
        assert list(grouping.sequences) == ["t1n", "t1c", "t2w", "t2f"]
        assert not grouping.leftovers
        assert (study.label is not None) is labelled
        assert all(choice.reason for choice in grouping.choices)
        assert min(series.grid.shape[2] for series in grouping.sequences.values()) >= 26


def test_real_sequences_of_one_case_may_have_four_grids(real_data: Path) -> None:
    grouping = group(next(iter(open_source(real_data / "raw_glioma"))))
    assert {name: series.grid.shape for name, series in grouping.sequences.items()} == {
        "t1n": (256, 224, 26),
        "t1c": (256, 224, 26),
        "t2w": (224, 256, 26),
        "t2f": (208, 256, 26),
    }


def test_two_files_of_one_name_have_two_ids_and_are_a_tie(tmp_path: Path, image: Callable[..., Path]) -> None:
    image(tmp_path / "p" / "T1.nii")
    image(tmp_path / "p" / "T1.nii.gz")
    study = open_source(tmp_path).study("p")
    assert names(study) == ["T1", "T1_2"]
    grouping = group(study)
    assert not grouping.choices
    assert [one.kind for one in grouping.leftovers] == ["tie", "tie"]
    assert group(study, chosen={"t1n": "T1_2"}).sequences["t1n"].paths[0].name == "T1.nii.gz"
