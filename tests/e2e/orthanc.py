"""A real PACS for the tests: Orthanc with its DICOMweb plugin, on this machine's own address alone."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread

from slem_app import phantom

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = next(
    (
        text
        for text, there in (
            ("orthanc orthanc-dicomweb", shutil.which("Orthanc") and PLUGIN.exists()),
            ("gcc", shutil.which("gcc")),
        )
        if not there
    ),
    "",
)
NEEDED = pytest.mark.skipif(bool(MISSING), reason=f"no PACS: apt-get install {MISSING}")
HERE = Path(__file__).parent


class Orthanc:
    """A server in a folder of its own; it can be stopped and started again, and keeps what it has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        web = {
            "Enable": True,
            "Root": "/dicom-web/",
            "Host": f"127.0.0.1:{self.port}",
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        }
        settings = {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.port,
        }
        settings |= {
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomWeb": web,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-o", folder / "loopbind.so", HERE / "loopbind.c", "-ldl"], check=True
        )
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Until it answers."""
        with (self.folder / "log.txt").open("a") as log:
            environment = os.environ | {"LD_PRELOAD": str(self.folder / "loopbind.so")}
            self.process = subprocess.Popen(
                ["Orthanc", self.folder / "orthanc.json"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/studies", timeout=5).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "log.txt").read_text()[-2000:])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    @property
    def client(self) -> DICOMwebClient:
        return DICOMwebClient(self.url)

    def study_of(self, patient: str) -> str:
        """UID of a patient's only study."""
        [found] = self.client.search_for_studies(search_filters={"PatientID": patient})
        return found["0020000D"]["Value"][0]

    def send(self, folder: Path) -> None:
        """Store all files of a folder, as a scanner would."""
        self.client.store_instances([dcmread(path) for path in sorted(folder.rglob("*.dcm"))])


@contextmanager
def orthanc_with(studies: Path, folder: Path) -> Iterator[Orthanc]:
    """A running PACS that has a folder's studies; what it needs lies in `folder`."""
    one = Orthanc(folder)
    one.start()
    try:
        one.send(studies)
        yield one
    finally:
        one.stop()


def oblique_head() -> phantom.Phantom:
    """A head that lies oblique; T1 is sagittal, FLAIR's instance numbers run against its slices, and each
    series has another spacing.
    """
    return phantom.make(seed=2, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5), oblique=True, own_grids=True)
