import json
from pathlib import Path

import pytest

import slem_app.grouping
from slem_app.errors import BadSetting, BadStudy, NotFound
from slem_app.grouping import Grouping, group, load_rules
from slem_app.studies import Series, Study

HEADERS = sorted(Path(__file__).with_name("headers").glob("*.json"))


def named(*names: str) -> Study:
    return Study("case", "nifti", Path(), tuple(Series.described(name, name, {}) for name in names))


def from_json(path: Path) -> tuple[Study, list[dict]]:
    content = json.loads(path.read_text())
    series = []
    for number, row in enumerate(content["series"], 1):
        header = {
            **content.get("common", {}),
            **{key: value for key, value in row.items() if key not in ("is", "because")},
        }
        header = {key: tuple(value) if isinstance(value, list) else value for key, value in header.items()}
        series.append(Series.described(f"1.2.3.{number}", str(header.get("SeriesDescription", "")), header))
    return Study(path.stem, "dicom", Path(), tuple(series)), content["series"]


def verdicts(grouping: Grouping) -> dict[str, tuple[str, str]]:
    used = {choice.series.id: (choice.sequence, choice.reason) for choice in grouping.choices}
    return used | {one.series.id: (one.kind, one.reason) for one in grouping.leftovers}


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.stem)
def test_names_every_series_of_a_scanner_with_its_reason(path: Path) -> None:
    study, expected = from_json(path)
    found = verdicts(group(study))
    assert len(found) == len(expected)
    for series, row in zip(study.series, expected):
        kind, reason = found[series.id]
        assert kind == row["is"], f"{series.name!r}: {kind} ({reason}), expected {row['is']}"
        assert row["because"] in reason, series.name


@pytest.mark.parametrize(
    ("name", "sequence"),
    {
        "t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "t1n": "t1n", "t1c": "t1c", "t2w": "t2w",
        "t2W": "t2w", "t2f": "t2f", "T1w": "t1n", "t1gd": "t1c", "T1Gd": "t1c", "T2w": "t2w", "FLAIR": "t2f",
        "ce-gadolinium_T1w": "t1c", "acq-post_run-1_T1w": "t1n", "space-T1w_FLAIR": "t2f",
        "FLAIR_registered_to_T1": "t2f", "T2_to_T1": "t2w", "T1post": "t1c", "AXT1POST": "t1c",
        "T1_CE": "t1c", "T1 with contrast": "t1c", "T1 w/o contrast": "t1n", "T1 without gad": "t1n",
        "T1 non-contrast": "t1n", "t1_native": "t1n", "T1 +C": "t1c", "T1C+": "t1c", "T1+C": "t1c",
        "MPRAGE": "t1n", "MPRAGE post": "t1c", "3D FSPGR GD": "t1c", "T2FLAIR": "t2f", "T2-FLAIR": "t2f",
        "t2_space_dark-fluid_sag_p2_iso": "t2f", "3D_FLAIR_VISTA": "t2f", "T2 post op": "t2w",
        "T1_postop_GAD": "t1c", "brain T1 W/WO": "t1n", "T1_MDC": "t1c", "T1 CIV": "t1c", "T1_vor_KM": "t1n",
        "T1 nach KM": "t1c", "Ax T1 FSE PRE-GAD": "t1n",
    }.items(),
)  # fmt: skip
def test_reads_names_as_people_write_them(name: str, sequence: str) -> None:
    grouping = group(named(name))
    assert list(grouping.sequences) == [sequence], verdicts(grouping)


@pytest.mark.parametrize(
    ("name", "what"),
    {
        "ADC": "ADC", "DWI_b1000": "diffusion", "ep2d_diff": "diffusion", "SWI": "susceptibility",
        "localizer": "localiser", "T1_SUB": "subtraction", "MIP_T1c": "projection", "rCBV": "perfusion",
        "T2star": "T2*", "T1map": "map", "brain_mask": "mask", "PD": "proton", "T2_STIR": "another kind",
        "TOF_3D": "angiography", "T1_DCE": "perfusion", "fMRI_rest": "functional",
    }.items(),
)  # fmt: skip
def test_leaves_out_what_is_no_sequence(name: str, what: str) -> None:
    grouping = group(named(name))
    assert not grouping.choices
    assert [one.kind for one in grouping.leftovers] == ["derived"]
    assert what in grouping.leftovers[0].reason


def test_finds_sequences_by_name_whatever_their_order() -> None:
    one, other = group(named("flair", "t1", "t1ce", "t2")), group(named("t2", "t1ce", "flair", "t1"))
    assert list(one.sequences) == list(other.sequences) == ["t1n", "t1c", "t2w", "t2f"]
    assert {name: series.id for name, series in one.sequences.items()} == {
        name: series.id for name, series in other.sequences.items()
    }


def test_a_name_that_says_two_things_is_a_tie() -> None:
    grouping = group(named("FLAIR_InPhase"))
    assert [one.kind for one in grouping.leftovers] == ["tie"]
    assert "fits t2f and t1_in alike" in grouping.leftovers[0].reason


def test_the_users_choice_wins_over_every_rule() -> None:
    grouping = group(named("T1 AX a", "T1 AX b", "ADC"), chosen={"t1n": "T1 AX b", "t2w": "ADC"})
    assert {name: series.id for name, series in grouping.sequences.items()} == {
        "t1n": "T1 AX b",
        "t2w": "ADC",
    }
    assert [choice.reason for choice in grouping.choices] == ["chosen by hand"] * 2
    assert grouping.leftovers[0].kind == "duplicate"


def test_a_series_is_chosen_by_its_description_or_number() -> None:
    numbered = tuple(
        Series.described(f"1.2.{n}", name, {"SeriesNumber": n})
        for n, name in ((4, "Ax T1 SE POST GD"), (7, "survey"), (8, "twice"), (9, "twice"))
    )
    study = Study("case", "dicom", Path(), numbered)
    grouping = group(study, chosen={"t1c": "ax t1 se post gd", "t2f": "7"})
    assert {name: one.id for name, one in grouping.sequences.items()} == {"t1c": "1.2.4", "t2f": "1.2.7"}
    with pytest.raises(NotFound, match="has 2 series 'twice' for t1c: choose one by its id: 1.2.8, 1.2.9"):
        group(study, chosen={"t1c": "twice"})


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        ("AXIAL FSE", "t2w"),
        ("3D FSE AX", "t2w"),
        ("3d T1 FSPGR  CONT", "t1c"),
        ("T1AXgado", "t1c"),
        ("cor mprage c", "t1c"),
        ("AXIAL T1 POSTSPECTROSCOPY", "t1c"),
        ("SAG T1 FLAIR", "t1n"),
        ("BRAINSTRYKERT1SAGGAD", "t1c"),
        ("neuronavigaT1W3DGAD", "t1c"),
        ("VOLUMETRIC AXIAL Gd", "t1c"),
        ("AXIAL T1 PRE SPECTROSCOPY", "t1n"),
        ("FASTBRAINT1SAGITTAL", "t1n"),
        ("mprage", "t1n"),
    ],
)
def test_names_of_public_archives(name: str, sequence: str) -> None:
    assert list(group(named(name)).sequences) == [sequence]


@pytest.mark.parametrize(
    "name", ["3D SPGR AX", "T1 SAG SE", "AX T1 FSE", "Ax T1 2.5mm for surgery", "FSPGR 3D", "T1 3D FFE"]
)
def test_a_t1_that_is_taken_before_and_after_contrast_is_named_by_its_header_only(name: str) -> None:
    grouping = group(named(name))
    assert not grouping.sequences
    assert "neither its name nor a header tells whether" in grouping.leftovers[0].reason
    for header, sequence in (
        ({"EchoTime": 4.0}, "t1n"),
        ({"EchoTime": 4.0, "ContrastBolusAgent": "GADAVIST"}, "t1c"),
    ):
        series = Series.described("1.2", name, header)
        assert list(group(Study("case", "dicom", Path(), (series,))).sequences) == [sequence]


def test_a_t1_of_which_nothing_is_said_is_the_one_before_contrast_beside_one_after() -> None:
    choices = {one.sequence: one for one in group(named("T1 AX SE", "T1 AX POST GAD SE")).choices}
    assert choices["t1n"].series.id == "T1 AX SE"
    assert "nothing is said of contrast, and another series of the study is t1c" in choices["t1n"].reason
    chosen = group(named("T1 AX SE", "unnamed"), chosen={"t1c": "unnamed"})
    assert chosen.sequences["t1n"].id == "T1 AX SE"


def test_a_t1_of_which_nothing_is_said_is_left_out_where_another_says_more() -> None:
    told = group(named("T1 AX SE", "T1 AX PRE", "T1 AX POST GAD"))
    assert told.sequences["t1n"].id == "T1 AX PRE"
    assert "neither its name nor a header tells whether" in told.leftovers[0].reason
    two = group(named("T1 AX SE", "T1 SE AX", "T1 AX POST GAD"))
    assert list(two.sequences) == ["t1c"]
    assert [one.kind for one in two.leftovers] == ["tie", "tie"]


def test_a_name_that_says_before_and_after_contrast_is_not_named() -> None:
    grouping = group(named("AXIAL T1 PREPOST GD"))
    assert "says both before and after contrast" in grouping.leftovers[0].reason


def test_rules_of_before_need_not_say_what_is_unclear(tmp_path: Path) -> None:
    content = (Path(slem_app.grouping.__file__).parent / "rules.yaml").read_text()
    start, end = content.index("unclear:"), content.index("expected:")
    (tmp_path / "rules.yaml").write_text(content[:start] + content[end:])
    assert load_rules(tmp_path / "rules.yaml").unclear == ()


def test_refuses_a_choice_of_what_is_not_there() -> None:
    with pytest.raises(NotFound, match="no series 'x' for t1n: it has t1"):
        group(named("t1"), chosen={"t1n": "x"})
    with pytest.raises(BadSetting, match="unknown sequence 't9' .* known are t1n, t1c, t2w, t2f"):
        group(named("t1"), chosen={"t9": "t1"})


def test_the_reference_is_the_first_of_the_order_that_is_there() -> None:
    assert group(named("t1", "t2", "flair", "t1ce")).reference() == "t1c"
    assert group(named("t1", "t2", "flair")).reference() == "t2f"
    assert group(named("t1", "t2")).reference(("t1n", "t2w")) == "t1n"
    assert group(named("T1-DUAL InPhase")).reference() == "t1_in"


def test_a_case_without_a_known_sequence_says_what_was_seen() -> None:
    with pytest.raises(
        BadStudy,
        match="case 'case' has no known sequence .*'XK-17': no rule knows 'XK-17'.*'ADC': an ADC map",
    ):
        group(named("XK-17", "ADC")).reference()
    with pytest.raises(BadStudy, match="it has no images"):
        group(named()).reference()


def test_resolves_series_ids_and_sequence_names() -> None:
    grouping = group(named("t1ce", "ADC"))
    assert grouping.resolve("t1c") == grouping.resolve("t1ce") == "t1c"
    with pytest.raises(NotFound, match="series 'ADC' of case 'case' is not used: an ADC map"):
        grouping.resolve("ADC")
    with pytest.raises(NotFound, match="case 'case' has no sequence 't2w': it has t1c"):
        grouping.resolve("t2w")


def test_a_users_words_reach_an_unknown_name(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("base: default\nwords:\n  flair: 'xk 17'\n")
    assert list(group(named("XK-17"), load_rules(own)).sequences) == ["t2f"]
    assert list(group(named("FLAIR"), load_rules(own)).sequences) == ["t2f"]
