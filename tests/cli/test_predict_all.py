"""`slem predict --all`: drafts for what awaits one, shared among processes, going on where it was stopped."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app import phantom
from slem_app.cli import main
from slem_app.cli.predict_all import processes_for
from slem_app.errors import BadSetting
from slem_app.formats import read_label_file, write_nifti
from slem_app.network import build
from slem_app.predict import best_precision
from slem_app.store.case_labels import CaseLabels
from slem_app.store.drafts import Drafts
from slem_app.store.labels import LabelStore
from slem_app.store.record import LabelRecord
from slem_app.weights import BRAIN_LABELS, Confidence, load_model, save_model
from slem_app.weights.published import Published
from tests.fake_pacs import FakePacs, running
from tests.untrained import SMALL, small_card
from tests.waiting import wait_until

HEAD = phantom.make(seed=4, shape=(20, 24, 20), spacing=(7.0, 7.0, 7.0))
CASES = [f"case-{n}" for n in range(6)]


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for case in CASES:
        phantom.write_nifti(HEAD, tmp_path / "studies", case)
    monkeypatch.setenv("SLEM_MODELS", str(tmp_path / "models"))
    new_model(tmp_path, 0)
    return tmp_path / "studies"


def new_model(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    card = small_card(7.0, version=f"1.{seed}", network=replace(SMALL, prior=0.5))
    save_model(tmp_path / "models" / "small", card, build(card.network))


def submit(studies: Path, case: str, tag: str, record: LabelRecord) -> None:
    meta = {
        "sequence": "t1c",
        "label_names": {name: value for value, name in enumerate(BRAIN_LABELS.names, 1)},
        **record.to_meta(),
    }
    LabelStore(studies / ".slem").save(
        case, tag, lambda path: write_nifti(HEAD.labels, HEAD.grid, BRAIN_LABELS, path), meta
    )


def versions(studies: Path, tag: str = "original") -> dict[str, int]:
    store = LabelStore(studies / ".slem")
    return {case: len(store.versions(case, tag)) for case in CASES}


def test_what_awaits_a_draft_gets_one_and_readers_work_is_left_alone(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(studies, "case-0", "final", LabelRecord(1.0, "eva@x"))
    submit(studies, "case-1", "original", LabelRecord(1.0, "tom@x"))  # a reader's own draft
    (studies / "case-2/case-2-t1c.nii.gz").write_bytes(b"broken")
    call = ["predict", str(studies), "--all", "--model", "small", "--report", str(tmp_path / "report.json")]
    assert main(call) == 1
    ended = capsys.readouterr()
    assert "left out case-2: " in ended.out
    assert f"3 drafts by small 1.0 in {studies}/.slem, tag original" in ended.out
    assert "drafts: 100%" in ended.err.replace("\r", "\n")
    assert versions(studies) == {"case-0": 0, "case-1": 1, "case-2": 0, "case-3": 1, "case-4": 1, "case-5": 1}
    assert versions(studies, "final")["case-0"] == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["total"], report["done"], list(report["skipped"]), report["ended"]) == (
        4,
        4,
        ["case-2"],
        True,
    )
    draft = LabelStore(studies / ".slem").latest("case-3", "original")
    assert (draft.record.automatic, draft.record.who, draft.record.client) == (
        True,
        "small 1.0",
        "slem predict",
    )
    assert main(["predict", str(studies / "case-3"), "--model", "small", "-o", str(tmp_path / "out")]) == 0
    np.testing.assert_array_equal(
        read_label_file(draft.label)[0], read_label_file(tmp_path / "out/case-3.nii.gz")[0]
    )


def test_called_again_it_goes_on_and_repeats_nothing_until_the_model_changes(
    studies: Path, tmp_path: Path
) -> None:
    call = ["predict", str(studies), "--all", "--model", "small"]
    assert main([*call, "--limit", "2"]) == 0
    assert sum(versions(studies).values()) == 2
    assert main(call) == 0
    assert main(call) == 0
    assert versions(studies) == dict.fromkeys(CASES, 1)
    new_model(tmp_path, 1)
    submit(studies, "case-0", "final", LabelRecord(1.0, "eva@x"))
    assert main(call) == 0
    assert versions(studies) == {**dict.fromkeys(CASES, 2), "case-0": 1}
    assert (
        main(
            [
                "predict",
                str(studies),
                "case-0",
                "--all",
                "--model",
                "small",
                "--images",
                "labeled",
                "--tag",
                "second",
            ]
        )
        == 0
    )
    assert versions(studies, "second") == {**dict.fromkeys(CASES, 0), "case-0": 1}


def test_two_processes_share_the_cases_and_go_on_where_killed_ones_were(studies: Path) -> None:
    call = [sys.executable, "-m", "slem_app.cli", "predict", str(studies), "--all", "--model", "small"]
    call += ["--device", "cpu", "--processes"]
    first = subprocess.Popen(
        [*call, "1"], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_until(lambda: any(versions(studies).values()) or first.poll() is not None, 120, pause=0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    before = sum(versions(studies).values())
    assert 0 < before <= len(CASES)
    submit(studies, CASES[0], "final", LabelRecord(1.0, "eva@x"))
    for case in CASES[2:]:  # so that there is something left for both, however fast the first ones were
        shutil.rmtree(studies / ".slem/labels" / case, ignore_errors=True)
    second = subprocess.run([*call, "2"], capture_output=True, text=True, timeout=180, check=False)
    assert second.returncode == 0, second.stderr
    assert all(number == 1 for case, number in versions(studies).items() if case != CASES[0])
    assert not list((studies / ".slem").rglob(".new-*"))  # what the killed ones left is swept


def test_every_draft_says_what_it_was_made_from_and_a_table_tells_of_all(
    studies: Path, tmp_path: Path
) -> None:
    (studies / "case-2/case-2-t1c.nii.gz").write_bytes(b"broken")
    table = tmp_path / "tables/archive.csv"
    assert main(["predict", str(studies), "--all", "--model", "small", "--table", str(table)]) == 1
    version = LabelStore(studies / ".slem").latest("case-3", "original")
    made = version.meta["provenance"]
    used = studies / "case-3/case-3-t1c.nii.gz"
    assert made["inputs"]["t1c"] == {"series": "t1c", "sha256": sha256(used.read_bytes()).hexdigest()}
    assert set(made["inputs"]) == {"t1n", "t1c", "t2w", "t2f"}
    assert made["settings"]["precision"] == best_precision(torch.device("cpu"))
    with table.open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == CASES
    assert rows["case-2"]["state"] == "quarantined"
    assert "case-2" in rows["case-2"]["reason"]
    row = rows["case-3"]
    assert (row["state"], row["weights_sha256"]) == ("made", load_model("small").card.sha256)
    assert (studies / ".slem" / row["label"]).is_file()
    assert float(row["edema_ml"]) == pytest.approx(made["volumes_ml"]["edema"])
    bad = [*("predict", str(studies), "--all", "--model", "small", "--table"), str(tmp_path / "x.txt")]
    assert main(bad) == 2


def test_a_process_that_is_killed_is_started_again(studies: Path) -> None:
    """Both workers are killed once each, while their supervisor goes on."""
    call = [sys.executable, "-m", "slem_app.cli", "predict", str(studies), "--all", "--model", "small"]
    supervisor = subprocess.Popen(
        [*call, "--device", "cpu", "--processes", "2"], stdout=subprocess.PIPE, text=True
    )
    children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
    wait_until(lambda: len(children.read_text().split()) == 2, 120, pause=0.02)
    for child in children.read_text().split():
        os.kill(int(child), signal.SIGKILL)
    out, _ = supervisor.communicate(timeout=240)
    assert supervisor.returncode == 0
    assert "6 drafts by small 1.0" in out
    assert versions(studies) == dict.fromkeys(CASES, 1)


def test_a_case_of_another_model_is_left_to_that(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (studies / "case-5").iterdir():
        path.unlink()
    phantom.write_nifti(
        phantom.make_abdomen(seed=1, spacing=(8.0, 8.0, 12.0)), studies, "case-5", layout="nifti"
    )
    assert main(["predict", str(studies), "--all", "--model", "small"]) == 0
    assert (
        "1 cases have none of the sequences of small and are left to other models: case-5"
        in capsys.readouterr().out
    )
    assert versions(studies) == {**dict.fromkeys(CASES, 1), "case-5": 0}


def test_a_case_that_another_process_has_is_left_to_it(studies: Path) -> None:
    drafts = Drafts(CaseLabels(str(studies), studies / ".slem"), "small", "1", "ab")
    with drafts.claimed("case-0") as ours:
        assert ours
        with drafts.claimed("case-0") as theirs:
            assert not theirs
    with drafts.claimed("case-0") as ours:
        assert ours


def test_the_cases_of_a_pacs_get_drafts_and_can_be_exported(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phantom.write_dicom(HEAD, tmp_path / "dicom", "ann")
    with running(FakePacs(tmp_path / "dicom", tmp_path / "pacs")) as pacs:
        call = ["predict", pacs.url, "--all", "--model", "small", "--store", str(tmp_path / "store")]
        assert main(call) == 0
        assert main(call) == 0
        store = LabelStore(tmp_path / "store")
        (case,) = store.cases()
        (draft,) = store.history(case)
        store.save(case, "final", lambda path: shutil.copy(draft.label, path), draft.meta)  # a reader agrees
        assert (
            main(
                [
                    "labels",
                    "export",
                    pacs.url,
                    "--store",
                    str(tmp_path / "store"),
                    "--layout",
                    "bids",
                    "-o",
                    str(tmp_path / "bids"),
                ]
            )
            == 0
        )
    assert len(list((tmp_path / "bids").rglob("*.nii.gz"))) == 5
    assert f"1 cases in {tmp_path}/bids" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--tag", "final"], "is never kept as a final label"),
        (["--out", "x"], "--all makes drafts in the label store"),
        (["--device", "abacus"], "unknown device 'abacus'"),
    ],
)
def test_bad_options_are_told(
    studies: Path, capsys: pytest.CaptureFixture[str], more: list[str], text: str
) -> None:
    assert main(["predict", str(studies), "--all", "--model", "small", *more]) == 2
    assert text in capsys.readouterr().err
    with pytest.raises(BadSetting, match="images must be one of unlabeled, labeled, all, got 'some'"):
        Drafts(CaseLabels(str(studies), studies / ".slem"), "small", "1", "ab", which="some")


def test_an_unknown_case_is_told_and_a_cpu_is_one_process(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(studies), "case-9", "--all", "--model", "small"]) == 2
    assert "case 'case-9' is neither in" in capsys.readouterr().err
    assert (processes_for(0, "cpu"), processes_for(3, "cpu")) == (1, 3)


def test_drafts_are_made_by_the_version_that_the_server_serves(studies: Path, tmp_path: Path) -> None:
    published = Published(studies / ".slem" / "models", "small", tmp_path / "models" / "small")
    model = load_model("small")
    published.publish(model.card, model.network, {"mean": 0.5}, {"mean": 0.5})
    store = LabelStore(studies / ".slem")
    for case, version, wanted in (
        ("case-0", "1.0+1", "small"),
        ("case-1", "1.0", str(tmp_path / "models" / "small")),
    ):
        assert main(["predict", str(studies), case, "--all", "--model", wanted]) == 0
        assert store.latest(case, "original").record.model_version == version


def test_results_that_the_model_says_not_to_use_are_held_back(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["predict", str(studies), "case-3", "--all", "--model", "small", "--hold-back", "do not use"]
    assert main(call) == 2  # this card tells no quality
    assert "--hold-back: the card of small has no lines" in capsys.readouterr().err
    card = small_card(7.0, version="2", network=replace(SMALL, prior=0.5))
    poor = Confidence(dice={region.name: (0.41, 0.0, 0.1) for region in card.labels.regions})
    save_model(tmp_path / "models" / "small", replace(card, confidence=poor), build(card.network))
    table, report = tmp_path / "table.csv", tmp_path / "report.json"
    assert main([*call, "--table", str(table), "--report", str(report)]) == 0
    said = capsys.readouterr().out
    assert "held back case-3: do not use (expected Dice WT 0.41" in said
    assert "0 drafts by small 2" in said
    assert versions(studies)["case-3"] == 0
    assert list(json.loads(report.read_text())["held_back"]) == ["case-3"]
    with table.open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["case"], row["state"], row["reason"][:10]) == ("case-3", "held back", "do not use")
    assert main([part if part != "do not use" else "nothing" for part in call]) == 0
    draft = LabelStore(studies / ".slem").latest("case-3", "original")
    assert draft.record.trust.quality is not None
    assert draft.record.trust.quality.step == "do not use"
