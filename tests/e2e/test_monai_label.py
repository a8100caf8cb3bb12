"""MONAI Label's own command line with this app: it starts, answers, and imports no more than pyproject.toml
says that it needs.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slem_app import phantom

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parents[2]
BUNDLED = (PROJECT / "pretrained/slem_brain/card.yaml").is_file()
PATIENCE = 180  # s until the server must answer
# `python -m monailabel.main` that writes down, at its end, what MONAI Label's modules imported themselves
WATCHED = """
import atexit, builtins, json, runpy, sys
plain, seen, place = builtins.__import__, {"monailabel"}, sys.argv.pop(1)
def watching(name, globals=None, locals=None, fromlist=(), level=0):
    module = plain(name, globals, locals, fromlist, level)
    if level == 0 and str((globals or {}).get("__name__", "")).startswith("monailabel"):
        seen.add(name.partition(".")[0] if not name.startswith("google.") else "google.auth")
    return module
builtins.__import__ = watching
atexit.register(lambda: open(place, "w").write(json.dumps([sorted(seen), sorted(sys.modules)])))
runpy.run_module("monailabel.main", run_name="__main__", alter_sys=True)
"""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not BUNDLED, reason="no bundled weights"),
]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """What MONAI Label imported in a server that has answered, and the names of all modules loaded."""
    folder = tmp_path_factory.mktemp("stock")
    phantom.write_nifti(phantom.make(seed=1), folder / "studies", "demo-1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", WATCHED, str(folder / "seen.json"), "start_server"]
    command += ["--app", "apps/slem", "--studies", str(folder / "studies"), "--port", str(port)]
    command += ["--host", "127.0.0.1"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "MONAI_LABEL_TRACKING_ENABLED": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log)
    try:
        info = _info(process, f"http://127.0.0.1:{port}/info/", folder / "log")
        assert "slem_brain" in info["models"]
        assert info["datastore"]["total"] == 1
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    by_monai_label, loaded = json.loads((folder / "seen.json").read_text())
    return set(by_monai_label), set(loaded)


def _info(process: subprocess.Popen, url: str, log: Path) -> dict:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            return requests.get(url, timeout=30).json()
        except requests.ConnectionError:
            time.sleep(0.3)
    pytest.fail(f"the server did not start; the end of its log:\n{log.read_text()[-4000:]}")


def test_monai_label_imports_nothing_that_is_not_listed_for_it(imported: tuple[set[str], set[str]]) -> None:
    listed = _listed()
    owners = packages_distributions()
    third_party = imported[0] & set(owners) - {"lib", "monailabel", "slem_app"}
    missing = {name for name in third_party if not listed & {canonicalize_name(one) for one in owners[name]}}
    assert not missing, "add these to the extra `monailabel`"


def test_nothing_heavy_of_its_tree_is_loaded(imported: tuple[set[str], set[str]]) -> None:
    tops = {name.partition(".")[0] for name in imported[1]}
    assert not tops & {"hydra", "ignite", "numpymaxflow", "sam2", "shapely"}


def _listed() -> set[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = project["optional-dependencies"]["monailabel"]
    return {canonicalize_name(Requirement(text).name) for text in needs}
