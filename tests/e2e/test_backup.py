"""A backup while readers save, by the command, of a real server: every label that was acknowledged before the
command began is in it, and everything in it is whole.
"""

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests

from slem_app import phantom
from slem_app.store.labels import LabelStore
from tests.e2e.conftest import PROJECT
from tests.e2e.slicer_client import untrained

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

HEAD = phantom.make(seed=1, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5))
READERS = ("eva", "tom")
ROUNDS = 5


def numbered(number: int) -> np.ndarray:
    """(I, J, K) noise of the values 0 to 3, whose first voxels tell its number."""
    label = np.random.default_rng(number).integers(0, 4, HEAD.grid.shape, dtype=np.uint8)
    label[0, 0, :8] = [number // 4**place % 4 for place in range(8)]
    return label


def told(path: Path) -> int:
    """The number of the label in a file, which is that label and no other."""
    label = np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
    number = sum(int(digit) * 4**place for place, digit in enumerate(label[0, 0, :8]))
    np.testing.assert_array_equal(label, numbered(number))
    return number


def save_until(stop: threading.Event, url: str, reader: str, done: list[int]) -> None:
    """Submit labels of one case, one after the other; those that are acknowledged go to `done`."""
    number = READERS.index(reader) * 10_000
    while not stop.is_set():
        number += 1
        file = gzip.compress(nibabel.Nifti1Image(numbered(number), HEAD.grid.affine).to_bytes(), 1)
        answer = requests.put(
            f"{url}/datastore/label?image=A",
            data={"params": f'{{"client_id": "{reader}"}}'},
            files={"label": ("label.nii.gz", file)},
            timeout=120,
        )
        assert answer.status_code == 200, answer.text
        done.append(number)


def acknowledged(done: dict[str, list[int]]) -> list[int]:
    """The numbers of all labels that the server said it has."""
    return [number for numbers in done.values() for number in tuple(numbers)]


def slem(*words: str | Path) -> str:
    """The command `slem`; what it says."""
    command = [sys.executable, "-m", "slem_app.cli", *map(str, words)]
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_backup_while_readers_save_lacks_no_acknowledged_label(
    start_server: Callable, tmp_path: Path
) -> None:
    studies = tmp_path / "studies"
    phantom.write_nifti(HEAD, studies, "A", labels=False)
    models = ("--conf", "models_dir", str(untrained(tmp_path / "models")), "--conf", "models", "slem_brain")
    server = start_server(studies, *models, "--conf", "score_load", "0")
    done: dict[str, list[int]] = {reader: [] for reader in READERS}
    stop = threading.Event()
    readers = [
        threading.Thread(target=save_until, args=(stop, server.url, reader, numbers))
        for reader, numbers in done.items()
    ]
    for reader in readers:
        reader.start()
    before, after = [], []
    try:
        while not all(done.values()):
            time.sleep(0.1)
        for number in range(ROUNDS):
            before.append(acknowledged(done))
            said = slem("backup", studies / ".slem", tmp_path / f"{number}.tar")
            assert "label versions" in said
            after.append(acknowledged(done))
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert any(len(late) > len(early) for early, late in zip(before, after))  # some were saved meanwhile
    for number, early in enumerate(before):
        root = tmp_path / f"restored{number}"
        slem("restore", tmp_path / f"{number}.tar", root)
        versions = LabelStore(root).versions("A", "final")
        found = [told(version.folder / "label.nii.gz") for version in versions]
        assert set(early) <= set(found)
        assert len(set(found)) == len(found) <= len(after[number]) + len(READERS)
        for version in versions:
            assert version.meta["record"]["reader"].partition("@")[0] in READERS
