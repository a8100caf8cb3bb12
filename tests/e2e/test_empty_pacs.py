"""A PACS that is empty when the server starts: the first study appears, goes, and comes again."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from slem_app import phantom
from tests.e2e.conftest import Server
from tests.e2e.orthanc import NEEDED, Orthanc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), NEEDED]


def until(count: int, server: Server) -> dict:
    """What the server says of its cases, once there are so many."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        answer = requests.get(f"{server.url}/info/", timeout=60)
        assert answer.status_code == 200, answer.text
        if answer.json()["datastore"]["total"] == count:
            listed = requests.get(f"{server.url}/datastore/?output=all", timeout=60)
            assert listed.status_code == 200, listed.text
            return listed.json()["objects"]
        time.sleep(0.5)
    pytest.fail(f"there are never {count} cases")


def test_the_first_study_comes_goes_and_comes_again(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    studies, folder = tmp_path / "studies", tmp_path / "orthanc"
    studies.mkdir()
    folder.mkdir()
    phantom.write_dicom(phantom.make(seed=1, shape=(32, 36, 24), spacing=(6.0, 6.0, 6.0)), studies, "ann")
    pacs = Orthanc(folder)
    pacs.start()
    try:
        server = start_server(pacs.url, "--conf", "store", str(tmp_path / "store"))
        assert until(0, server) == {}
        assert requests.get(f"{server.url}/proxy/dicom/qido/studies", timeout=60).json() == []
        answer = requests.post(f"{server.url}/activelearning/first", json={}, timeout=60)
        assert (answer.status_code, answer.json()) == (200, {})
        for _ in range(2):
            pacs.send(studies)
            uid = pacs.study_of("ann")
            assert list(until(1, server)) == [uid]
            found = requests.get(f"{server.url}/proxy/dicom/qido/studies", timeout=60).json()
            assert [one["0020000D"]["Value"] for one in found] == [[uid]]
            base = pacs.url.removesuffix("/dicom-web")
            for study in requests.get(f"{base}/studies", timeout=30).json():
                assert requests.delete(f"{base}/studies/{study}", timeout=30).ok
            assert until(0, server) == {}
            gone = requests.get(f"{server.url}/datastore/image/info", params={"image": uid}, timeout=60)
            assert gone.status_code == 404, gone.text
    finally:
        pacs.stop()
