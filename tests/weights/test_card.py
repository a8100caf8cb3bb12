"""The card: exact on a round trip, and strict."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from slem_app.errors import BadCard, NotFound
from slem_app.network import SegmenterConfig
from slem_app.regions import PostProcess
from slem_app.weights import BRAIN_LABELS, Card, Inference, card_text, load_card


def write(folder: Path, card: Card, change: Callable[[dict], object]) -> Path:
    table = yaml.safe_load(card_text(card))
    change(table)
    (folder / "card.yaml").write_text(yaml.safe_dump(table, sort_keys=False), encoding="utf-8")
    return folder


def test_round_trip_is_exact(card: Card, tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text(card_text(card), encoding="utf-8")
    again = load_card(tmp_path)
    assert again == card
    assert card_text(again) == card_text(card)


def test_round_trip_keeps_hexadecimal_digits_that_look_like_numbers(card: Card, tmp_path: Path) -> None:
    for digest in ("1" * 64, "12e" + "4" * 61, "0" * 64):
        saved = replace(card, file="small-1.safetensors", sha256=digest)
        (tmp_path / "card.yaml").write_text(card_text(saved), encoding="utf-8")
        assert load_card(tmp_path).sha256 == digest


def test_whole_numbers_serve_as_decimals(card: Card, tmp_path: Path) -> None:
    folder = write(tmp_path, card, lambda t: t["preparation"].update(spacing=[2, 2, 1]))
    assert load_card(folder).preparation.spacing == (2.0, 2.0, 1.0)


def test_brain_labels_carry_the_agreed_names_values_and_codes() -> None:
    assert [(x.name, x.value, x.type.value, x.type.meaning, x.type.scheme) for x in BRAIN_LABELS.labels] == [
        ("necrosis", 1, "6574001", "Necrosis", "SCT"),
        ("edema", 2, "79654002", "Edema", "SCT"),
        ("enhancing tumor", 3, "86049000", "Neoplasm, Primary", "SCT"),
    ]
    assert [x.color for x in BRAIN_LABELS.labels[:2]] == [(216, 191, 216), (140, 224, 228)]
    assert {r.name: set(r.labels) for r in BRAIN_LABELS.regions} == {
        "WT": {"necrosis", "edema", "enhancing tumor"},
        "TC": {"necrosis", "enhancing tumor"},
        "ET": {"enhancing tumor"},
    }


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda t: t.update(colour="red"),
            r"card\.yaml: unknown key 'colour'; known: name, version, description",
        ),
        (
            lambda t: t["network"].update(depth=3),
            r"card\.yaml: network: unknown key 'depth'; known: sequences, regions, channels",
        ),
        (
            lambda t: t["labels"]["labels"][1].update(hue=1),
            r"labels\.labels\[1\]: unknown key 'hue'; known: name, value, type, category, color",
        ),
        (
            lambda t: t["labels"]["labels"][0]["type"].pop("scheme"),
            r"labels\.labels\[0\]\.type: missing key 'scheme' \(usually 'SCT'\); known: value, meaning",
        ),
        (lambda t: t.pop("sequences"), r"card\.yaml: missing key 'sequences'; known: name"),
        (
            lambda t: t["preparation"].pop("margin"),
            (
                r"preparation: missing key 'margin' \(usually 4\.0\)|preparation: missing key 'margin' "
                r"\(usually 6\.0\)"
            ),
        ),
        (lambda t: t.update(version=3), r"version: str is needed, got 3 \(write it in quotes\)"),
        (lambda t: t.update(sequences="t1c"), r"sequences: a list is needed, got 't1c'"),
        (lambda t: t["preparation"].update(spacing=[1.0, 1.0]), r"spacing: 3 entries are needed, got 2"),
        (lambda t: t["network"].update(regions=True), r"network\.regions: int is needed, got True"),
        (
            lambda t: t.update(labels=[1]),
            r"labels: a table with the keys labels, regions is needed, got \[1\]",
        ),
        (lambda t: t.update(figures={"a": "b"}), r"figures\.a: float is needed, got 'b'"),
        (lambda t: t["network"].update(sequences=9), r"a segmenter takes 1 to 8 sequences, got 9"),
        (lambda t: t["labels"]["labels"][0].update(name="image"), r"label name 'image' is reserved"),
        (lambda t: t["postprocess"].update(smallest={"GT": 3}), r"unknown regions \['GT'\]"),
    ],
)
def test_refuses_a_card_that_it_does_not_understand(
    card: Card, tmp_path: Path, change: Callable[[dict], object], text: str
) -> None:
    with pytest.raises(BadCard, match=text):
        load_card(write(tmp_path, card, change))


def test_a_card_from_before_a_younger_key_counts_as_its_default(card: Card, tmp_path: Path) -> None:
    old = load_card(write(tmp_path, card, lambda t: t["network"].pop("differences")))
    assert old == card
    assert old.network.differences == ()


def test_refuses_what_is_no_yaml_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no model in .*card\.yaml is missing"):
        load_card(tmp_path)
    (tmp_path / "card.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(BadCard, match="not readable YAML"):
        load_card(tmp_path)
    (tmp_path / "card.yaml").write_text("", encoding="utf-8")
    with pytest.raises(BadCard, match="a table with the keys name"):
        load_card(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sequences": ("t1c",)}, "the network has 4 sequence slots, the card names 1"),
        ({"sequences": ("t1c", "t1c", "t2w", "t2f")}, "each slot needs one name"),
        (
            {"network": SegmenterConfig(regions=2)},
            "the network has 2 region channels, the card names 3: WT, TC, ET",
        ),
        ({"reference_order": ("swi",)}, r"reference_order \['swi'\] must name some of the sequences"),
        ({"name": "../up"}, r"model name '\.\./up' may hold letters"),
        ({"inference": Inference(window=(10, 16, 16))}, "must be multiples of the network's"),
        ({"postprocess": PostProcess(region_minimum={"XX": 1.0})}, r"unknown regions \['XX'\]"),
        ({"file": "../w.safetensors", "sha256": "0" * 64}, "must be a bare file name"),
        ({"file": "w.safetensors", "sha256": "00"}, "64 hexadecimal digits"),
    ],
)
def test_refuses_parts_that_contradict_each_other(card: Card, change: dict, text: str) -> None:
    with pytest.raises(BadCard, match=text):
        replace(card, **change)


@pytest.mark.parametrize(
    "wrong", [{"one_pass": -1}, {"overlap": 1.0}, {"window": (0, 8, 8)}, {"mirror": (3,)}, {"mirror": (0, 0)}]
)
def test_refuses_an_impossible_way_to_run(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        Inference(**wrong)
