"""Label sets are consistent once constructed; codings of public data sets are decided or refused, never
guessed.
"""

import re

import numpy as np
import pytest

from slem_app.errors import BadCard, BadLabel
from slem_app.labels import Code, Label, LabelSet, Region, codings, decide_coding

ORGANS = ("liver", "right kidney", "left kidney", "spleen")
NAMES = ("necrosis", "edema", "enhancing tumor")
CODE = Code("108369006", "Neoplasm")


NESTED = (NAMES, ("necrosis", "enhancing tumor"), ("enhancing tumor",))


def label_set(names: tuple[str, ...] = NAMES, regions: tuple[tuple[str, ...], ...] = NESTED) -> LabelSet:
    return LabelSet(
        tuple(Label(name, value, CODE) for value, name in enumerate(names, 1)),
        tuple(Region(f"R{n}", labels) for n, labels in enumerate(regions)),
    )


def test_values_and_names_of_a_good_set() -> None:
    labels = label_set()
    assert labels.names == NAMES
    assert [labels.value(name) for name in NAMES] == [1, 2, 3]
    assert labels.signature("necrosis") == ("R0", "R1")
    with pytest.raises(
        BadLabel, match="unknown label 'cyst': this model has necrosis, edema, enhancing tumor"
    ):
        labels.value("cyst")


@pytest.mark.parametrize("name", ["image", "label", "roi", "background", "client_id", "result_dtype"])
def test_refuses_names_that_the_clients_would_overwrite(name: str) -> None:
    with pytest.raises(BadCard, match=f"label name '{name}' is reserved by the clients"):
        label_set((name,), ((name,),))


@pytest.mark.parametrize("name", ["", "  ", "ede\nma", "ede\tma"])
def test_refuses_names_that_break_a_header(name: str) -> None:
    with pytest.raises(BadCard, match="empty or holds unprintable characters"):
        label_set((name,), ((name,),))


def test_refuses_a_name_given_twice() -> None:
    with pytest.raises(BadCard, match="given twice"):
        label_set(("edema", "edema"), (("edema",),))


def test_refuses_values_with_a_gap() -> None:
    with pytest.raises(BadCard, match=re.escape("label values must be 1..2 in order, got [1, 4]")):
        LabelSet((Label("a", 1, CODE), Label("b", 4, CODE)), (Region("A", ("a",)), Region("B", ("b",))))


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ((("a", "b"), ("x",)), "names unknown labels ['x']"),
        ((("a", "b", "c"),), "cannot tell the labels"),
        ((("a",), ("b",)), "cannot tell the labels"),  # c lies in no region
        ((("a", "b"), ("b", "c")), "overlap in ['b']: one must lie inside the other"),
        ((("a", "b", "c"), ("a", "b", "c"), ("a",), ("b",)), "overlap in ['a', 'b', 'c']"),
        ((("a", "b", "c"), ()), "is given twice or holds no label"),
    ],
)
def test_refuses_regions_from_which_labels_do_not_follow(
    regions: tuple[tuple[str, ...], ...], message: str
) -> None:
    with pytest.raises(BadCard, match=re.escape(message)):
        label_set(("a", "b", "c"), regions)


def test_refuses_a_region_name_given_twice() -> None:
    with pytest.raises(BadCard, match="region 'A' is given twice"):
        LabelSet((Label("a", 1, CODE), Label("b", 2, CODE)), (Region("A", ("a",)), Region("A", ("b",))))


def test_takes_nested_regions_in_any_order_and_disjoint_organs() -> None:
    assert label_set(regions=(("enhancing tumor",), ("necrosis", "enhancing tumor"), NAMES)).signature(
        "enhancing tumor"
    ) == ("R0", "R1", "R2")
    assert label_set(("liver", "spleen"), (("liver",), ("spleen",))).names == ("liver", "spleen")


def test_region_masks_follow_the_labels() -> None:
    masks = label_set().region_masks(np.array([[[0, 1, 2, 3]]], np.uint8))
    assert masks.shape == (3, 1, 1, 4)
    assert masks[:, 0, 0].tolist() == [
        [False, True, True, True],
        [False, True, False, True],
        [False, False, False, True],
    ]


def test_remaps_by_name_into_the_sets_own_values() -> None:
    coded = np.array([[[0, 1, 2, 4]]], np.int16)
    moved = label_set().remap(coded, codings()["brats2018"].values)
    assert moved.dtype == np.uint8
    assert moved.ravel().tolist() == [0, 1, 2, 3]


def test_remaps_an_empty_name_to_background() -> None:
    assert label_set().remap(np.array([[[3, 4]]]), codings()["brats2024"].values).ravel().tolist() == [3, 0]
    assert label_set().remap(np.zeros((1, 1, 2), np.uint8), {}).ravel().tolist() == [0, 0]


@pytest.mark.parametrize("value", [4, 9, -1])
def test_remap_refuses_a_value_without_a_name(value: int) -> None:
    with pytest.raises(BadLabel, match=re.escape(f"label values [{value}] have no name")):
        label_set().remap(np.array([[[1, value]]], np.int16), {1: "edema"})


def test_remap_refuses_a_name_of_another_model() -> None:
    with pytest.raises(BadLabel, match="unknown label 'liver'"):
        label_set().remap(np.array([[[1]]]), {1: "liver"})


def test_grey_values_are_coded_in_ranges() -> None:
    coding = decide_coding([0, 63, 126, 189, 252], "chaos")
    assert {coding.values[value] for value in (55, 63, 70)} == {"liver"}
    assert [coding.values[value] for value in (110, 135, 175, 200, 240, 255)] == [
        name for name in ORGANS[1:] for _ in range(2)
    ]
    for grey in (54, 71, 100):
        with pytest.raises(
            BadLabel, match=rf"values \[{grey}\] in a study of layout 'chaos' fit no known coding"
        ):
            decide_coding([0, grey], "chaos")


def test_every_coding_speaks_of_known_names() -> None:
    for coding in codings().values():
        assert set(coding.values.values()) <= {*NAMES, "", *ORGANS}
        assert coding.description
        assert coding.layouts


@pytest.mark.parametrize(
    ("present", "layout", "expected"),
    [
        ({0, 1, 2, 4}, "brats2018", "brats2018"),
        ({0, 1, 2}, "brats2018", "brats2018"),
        ({0, 1, 2, 3}, "brats2023", "brats2023"),  # 2024 gives these values the same meaning
        (set(), "brats2023", "brats2023"),
        ({1, 2, 3, 4}, "brats2023", "brats2024"),
        ({4}, "brats2023", "brats2024"),
        ({1, 2, 3}, "msd", "msd"),
    ],
)
def test_decides_where_layout_and_values_leave_one_meaning(
    present: set[int], layout: str, expected: str
) -> None:
    assert decide_coding(present, layout).name == expected


@pytest.mark.parametrize(
    ("present", "layout"),
    [
        ({1, 2, 3}, "brats2018"),  # a value that the layout's coding lacks
        ({1, 2, 4}, "msd"),
        ({1, 5}, "brats2023"),
        ({1, 2, 4}, "nifti"),  # enhancing tumor of 2018 or the cavity of 2024
        ({1, 2, 3}, "nifti"),
        ({1, 2, 3}, "nnunet"),
    ],
)
def test_refuses_what_cannot_be_decided_and_says_how_to_declare_it(present: set[int], layout: str) -> None:
    with pytest.raises(BadLabel) as caught:
        decide_coding(present, layout)
    text = str(caught.value)
    assert f"values {sorted(present)} in a study of layout '{layout}'" in text
    assert "declare it with --coding NAME, or `coding: NAME` in slem.yaml" in text
    assert all(name in text for name in codings())


def test_two_meanings_of_one_value_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value 4 is enhancing tumor until 2021 and the resection cavity in 2024: in a layout that both use it
    decides nothing.
    """
    table = {
        name: type(c)(c.name, ("shared",), c.values, c.description)
        for name, c in codings().items()
        if name in ("brats2018", "brats2024")
    }
    monkeypatch.setattr("slem_app.labels.codings", lambda: table)
    assert decide_coding({1, 2}, "shared").name == "brats2018"
    with pytest.raises(
        BadLabel,
        match=re.escape("values [1, 2, 4] in a study of layout 'shared' fit ['brats2018', 'brats2024']"),
    ):
        decide_coding({1, 2, 4}, "shared")


def test_a_declaration_decides() -> None:
    assert decide_coding({1, 2, 4}, "nifti", declared="brats2018").values[4] == "enhancing tumor"
    assert decide_coding({1, 2, 4}, "nifti", declared="brats2024").values[4] == ""
    assert decide_coding({1, 2}, "brats2018", declared="msd").values[1] == "edema"


def test_own_values_are_a_coding_of_the_model() -> None:
    own = decide_coding({1, 2}, "nifti", declared="own", names=("liver", "spleen"))
    assert dict(own.values) == {1: "liver", 2: "spleen"}
    with pytest.raises(BadLabel, match="unknown label coding 'own'"):
        decide_coding({1}, "nifti", declared="own")


def test_refuses_an_unknown_declaration_and_values_outside_it() -> None:
    with pytest.raises(BadLabel, match="unknown label coding 'brats2017'"):
        decide_coding({1}, "brats2018", declared="brats2017")
    with pytest.raises(BadLabel, match=re.escape("label values [4] do not exist in coding 'brats2023'")):
        decide_coding({1, 4}, "brats2023", declared="brats2023")
