from pathlib import Path

import pytest

from slem_app.errors import BadSetting
from slem_app.grouping import group, load_rules
from slem_app.grouping.facts import normalised
from slem_app.grouping.rules import HeaderTest
from slem_app.studies import Series, Study


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "base: default\ncolour: red\n": "unknown keys \\['colour'\\]; the keys are base, order",
        "words: {}\n": "missing keys .* begin the file with `base: default`",
        "base: other\n": "'base' can only be 'default'",
        "base: default\nexcluded: [{reason: x, wrds: y}]\n": (
            "own.yaml, excluded 1: unknown keys \\['wrds'\\]; known are reason, words, header"
        ),
        "base: default\nexcluded: [{words: y}]\n": "lacks reason",
        "base: default\nwords: {t1: '(a'}\n": "own.yaml, words, t1: '\\(a' is not a regular expression",
        "base: default\nsequences: [{sequence: t1n, strength: 1, words: [wood]}]\n": (
            "words that are not under 'words': \\['wood'\\]"
        ),
        "base: default\nsequences: [{sequence: dwi, strength: 1, words: [t1]}]\n": (
            "sequences that are not under 'order': \\['dwi'\\]"
        ),
        "base: default\nexcluded: [{reason: x, header: [{field: EchoTime, min: long}]}]\n": (
            "expected a number, got 'long'"
        ),
        "base: default\nexcluded: [{reason: x, header: [{field: EchoTime, most: 3}]}]\n": (
            "unknown keys \\['most'\\]"
        ),
        "- a\n": "must be a YAML mapping",
        "a: [\n": "cannot be read",
    }.items(),
)
def test_refuses_a_wrong_rules_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(BadSetting, match=message):
        load_rules(tmp_path / "own.yaml")


def test_refuses_a_rules_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="cannot be read"):
        load_rules(tmp_path / "none.yaml")


def test_a_users_rules_may_add_a_sequence(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "base: default\norder: [pd]\nwords: {protondense: 'xpd'}\nsequences: [{sequence: pd, "
        "strength: 3, words: [protondense]}]\ntelling: [protondense]\n"
    )
    rules = load_rules(tmp_path / "own.yaml")
    assert rules.order[-1] == "pd"
    assert rules.sequences[0].sequence == "pd"
    assert len(rules.sequences) == len(load_rules().sequences) + 1


@pytest.mark.parametrize(
    ("test", "value", "passes"),
    [
        (HeaderTest("x", has=("IR",)), ("SE", "ir"), True),
        (HeaderTest("x", has=("IR",)), None, False),
        (HeaderTest("x", lacks=("IR",)), None, True),
        (HeaderTest("x", lacks=("IR",)), "IR", False),
        (HeaderTest("x", min=10, max=20), "15.5", True),
        (HeaderTest("x", min=10), 9, False),
        (HeaderTest("x", min=10), None, False),
        (HeaderTest("x", min=10), "many", False),
    ],
)
def test_header_tests_read_missing_fields_as_documented(
    test: HeaderTest, value: object, passes: bool
) -> None:
    assert test.passes(value) is passes


@pytest.mark.parametrize(
    ("text", "read"),
    {
        "t2FLAIR_ax": "t2 flair ax",
        "T1_N4_regtoFLAIR_brain": "t1 n4 brain",
        "AXT1POST": "ax t1 post",
        "T1DUAL-InPhase": "t1 dual in phase",
        "T1 SE+C": "t1 se +c",
        "T2 POST-OP": "t2",
        "patient12_T10": "patient12 t10",
    }.items(),
)
def test_normalises_texts(text: str, read: str) -> None:
    assert normalised(text, load_rules()) == read


def test_a_folder_may_declare_rules_that_allow_what_is_left_out_elsewhere(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "base: default\norder: [adc]\nallowed: ['an ADC map']\nwords: {adc: adc}\ntelling: "
        "[adc]\nsequences: [{sequence: adc, strength: 3, words: [adc]}]\n"
    )
    series = (Series.described("1", "ADC", {}),)
    assert group(Study("x", "nifti", tmp_path, series)).leftovers[0].reason.startswith("an ADC map")
    assert list(group(Study("x", "nifti", tmp_path, series, rules=tmp_path / "own.yaml")).sequences) == [
        "adc"
    ]
    (tmp_path / "own.yaml").write_text("base: default\nallowed: ['a cat']\n")
    with pytest.raises(
        BadSetting, match=r"'allowed' names reasons that are not under 'excluded': \['a cat'\]"
    ):
        load_rules(tmp_path / "own.yaml")
