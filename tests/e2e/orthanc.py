"""A real PACS for the tests: Orthanc with its DICOMweb plugin, on this machine's own address alone."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = next(
    (text for text, there in (("orthanc orthanc-dicomweb", shutil.which("Orthanc") and PLUGIN.exists()), ("gcc", shutil.which("gcc"))) if not there), ""
)
HERE = Path(__file__).parent


class Orthanc:
    """A server in a folder of its own; it can be stopped and started again, and keeps what it has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        web = {"Enable": True, "Root": "/dicom-web/", "Host": f"127.0.0.1:{self.port}", "StudiesMetadata": "Full", "SeriesMetadata": "Full"}
        settings = {"StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "Plugins": [str(PLUGIN)], "HttpPort": self.port}
        settings |= {"DicomServerEnabled": False, "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomWeb": web}
        (folder / "orthanc.json").write_text(json.dumps(settings))
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "loopbind.so", HERE / "loopbind.c", "-ldl"], check=True)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Until it answers."""
        with (self.folder / "log.txt").open("a") as log:
            environment = os.environ | {"LD_PRELOAD": str(self.folder / "loopbind.so")}
            self.process = subprocess.Popen(["Orthanc", self.folder / "orthanc.json"], env=environment, stdout=log, stderr=subprocess.STDOUT)
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

    def send(self, folder: Path) -> None:
        """Store all files of a folder, as a scanner would."""
        self.client.store_instances([dcmread(path) for path in sorted(folder.rglob("*.dcm"))])
