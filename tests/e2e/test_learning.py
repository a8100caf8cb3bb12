"""The learning loop by the wheel's own client for 3D Slicer against a real server: label, train, watch, see
the new model in use, take it back.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from slem_app import phantom
from slem_app.formats import read_label_file, write_nifti
from slem_app.store.labels import LabelStore
from slem_app.weights import BRAIN_LABELS, load_model
from slem_app.weights.published import Published

from .slicer_client import CLIENT, NAMES, load_client, untrained

SMALL = {"shape": (40, 48, 40), "spacing": (4.0, 4.0, 4.0)}
PATIENCE = 400  # s for a round of some seconds
LABELS = {"label_info": [{"name": name, "idx": value} for value, name in enumerate(NAMES, 1)]}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # the client leaves its sockets to the garbage collector
    pytest.mark.skipif(
        not CLIENT.is_file(), reason="this MONAI Label was installed without its Slicer plugin"
    ),
]


@pytest.fixture
def heads(tmp_path: Path) -> dict[str, phantom.Phantom]:
    """Four cases in a studies folder, and a label file for each."""
    found = {f"case{n}": phantom.make(seed=n, **SMALL) for n in range(1, 5)}
    for name, head in found.items():
        phantom.write_nifti(head, tmp_path / "studies", name)
        write_nifti(head.labels, head.grid, BRAIN_LABELS, tmp_path / f"{name}.nii.gz")
    return found


@pytest.fixture
def start(start_server: Callable, heads: dict, tmp_path: Path) -> Callable:
    """A server on them that keeps everything in one store."""
    models = untrained(tmp_path / "models")
    options = {"models_dir": models, "models": "slem_brain", "store": tmp_path / "store", "score_load": 0.05}
    return lambda: start_server(
        tmp_path / "studies",
        *(part for key, value in options.items() for part in ("--conf", key, str(value))),
    )


def segmentation(client: object, case: str) -> tuple[np.ndarray, str]:
    """The automatic segmentation as Slicer gets it, and the version that made it."""
    file, params = client.infer("slem_brain", case, {"result_extension": ".nrrd"})
    return sitk.GetArrayFromImage(sitk.ReadImage(file)), params["model_version"]


def train(client: object, **fields: object) -> list[dict]:
    """Press Train and wait for the end; what `/info/` said meanwhile and then."""
    client.train_start("slem_brain", fields)
    begun, polls = time.monotonic(), []
    while client.train_status(check_if_running=True):
        assert time.monotonic() - begun < PATIENCE
        polls.append(client.info()["train_stats"]["slem_brain"])
        time.sleep(0.5)
    return [*polls, client.info()["train_stats"]["slem_brain"]]


def wait_for_version(client: object, version: str) -> None:
    """Until the server says that it serves it; it looks every second."""
    end = time.monotonic() + 60
    while client.info()["models"]["slem_brain"]["version"] != version:
        assert time.monotonic() < end
        time.sleep(0.2)


def test_label_train_watch_go_on_with_the_new_model_and_take_it_back(start: Callable, tmp_path: Path) -> None:
    server = start()
    client = load_client().MONAILabelClient(server.url, tmpdir=str(tmp_path))
    assert list(client.info()["trainers"]) == ["slem_brain"]
    assert not client.train_status(check_if_running=True)
    labelled = []
    for _ in range(3):
        case = client.next_sample("first", {})["id"]
        client.save_label(case, str(tmp_path / f"{case}.nii.gz"), "", dict(LABELS))
        labelled.append(case)
    assert len(set(labelled)) == 3
    before, version = segmentation(client, "case4")
    assert version == "test"

    polls = train(client, max_epochs=3, epoch_steps=10, device=["cpu"], name="first")
    assert len(polls) > 1
    assert all(0 <= poll["best_metric"] <= 1 and poll["total_epochs"] == 3 for poll in polls)
    told = [poll["best_metric"] for poll in polls]
    assert told == sorted(told)
    stats, done = polls[-1], client.train_status(check_if_running=False)
    assert (done["status"], stats["epoch"], stats["skipped"], stats["trusted"]) == ("DONE", 3, {}, False), (
        done
    )
    assert any("do not trust it below" in note for note in stats["notes"])
    figures = stats["eval"]["mean_dice"]
    assert figures[-1] > figures[0] + 0.01
    assert (stats["published"], stats["reason"].partition(":")[0]) == (1, "version 1 is served")

    wait_for_version(client, "test+1")
    assert client.next_sample("balanced", {})["id"] == "case4"
    after, version = segmentation(client, "case4")
    assert version == "test+1"
    assert (after != before).any()

    back = requests.post(f"{server.url}/slem/versions/slem_brain/serve", timeout=60).json()
    assert (back["served"], [one["number"] for one in back["versions"]]) == (0, [0, 1])
    again, version = segmentation(client, "case4")
    assert version == "test"
    np.testing.assert_array_equal(again, before)


class Turmoil:
    """Clients that save labels of their cases and change the served version, without a pause, until the
    server is gone.
    """

    def __init__(self, published: Published, labels: dict[str, Path]) -> None:
        self.published, self.labels, self.model = published, labels, load_model(published.bundled)
        self.acknowledged = dict.fromkeys(labels, 0)

    def until_killed(self, server: object, seconds: float) -> None:
        jobs = [(self.change, server.url), *((self.save, server.url, case) for case in self.labels)]
        threads = [threading.Thread(target=job, args=arguments) for job, *arguments in jobs]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        for thread in threads:
            thread.join()

    def save(self, url: str, case: str) -> None:
        with contextlib.suppress(
            requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError
        ):
            while True:
                with self.labels[case].open("rb") as file:
                    answer = requests.put(
                        f"{url}/datastore/label",
                        params={"image": case},
                        files={"label": (f"{case}.nii.gz", file)},
                        timeout=60,
                    )
                assert answer.ok, answer.text
                self.acknowledged[case] += 1

    def change(self, url: str) -> None:
        with contextlib.suppress(
            requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError
        ):
            while True:
                self.published.publish(self.model.card, self.model.network, {"mean": 1.0}, {"mean": 1.0})
                requests.post(f"{url}/slem/versions/slem_brain/serve", timeout=60)


def test_a_server_killed_while_labels_are_saved_and_versions_change_loses_nothing(
    start: Callable, heads: dict, tmp_path: Path
) -> None:
    published = Published(tmp_path / "store" / "models", "slem_brain", tmp_path / "models" / "slem_brain")
    turmoil, store = None, LabelStore(tmp_path / "store")
    for turn in range(3):
        server = start()
        told = requests.get(f"{server.url}/slem/versions/slem_brain", timeout=60).json()
        assert (
            told["served"],
            told["note"],
            [one["problem"] for one in told["versions"] if one["problem"]],
        ) == (published.served_number(), "", [])
        turmoil = turmoil or Turmoil(
            published, {case: tmp_path / f"{case}.nii.gz" for case in ("case1", "case2", "case3")}
        )
        turmoil.until_killed(server, 2 + turn)
        assert published.load().note == ""
    for case, count in turmoil.acknowledged.items():
        versions = store.versions(case, "final")
        assert len(versions) >= count > 0  # one may have been kept and not told of any more
        for version in versions:
            np.testing.assert_array_equal(read_label_file(version.label)[0], heads[case].labels)
    server = start()
    assert requests.get(f"{server.url}/info/", timeout=60).json()["datastore"]["completed"] == 3
    assert not list((tmp_path / "store" / "labels").rglob(".new-*"))
