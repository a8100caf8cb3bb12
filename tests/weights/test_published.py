"""Published versions: good candidates are served, others kept apart, any can be taken back, and nothing that
happens leaves no valid model.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slem_app.errors import BadCard, BadWeights, NotFound, StorageFailed
from slem_app.network import Segmenter, build
from slem_app.prompts import channel_count
from slem_app.weights import Card, load_model, save_model
from slem_app.weights.published import Decision, Published

PROJECT = Path(__file__).parents[2]
GOOD, WORSE = {"mean": 0.8, "WT": 0.9}, {"mean": 0.7}


def fresh(card: Card, seed: int) -> Segmenter:
    torch.manual_seed(seed)
    return build(card.network)


@pytest.fixture
def published(card: Card, network: Segmenter, tmp_path: Path) -> Published:
    save_model(tmp_path / "bundled", card, network)
    return Published(tmp_path / "models", "small", tmp_path / "bundled")


@pytest.fixture
def publish(published: Published, card: Card) -> Callable[..., Decision]:
    """`publish(seed, figures)`: a candidate of its own weights."""

    def candidate(seed: int, figures: dict | None = None, **more: object) -> Decision:
        return published.publish(card, fresh(card, seed), figures or GOOD, {"mean": 0.75}, **more)

    return candidate


def everything(published: Published) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in published.path.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_nothing_published_means_the_bundled_model(published: Published) -> None:
    assert (published.served_number(), published.served(), published.stamp()) == (0, published.bundled, None)
    assert published.load().number == 0
    (only,) = published.versions(check=True)
    assert (only.served, only.record, only.problem) == (True, None, "")


def test_a_better_candidate_is_served_and_keeps_how_it_came_to_be(
    published: Published, publish: Callable[..., Decision], card: Card
) -> None:
    decision = publish(
        1, labels={"A": "final 2"}, held_out={"B": "final 1"}, settings={"steps": 5}, trusted=True
    )
    assert (decision.published, decision.number, decision.folder) == (True, 1, published.served())
    assert decision.reason == "mean 0.8000 on the hold-out, version 0 has 0.7500"
    loaded = published.load()
    assert (loaded.number, loaded.note, loaded.model.card.version, loaded.model.card.parent) == (
        1,
        "",
        "3+1",
        "small 3",
    )
    assert torch.equal(
        next(loaded.model.network.parameters()), next(fresh(card, 1).parameters()).half().float()
    )
    record = published.versions()[1].record
    assert (record.parent, record.labels, record.held_out, record.figures) == (
        0,
        {"A": "final 2"},
        {"B": "final 1"},
        GOOD,
    )
    assert (record.before, record.settings, record.trusted, record.reason) == (
        {"mean": 0.75},
        {"steps": 5},
        True,
        decision.reason,
    )
    assert publish(2).number == 2
    assert (published.load().model.card.version, published.load().model.card.parent) == ("3+2", "small 3+1")


@pytest.mark.parametrize(
    ("figures", "more", "why"),
    [
        (WORSE, {}, "mean 0.7000 on the hold-out, version 0 has 0.7500"),
        (WORSE, {"tolerance": 0.04}, "only 0.04 less is allowed"),
        ({"mean": float("nan")}, {}, "not a number"),
        (
            {"WT": 1.0},
            {},
            (
                "no labelled case is held out, so it cannot be compared with version 0: label more cases, or "
                "choose it yourself with `slem publish`"
            ),
        ),
        (
            GOOD,
            {"policy": "never"},
            (
                "kept apart: mean 0.8000 on the hold-out, version 0 has 0.7500; no model is published by "
                "itself here"
            ),
        ),
        (GOOD, {"parent": 7}, "trained from version 7 .* meanwhile version 0 is served"),
    ],
)
def test_a_worse_candidate_is_kept_apart_with_the_reason(
    published: Published, publish: Callable[..., Decision], figures: dict, more: dict, why: str
) -> None:
    decision = publish(1, figures, **more)
    assert (decision.published, decision.number, published.served_number(), published.numbers()) == (
        False,
        0,
        0,
        (0,),
    )
    (kept,) = published.refused()
    assert kept.folder == decision.folder
    assert kept.record.reason == decision.reason
    assert re.search(why, decision.reason)
    assert load_model(kept.folder).card.version == "3+refused"


def test_every_model_is_served_where_that_is_wanted_but_a_broken_one(
    published: Published, publish: Callable[..., Decision]
) -> None:
    decision = publish(1, WORSE, policy="always")
    assert (decision.published, decision.reason) == (
        True,
        "mean 0.7000 on the hold-out, version 0 has 0.7500; every model is published here",
    )
    assert (
        publish(2, {"WT": 0.5}, policy="always").reason
        == "no labelled case is held out; every model is published here"
    )
    assert not publish(3, {"mean": float("nan")}, policy="always").published


def test_what_was_learnt_follows_the_parents(published: Published, publish: Callable[..., Decision]) -> None:
    publish(1, labels={"A": "final 1", "B": "final 1"}, round="first")
    publish(2, labels={"A": "final 2", "C": "final 1"}, round="second")
    refused = publish(3, WORSE, labels={"D": "final 1"}, round="third")
    assert published.learnt(2) == {"A": "final 2", "B": "final 1", "C": "final 1"}
    published.serve(1)
    assert publish(4, labels={"E": "final 1"}).number == 3
    assert published.learnt(3) == {"A": "final 1", "B": "final 1", "E": "final 1"}
    assert published.learnt(0) == {}
    assert (
        published.of_round("second").number,
        published.of_round("third").folder,
        published.of_round("fourth"),
    ) == (2, refused.folder, None)


def test_a_version_that_clients_would_not_know_is_passed_over(
    published: Published, publish: Callable[..., Decision], card: Card
) -> None:
    publish(1)
    later = replace(
        card, network=replace(card.network, prompts=channel_count(card.labels)), file="", sha256=""
    )
    save_model(published.bundled, later, build(later.network))  # a newer bundled model listens to clicks
    assert published.load().number == 0
    assert "it differs in prompts" in published.load().note


def test_the_tolerance_lets_a_slightly_worse_one_pass(publish: Callable[..., Decision]) -> None:
    assert publish(1, {"mean": 0.73}, tolerance=0.03).published


def test_keeps_ten_refused_candidates(published: Published, publish: Callable[..., Decision]) -> None:
    folders = [publish(seed, WORSE).folder for seed in range(12)]
    assert [one.folder for one in published.refused()] == folders[2:]


def test_rolls_back_and_forth_and_never_reuses_a_number(
    published: Published, publish: Callable[..., Decision]
) -> None:
    publish(1), publish(2)
    before = {path: data for path, data in everything(published).items() if "0000" in path}
    stamps = {published.stamp()}
    for number in (1, 0, 2, 1):
        published.serve(number)
        stamps.add(published.stamp())
        assert (published.served_number(), published.load().number) == (number, number)
    assert len(stamps) > 1
    assert publish(3).number == 3
    assert published.load().model.card.parent == "small 3+1"
    after = everything(published)
    assert {path: after[path] for path in before} == before
    with pytest.raises(NotFound, match="small has no version 9; there are 0, 1, 2, 3"):
        published.serve(9)


def test_each_switch_shows_in_the_stamp(published: Published, publish: Callable[..., Decision]) -> None:
    publish(1)
    first = published.stamp()
    assert first is not None
    assert published.stamp() == first
    published.serve(0)
    assert published.stamp() != first


def test_a_damaged_version_is_told_and_the_one_before_is_served(
    published: Published, publish: Callable[..., Decision]
) -> None:
    publish(1), publish(2)
    (weights,) = published.served().glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-5])
    loaded = published.load()
    assert loaded.number == 1
    assert "version 2 of small cannot be used" in loaded.note
    assert loaded.note.endswith("is damaged or of another model: sha256" + loaded.note.partition("sha256")[2])
    assert "version 1 is served" in loaded.note
    assert [bool(one.problem) for one in published.versions(check=True)] == [False, False, True]
    with pytest.raises(BadWeights, match="damaged"):
        published.serve(2)
    decision = publish(3)  # compared with what is really served
    assert (decision.published, decision.number) == (True, 3)
    assert published.load().model.card.parent == "small 3+1"


def test_a_damaged_pointer_is_told_and_can_be_set_again(
    published: Published, publish: Callable[..., Decision]
) -> None:
    publish(1)
    (published.path / "served.json").write_text("{")
    with pytest.raises(BadWeights, match=r"served\.json cannot be read .*`slem models --serve NUMBER`"):
        published.served()
    assert (published.load().number, "cannot be read" in published.load().note) == (0, True)
    published.serve(1)
    assert (published.load().number, published.load().note) == (1, "")


def test_refuses_what_clients_do_not_know(published: Published, card: Card, network: Segmenter) -> None:
    other = replace(card, sequences=("a", "b", "c", "d"), reference_order=("a",))
    with pytest.raises(BadCard, match="cannot take the place of small 3: it differs in sequences"):
        published.publish(other, network, GOOD, GOOD)
    with pytest.raises(BadCard, match="differs in name"):
        published.publish(replace(card, name="else"), network, GOOD, GOOD)
    assert published.numbers() == (0,)


@pytest.mark.parametrize("calls", [0, 2, 4, 5, 6, 7])
def test_a_full_disk_leaves_all_as_it_was(
    published: Published, publish: Callable[..., Decision], monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    publish(1)
    before, left, real = everything(published), [calls], os.fsync

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed, match="No space left on device"):
        publish(2)
    monkeypatch.undo()
    assert everything(published) == before
    assert not list(published.path.glob(".new-*"))
    assert (published.served_number(), publish(3).number) == (1, 2)


def test_a_switch_that_only_may_not_outlast_a_power_cut_is_one(
    published: Published, publish: Callable[..., Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(
        "slem_app.weights.published.write_file",
        lambda path, data: full(path, data) if path.name == "served.json" else path.write_bytes(data),
    )
    assert publish(1).published
    assert published.load().number == 1


WRITER = """
import itertools, os, sys, time
from pathlib import Path
import torch
from slem_app.network import build
from slem_app.weights import load_card
from slem_app.weights.published import Published
torch.set_num_threads(1)
published = Published(Path(sys.argv[1]), "small", Path(sys.argv[2]))
card = load_card(published.bundled)
network = build(card.network)
begin = time.monotonic()
published.publish(card, network, {"mean": 1}, {"mean": 1})
print(time.monotonic() - begin, flush=True)
for _ in sys.stdin:  # a process of its own for every line
    child = os.fork()
    if child == 0:
        for turn in itertools.count():
            published.publish(card, network, {"mean": 2.5 - turn % 3}, {"mean": 1})
            published.serve(published.numbers()[turn % 2 - 1])
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)  # 9: killed; anything else: it failed by itself
"""


def test_killed_at_any_moment_a_valid_model_is_served(
    published: Published, card: Card, network: Segmenter
) -> None:
    command = [sys.executable, "-c", WRITER, str(published.path.parent), str(published.bundled)]
    draw = random.Random(7)
    with subprocess.Popen(
        command, cwd=PROJECT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=-1, stdout=-1, text=True
    ) as maker:
        once = float(maker.stdout.readline())  # s that a publishing takes here
        for _ in range(10):
            maker.stdin.write("go\n")
            maker.stdin.flush()
            child = int(maker.stdout.readline())
            time.sleep(draw.uniform(0, 3 * once))
            os.kill(child, 9)
            assert maker.stdout.readline() == "9\n"
            loaded = published.load()
            assert (loaded.number, loaded.note) == (published.served_number(), "")
            assert [one.problem for one in published.versions(check=True)] == [""] * len(published.numbers())
        maker.stdin.close()
    decision = published.publish(card, network, GOOD, GOOD)
    assert (decision.published, published.load().number) == (True, max(published.numbers()))
    assert decision.number > 1
    assert not list(published.path.glob(".new-*"))


def test_knows_the_version_of_a_folder(published: Published, publish: Callable[..., Decision]) -> None:
    folder = publish(1).folder
    assert (
        published.number_of(folder),
        published.number_of(str(folder)),
        published.number_of(published.bundled),
    ) == (1, 1, 0)
    assert json.loads((published.path / "served.json").read_text()) == {"number": 1, "before": 0}
