"""Which case comes next, and that no two readers get the same."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest.mock import MagicMock

import nibabel
import numpy as np
import pytest

from slem_app import phantom
from slem_app.selection import STRATEGIES, Measures
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.learning.case_scores import Scores
from slem_app.serving.learning.leases import Leases
from slem_app.serving.learning.next_case import Chooser, NextCase
from slem_app.serving.learning.request_types import NextCaseRequest
from slem_app.serving.learning.score_files import Entry
from slem_app.weights import BRAIN_LABELS

Ask = Callable[..., NextCase | None]


def finish(datastore: CaseDatastore, case: str, tmp_path: Path) -> None:
    grid = datastore.cases.find(case).series.grid
    nibabel.save(nibabel.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.affine), tmp_path / "label.nii.gz")
    datastore.save_label(case, str(tmp_path / "label.nii.gz"), "final", {})


def chooser_of(datastore: CaseDatastore, tmp_path: Path, minutes: float = 30) -> Chooser:
    return Chooser(
        Scores(tmp_path / "scores", datastore, lambda: []), Leases(tmp_path / "leases.json", minutes), seed=0
    )


@pytest.fixture
def chooser(datastore: CaseDatastore, tmp_path: Path) -> Chooser:
    return chooser_of(datastore, tmp_path)


@pytest.fixture
def ask(chooser: Chooser, datastore: CaseDatastore) -> Ask:
    return lambda strategy, reader="ann": chooser.next(NextCaseRequest(strategy, reader), datastore)


@pytest.fixture
def many(heads: dict, tmp_path: Path) -> CaseDatastore:
    phantom.write_nifti(heads["A"], tmp_path / "many", "00")
    for number in range(1, 20):
        (tmp_path / f"many/{number:02}").mkdir()
        for path in (tmp_path / "many/00").iterdir():
            (tmp_path / f"many/{number:02}" / path.name.replace("00-", f"{number:02}-")).symlink_to(path)
    return CaseDatastore(
        Cases(tmp_path / "many", tmp_path / "store" / "uploads"),
        tmp_path / "store",
        {"slem_brain": BRAIN_LABELS},
    )


def test_first_goes_by_name_and_passes_over_what_is_done(
    ask: Ask, datastore: CaseDatastore, tmp_path: Path
) -> None:
    assert ask("first").id == ask("first").id == "A"
    finish(datastore, "A", tmp_path)
    assert ask("first").id == "B"
    finish(datastore, "B", tmp_path)
    assert ask("first") is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_labelled_cases_are_never_offered_and_nothing_when_all_are(
    ask: Ask, datastore: CaseDatastore, strategy: str, tmp_path: Path
) -> None:
    finish(datastore, "B", tmp_path)
    assert [ask(strategy).id for _ in range(3)] == ["A"] * 3
    finish(datastore, "A", tmp_path)
    assert ask(strategy) is None


def test_a_final_label_counts_whatever_the_request_asks_for(
    chooser: Chooser, datastore: CaseDatastore, tmp_path: Path
) -> None:
    finish(datastore, "A", tmp_path)  # an empty label, which has no edema
    for request in (
        NextCaseRequest("first", labels=("edema",)),
        NextCaseRequest("first", label_tag="original"),
    ):
        assert chooser.next(request, datastore).id == "B"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_readers_get_different_cases(ask: Ask, strategy: str) -> None:
    assert {ask(strategy, "ann").id, ask(strategy, "ben").id} == {"A", "B"}
    assert ask(strategy, "cleo") is None  # both are in hand


def test_readers_who_ask_at_the_same_moment_get_different_cases(many: CaseDatastore, tmp_path: Path) -> None:
    chooser, got, barrier = chooser_of(many, tmp_path), [], threading.Barrier(16)

    def reader(number: int) -> None:
        barrier.wait()
        got.append(chooser.next(NextCaseRequest("balanced", f"reader {number}"), many).id)

    threads = [threading.Thread(target=reader, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == len(got) == 16


def test_a_restart_keeps_the_leases(many: CaseDatastore, tmp_path: Path) -> None:
    given = [
        chooser_of(many, tmp_path).next(NextCaseRequest("first", f"reader {n}"), many).id for n in range(5)
    ]
    assert given == ["00", "01", "02", "03", "04"]


def test_a_lease_ends_in_time_and_when_the_case_is_saved(datastore: CaseDatastore, tmp_path: Path) -> None:
    now = [1000.0]
    chooser = Chooser(
        Scores(tmp_path / "scores", datastore, lambda: []),
        Leases(tmp_path / "leases.json", 30, clock=lambda: now[0]),
    )
    first = chooser.next(NextCaseRequest("first", "ann"), datastore)
    assert (first.id, first.leased_until) == ("A", 1000 + 1800)
    assert chooser.next(NextCaseRequest("first", "ben"), datastore).id == "B"
    now[0] += 1700
    chooser.active("A", "ann@")  # ann works, ben does not
    now[0] += 200
    assert chooser.next(NextCaseRequest("first", "cleo"), datastore).id == "B"
    finish(datastore, "A", tmp_path)
    chooser.saved("A", datastore)
    assert chooser.leases.holder("A") is None
    assert chooser.leases.holder("B") is not None


def test_a_draft_keeps_the_lease(chooser: Chooser, ask: Ask, datastore: CaseDatastore, studies: Path) -> None:
    assert ask("first").id == "A"
    datastore.save_label("A", str(studies / "A/A-seg.nii.gz"), "original", {})
    chooser.saved("A", datastore)
    assert chooser.leases.holder("A") is not None


def test_one_reader_gets_another_case_each_time_and_then_the_oldest_again(ask: Ask) -> None:
    one, two = ask("random").id, ask("random").id
    assert {one, two} == {"A", "B"}
    again = ask("random")
    assert (again.id, again.reason) == (one, "you have this one in hand; no other is free")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_case_that_cannot_be_shown_is_passed_over(
    ask: Ask, datastore: CaseDatastore, studies: Path, strategy: str, tmp_path: Path
) -> None:
    for path in (studies / "A").iterdir():
        path.rename(path.with_name(f"A-zz{path.name[-9]}{path.stat().st_size}.nii.gz"))  # no known sequence
    assert {ask(strategy).id for _ in range(3)} == {"B"}
    finish(datastore, "B", tmp_path)
    assert ask(strategy) is None


def test_what_was_not_given_lately_comes_first(ask: Ask, datastore: CaseDatastore) -> None:
    datastore.update_image_info("A", {"strategy": {"uncertainty": {"ts": 2**31}}})
    assert ask("random").id == "B"


def test_the_reply_tells_why(chooser: Chooser, ask: Ask) -> None:
    blind = ask("balanced")
    assert (blind.reason, blind.score) == ("drawn at random", None)
    assert blind.strategy_notes == ("no case that is left is measured yet: drawn at random",)
    none = dict.fromkeys(BRAIN_LABELS.names, 0.0)
    for case, uncertainty in (("A", 0.2), ("B", 0.6)):
        measures = Measures(
            uncertainty, dict.fromkeys(none, uncertainty), dict.fromkeys(none, 1.0), np.zeros(2, np.float32)
        )
        chooser.scores.entries[case] = {"": Entry("", "", 0.0, measures)}
    chooser.leases.leases.clear()
    told = ask("disagreement")
    assert (told.id, told.score, told.details["edema"]) == ("B", 0.6, 0.6)
    assert "the model is unsure here (0.60 bit" in told.reason
    assert told.strategy_notes == ("there is no earlier model to compare with: ordered by uncertainty",)


class Compared(str):
    """An id that counts how often it is compared with another."""

    __slots__ = ()
    count = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.count += 1
        return str.__eq__(self, other)


class ManyCases:
    """A datastore of cases, of which every second has a final label."""

    labels: ClassVar = {"slem_brain": None, "slem_abdomen": None}

    def __init__(self, count: int) -> None:
        self.ids = [Compared(f"case{number:06}") for number in range(count)]
        self.root = Path("no such store")
        self.get_labeled_images = lambda *_: self.ids[::2]
        self.get_unlabeled_images = lambda *_: self.ids[1::2]
        self.get_image_uri = lambda case: case
        self.image_notes = lambda case: {}
        self.models_for = lambda case: ("slem_brain",)


def measured(cases: Sequence[str]) -> dict[str, Measures]:
    chance = np.random.default_rng(0)
    names = BRAIN_LABELS.names
    return {
        case: Measures(
            0.1, dict(zip(names, chance.random(3))), dict(zip(names, chance.random(3))), chance.random(4)
        )
        for case in cases
    }


@pytest.mark.parametrize("known", [False, True], ids=["unmeasured", "measured"])
@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_ten_thousand_cases_are_looked_at_once_each(tmp_path: Path, strategy: str, known: bool) -> None:
    datastore = ManyCases(10_000)
    measures = measured(datastore.ids) if known else {}
    scores = SimpleNamespace(
        models=lambda cases: dict.fromkeys(measures, "slem_brain"),
        of=lambda *_: (measures, ()),
        labelled_ml=dict,
    )
    chooser = Chooser(scores, Leases(tmp_path / "leases.json", 30), seed=0)
    Compared.count = 0
    begin = time.process_time()
    assert chooser.next(NextCaseRequest(strategy, "ann"), datastore).id in datastore.ids[1::2]
    assert Compared.count < 5_000  # the assertion's own; 25 million where tuples are searched
    assert time.process_time() - begin < 30


def test_cases_that_no_model_takes_are_passed_over_in_one_go(tmp_path: Path) -> None:
    datastore = ManyCases(2_000)
    scores = SimpleNamespace(models=lambda cases: {}, of=lambda *_: ({}, ()), labelled_ml=dict)
    draws = np.random.default_rng(0)
    chooser = Chooser(scores, Leases(tmp_path / "leases.json", 30))
    chooser.random = MagicMock(wraps=draws)
    assert chooser.next(NextCaseRequest("balanced", "ann", "slem_abdomen"), datastore) is None
    drawn = sum(call.kwargs["size"] for call in chooser.random.exponential.call_args_list)
    assert 0 < drawn <= 2_000  # half a million where all that are left are drawn anew
