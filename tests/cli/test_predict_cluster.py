"""`slem predict --all --cluster`: the same drafts as without one, whatever becomes of its processes."""

import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from slem_app import phantom
from slem_app.cli import main, predict_all
from slem_app.cli.predict_cluster import RemoteMaker
from slem_app.cli.predict_maker import Made
from slem_app.grouping import Grouping
from slem_app.network import build
from slem_app.store import work_queue
from slem_app.store.labels import LabelStore
from slem_app.weights import save_model
from tests.fake_cluster import FakeMembers
from tests.untrained import SMALL, small_card

CASES = [f"case-{n}" for n in range(6)]


class FakeCluster(FakeMembers):
    """A cluster without a GPU, of two machines."""

    size, has_gpus = 2, False


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """What every `--cluster` is."""
    made = FakeCluster()
    monkeypatch.setattr(predict_all, "Cluster", lambda address: made)
    monkeypatch.setattr(work_queue, "PAUSE", 0.01)
    return made


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command, without the cluster."""
    for n, case in enumerate(CASES):
        head = phantom.make(seed=n, shape=(20, 24, 20), spacing=(7.0, 7.0, 7.0))
        phantom.write_nifti(head, tmp_path / "studies", case, labels=False)
    monkeypatch.setenv("SLEM_MODELS", str(tmp_path / "models"))
    torch.manual_seed(0)
    card = small_card(7.0, network=replace(SMALL, prior=0.5))
    save_model(tmp_path / "models" / "small", card, build(card.network))
    studies = str(tmp_path / "studies")
    return ["predict", studies, "--all", "--model", "small", "--device", "cpu", "--store"]


def dies_of(deadly: Callable[[str], bool], cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes die while they make certain cases."""
    whole = RemoteMaker.make

    def make(self: RemoteMaker, grouping: Grouping) -> Made:
        if deadly(grouping.study.id):
            for member in cluster.alive:
                if member.object is self:
                    member.stop()
        return whole(self, grouping)

    monkeypatch.setattr(RemoteMaker, "make", make)


def drafts(store: Path) -> dict[str, list[str]]:
    """Hashes of all versions of each case's draft."""
    return {
        case: [
            sha256(version.label.read_bytes()).hexdigest()
            for version in LabelStore(store).versions(case, "original")
        ]
        for case in CASES
    }


def test_a_cluster_makes_the_same_drafts_with_the_same_provenance(
    call: list[str], cluster: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*call, str(tmp_path / "one")]) == 0
    assert main([*call, str(tmp_path / "two"), "--cluster", "auto"]) == 0
    assert "6 drafts by small" in capsys.readouterr().out
    assert drafts(tmp_path / "two") == drafts(tmp_path / "one")
    assert len({*map(str, drafts(tmp_path / "two").values())}) == len(CASES)
    one, two = (LabelStore(tmp_path / name).latest("case-1", "original").meta for name in ("one", "two"))
    assert one["provenance"] == two["provenance"]
    assert one["present"] == two["present"]
    shares = [member.calls.count("make") for member in cluster.members]
    assert (len(shares), sum(shares), min(shares) > 0) == (2, len(CASES), True)
    assert not cluster.alive


def test_killed_processes_cost_no_case_and_make_none_twice(
    call: list[str], cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three cases kill the process that makes them, the first time."""
    assert main([*call, str(tmp_path / "one")]) == 0
    left = {"case-1", "case-2", "case-5"}
    dies_of(lambda case: case in left and not left.remove(case), cluster, monkeypatch)
    assert main([*call, str(tmp_path / "two"), "--cluster", "auto", "--processes", "3"]) == 0
    assert not left
    assert len(cluster.members) > 3
    assert drafts(tmp_path / "two") == drafts(tmp_path / "one")


def test_a_case_that_cannot_be_made_is_left_out_with_its_reason(
    call: list[str], cluster: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "studies/case-2/case-2-t1c.nii.gz").write_bytes(b"broken")
    assert main([*call, str(tmp_path / "one")]) == 1
    assert main([*call, str(tmp_path / "two"), "--cluster", "auto"]) == 1
    reasons = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out")]
    assert len(reasons) == 2
    assert reasons[0] == reasons[1]
    assert drafts(tmp_path / "two") == drafts(tmp_path / "one")


def test_a_case_that_kills_every_process_is_left_out_and_the_others_are_made(
    call: list[str],
    cluster: FakeCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("slem_app.cli.predict_cluster.AHEAD", 1)  # else its neighbours share the blame
    dies_of(lambda case: case == "case-3", cluster, monkeypatch)
    assert main([*call, str(tmp_path / "two"), "--cluster", "auto"]) == 1
    assert "left out case-3: killed" in capsys.readouterr().out
    assert {case: len(found) for case, found in drafts(tmp_path / "two").items()} == {
        **dict.fromkeys(CASES, 1),
        "case-3": 0,
    }


def test_a_cluster_that_loses_every_process_ends_the_command_and_the_next_one_goes_on(
    call: list[str], cluster: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.called = lambda member, method: member.stop()
    assert main([*call, str(tmp_path / "two"), "--cluster", "auto"]) == 2
    assert "processes of the cluster were lost one after the other" in capsys.readouterr().err
    cluster.called = lambda member, method: None
    assert main([*call, str(tmp_path / "two"), "--cluster", "auto"]) == 0
    assert {len(found) for found in drafts(tmp_path / "two").values()} == {1}


def test_what_a_process_cannot_begin_with_is_told(
    call: list[str], cluster: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [part if part != "cpu" else "abacus" for part in call]
    assert main([*wrong, str(tmp_path / "two"), "--cluster", "auto"]) == 2
    assert "unknown device 'abacus'" in capsys.readouterr().err


def test_without_ray_the_command_says_what_to_install(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*call, str(tmp_path / "two"), "--cluster", "auto"]) == 2
    assert "--cluster needs Ray: pip install 'slem-label[cluster]'" in capsys.readouterr().err
