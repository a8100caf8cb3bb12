"""The wheel works alone: installed outside the repository, it shows its version, makes a demo, segments,
serves and trains.

The environment is fresh and has the wheel; what the wheel depends on is found where these tests find it, by
a `.pth` file, so that no gigabytes are downloaded. Whether the requirements are complete is what
`benchmarks/fresh_machine.py` looks at.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests
from safetensors.numpy import load_file

import slem_app
from tests.e2e.slicer_client import BUNDLED

PROJECT = Path(__file__).parents[2]
BUILT_FROM = ("slem_app", "apps", "clients", "pretrained", "pyproject.toml", "README.md", "LICENSE")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not BUNDLED, reason="no bundled weights"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        source, to = PROJECT / name, folder / "sources" / name
        if source.is_dir():
            shutil.copytree(source, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to)
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "sources"))
    (built,) = folder.glob("slem_label-*.whl")
    return built


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository, with an environment `env` that has the wheel."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    python = folder / "env/bin/python"
    pip("--python", str(python), "install", "--no-deps", str(wheel))
    (packages,) = (folder / "env/lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture(scope="module")
def slem(place: Path) -> Callable[..., str]:
    """`slem("predict", ...)`: what the command printed; it runs in the folder `place`."""

    def run(*words: str) -> str:
        done = subprocess.run(
            [str(place / "env/bin/slem"), *words],
            cwd=place,
            env=environment(place),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def demo(slem: Callable[..., str], place: Path) -> Path:
    """Two phantoms that `slem demo` has made, small ones."""
    slem("demo", "demo", "--cases", "2", "--shape", "64", "72", "56")
    return place / "demo"


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[str]:
    """The address of `slem serve`, which makes its demo studies first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(place / "env/bin/slem"), "serve", "--port", str(port), "--conf", "score_load", "0"]
    with (place / "serve.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=place, env=environment(place), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(1200):
            if process.poll() is not None or "is ready at" in (place / "serve.txt").read_text():
                break
            time.sleep(0.2)
        assert "is ready at" in (place / "serve.txt").read_text(), (place / "serve.txt").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


def pip(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def environment(place: Path) -> dict[str, str]:
    """One in which nothing leads to the repository, and whose cache is the test's own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SLEM_MODELS")}
    return kept | {"XDG_CACHE_HOME": str(place / "cache"), "HOME": str(place)}


def test_the_package_is_the_wheels(slem: Callable[..., str], place: Path) -> None:
    assert slem("--version").strip() == slem_app.__version__
    code = "import slem_app; print(slem_app.__file__)"
    python = str(place / "env/bin/python")
    where = subprocess.run([python, "-c", code], cwd=place, env=environment(place), capture_output=True)
    assert Path(where.stdout.decode().strip()).is_relative_to(place / "env")


def test_it_segments_a_demo_case(slem: Callable[..., str], demo: Path, place: Path) -> None:
    case = sorted(path for path in demo.iterdir() if path.is_dir())[0]
    slem("predict", str(case), "-o", "out")
    (result,) = (place / "out").glob("*.nii.gz")
    found = np.asanyarray(nibabel.load(result).dataobj)
    assert found.shape == (64, 72, 56)
    assert found.any()


def test_it_serves_its_own_demo_studies_and_pages(served: str) -> None:
    info = requests.get(f"{served}/info/", timeout=60).json()
    assert next(iter(info["models"])) == "slem_brain"
    assert {"slem_brain", "slem_abdomen"} <= set(info["models"])
    assert info["datastore"]["total"] == 3
    for page in ("/", "/models", "/docs", "/pages/pages.css", "/ohif-save.js"):
        assert requests.get(served + page, timeout=60).status_code == 200, page
    answer = requests.post(
        f"{served}/infer/slem_brain",
        params={"image": "demo-1", "output": "json"},
        data={"params": json.dumps({"result_extension": ".nrrd"})},
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["used"]


def test_it_trains_on_demo_cases(slem: Callable[..., str], demo: Path, place: Path) -> None:
    words = ["--steps", "2", "--batch", "1", "--device", "cpu"]
    slem("finetune", "--data", str(demo), "-o", "run", *words)
    (weights,) = (place / "run/model").glob("*.safetensors")
    assert load_file(weights)
    assert "version" in (place / "run/model/card.yaml").read_text()
