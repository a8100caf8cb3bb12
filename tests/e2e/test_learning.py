"""The learning loop by the wheel's own client for 3D Slicer against a real server: label three cases, train, watch, go on."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slem_app import phantom
from slem_app.formats import write_nifti
from slem_app.weights import BRAIN_LABELS

from .test_slicer_client import CLIENT, NAMES, load_client, untrained

SMALL = {"shape": (40, 48, 40), "spacing": (4.0, 4.0, 4.0)}
PATIENCE = 400  # s for a round of some seconds

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # the client leaves its sockets to the garbage collector
]


def test_label_train_watch_and_go_on(start_server: Callable, tmp_path: Path) -> None:
    if not CLIENT.is_file():
        pytest.skip("this MONAI Label was installed without its Slicer plugin")
    heads = {f"case{n}": phantom.make(seed=n, **SMALL) for n in range(1, 5)}
    for name, head in heads.items():
        phantom.write_nifti(head, tmp_path / "studies", name)
    models = untrained(tmp_path / "models")
    server = start_server(
        tmp_path / "studies", "--conf", "models_dir", str(models), "--conf", "models", "slem_brain", "--conf", "store", str(tmp_path / "store")
    )
    client = load_client().MONAILabelClient(server.url)
    assert list(client.info()["trainers"]) == ["slem_brain"]
    assert not client.train_status(check_if_running=True)
    labelled = []
    for _ in range(3):
        case = client.next_sample("first", {})["id"]
        label = tmp_path / f"{case}.nii.gz"
        write_nifti(heads[case].labels, heads[case].grid, BRAIN_LABELS, label)
        client.save_label(case, str(label), "", {"label_info": [{"name": name, "idx": value} for value, name in enumerate(NAMES, 1)]})
        labelled.append(case)
    assert len(set(labelled)) == 3
    client.train_start("slem_brain", {"max_epochs": 2, "epoch_steps": 4, "device": ["cpu"], "name": "first"})
    begun, polls = time.monotonic(), []
    while client.train_status(check_if_running=True):
        assert time.monotonic() - begun < PATIENCE
        polls.append(client.info()["train_stats"]["slem_brain"])
        time.sleep(0.5)
    assert polls
    assert all(0 <= poll["best_metric"] <= 1 and poll["total_epochs"] == 2 for poll in polls)
    done, stats = client.train_status(check_if_running=False), client.info()["train_stats"]["slem_brain"]
    assert (done["status"], stats["epoch"], stats["skipped"]) == ("DONE", 2, {}), done
    assert stats["best_metric"] >= polls[0]["best_metric"]
    assert client.next_sample("first", {})["id"] not in labelled
