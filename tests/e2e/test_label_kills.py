"""The server is killed while readers save, again and again: what was acknowledged is there, all of it is
readable, and nothing half written is left.
"""

import gzip
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests

from slem_app import phantom

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

HEAD = phantom.make(seed=1, shape=(96, 96, 80), spacing=(2.0, 2.0, 2.0))
READERS = ("eva", "tom")


def save_until_it_dies(url: str, reader: str, done: list[str]) -> None:
    """Submit labels of one case, one after the other."""
    # large, so that a save takes a while
    noise = np.random.default_rng(READERS.index(reader)).integers(0, 4, HEAD.grid.shape, dtype=np.uint8)
    file = gzip.compress(nibabel.Nifti1Image(noise, HEAD.grid.affine).to_bytes(), 1)
    while True:
        try:
            answer = requests.put(
                f"{url}/datastore/label?image=A",
                data={"params": f'{{"client_id": "{reader}"}}'},
                files={"label": ("label.nii.gz", file)},
                timeout=60,
            )
        except requests.RequestException:
            return
        assert answer.status_code == 200, answer.text
        done.append(reader)


def test_kills_during_saves_lose_no_label(start_server: Callable, tmp_path: Path) -> None:
    phantom.write_nifti(HEAD, tmp_path / "studies", "A", labels=False)
    store, moments, acknowledged = tmp_path / "studies/.slem", random.Random(0), 0
    for _ in range(3):
        server = start_server(tmp_path / "studies", "--conf", "score_load", "0")
        versions = requests.get(f"{server.url}/slem/labels", timeout=60).json()
        # those under way may have been saved, too
        assert acknowledged <= len(versions) <= acknowledged + 2 * len(READERS)
        assert not [*store.rglob(".new-*"), *store.rglob(".*.part")]  # taken away at the start
        for one in versions[-4:]:
            file = requests.get(
                f"{server.url}/slem/labels/file",
                params={"image": "A", "tag": one["tag"], "version": one["version"]},
                timeout=60,
            )
            assert len(np.unique(np.frombuffer(gzip.decompress(file.content)[352:], np.uint8))) == 4
        assert all(one["reader"].partition("@")[0] in READERS for one in versions)
        done: list[str] = []
        threads = [
            threading.Thread(target=save_until_it_dies, args=(server.url, reader, done)) for reader in READERS
        ]
        for thread in threads:
            thread.start()
        while len(done) < 4:
            time.sleep(0.05)
        time.sleep(moments.random())
        os.kill(server.process.pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
        server.process.wait()
        acknowledged = len(versions) + len(done)
    assert {one["reader"].partition("@")[0] for one in versions} == set(READERS)
    assert acknowledged >= 12
