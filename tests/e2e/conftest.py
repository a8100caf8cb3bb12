"""A real server process for the end-to-end tests, started as the README and MONAI Label's own command line
start it.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from slem_app import phantom
from slem_app.weights import find, load_model, save_model
from tests.e2e.slicer_client import BUNDLED, World, load_client, untrained

PROJECT = Path(__file__).parents[2]
# s until a server must answer; it takes 20 on a quiet machine
PATIENCE = int(os.environ.get("SLEM_PATIENCE", "120"))


class Server:
    """A running server and its address."""

    def __init__(self, process: subprocess.Popen, url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log

    def wait(self) -> None:
        """Until it answers; fails with the end of its log where it stopped or stays silent."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/info/", timeout=30).status_code in (200, 401):
                    return
            except requests.ConnectionError:
                time.sleep(0.3)
        pytest.fail(f"the server did not start; the end of its log:\n{self.log.read_text()[-4000:]}")

    def stop(self) -> None:
        """End the process; by force where it does not listen."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def server_command(studies: Path, port: int, *options: str) -> list[str]:
    """The command line of a server on a folder of studies."""
    words = [
        "-m",
        "slem_app.serving",
        "--studies",
        str(studies),
        "--logs",
        tempfile.mkdtemp(prefix="slem-logs-"),
    ]
    return [sys.executable, *words, "--host", "127.0.0.1", "--port", str(port), *options]


@pytest.fixture(scope="session")
def click_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundled model alone."""
    folder, model = tmp_path_factory.mktemp("click_models"), load_model("slem_brain")
    save_model(folder / "slem_brain", model.card, model.network)
    return folder


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Children can be interrupted as by Ctrl+C, even where a script in the background has started the tests
    and so made all ignore SIGINT.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """`start_server(studies, *options)`: a server of this project on that folder; all are stopped after the
    module's tests.
    """
    running = []

    def start(studies: Path, *options: str) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = server_command(studies, port, *options)
        log = tmp_path_factory.mktemp("server") / "log.txt"
        with log.open("w") as stream:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(PROJECT)},
            )
        running.append(Server(process, f"http://127.0.0.1:{port}", log))
        running[-1].wait()
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="module")
def world(start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    studies = folder / "studies"
    small = {"shape": (64, 72, 56), "spacing": (2.5, 2.5, 2.5)}
    phantoms = {
        "case one": phantom.make(seed=1, **small),
        "own-grids": phantom.make(seed=2, oblique=True, own_grids=True, **small),
        "sagittal": phantom.reorient_phantom(phantom.make(seed=3, **small), "PIR"),
        "without-contrast": phantom.make(seed=4, anisotropic=True, **small),
    }
    for name, case in phantoms.items():
        phantom.write_nifti(case, studies, name)
    (studies / "without-contrast/without-contrast-t1c.nii.gz").unlink()
    options = () if BUNDLED else ("--conf", "models_dir", str(untrained(folder / "models")))
    server = start_server(studies, "--conf", "models", "slem_brain", *options)
    module = load_client()
    client = module.MONAILabelClient(
        server.url, tmpdir=str(tmp_path_factory.mktemp("client")), client_id="reader"
    )
    return World(
        client,
        module.MONAILabelClientException,
        server.url,
        studies,
        phantoms,
        find("slem_brain") if BUNDLED else folder / "models/slem_brain",
    )
