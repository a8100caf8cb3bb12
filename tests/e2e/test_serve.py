"""`slem serve` as the user types it: the demo, the advice, Ctrl+C; and a start that fails in words."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

PROJECT = Path(__file__).parents[2]
BUNDLED = (PROJECT / "pretrained/slem_brain/card.yaml").is_file()

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.skipif(not BUNDLED, reason="no bundled weights")]


def command(*options: str) -> tuple[list[str], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [sys.executable, "-m", "slem_app.cli", "serve", "--port", str(port), *options], port


def test_without_studies_it_serves_a_demo_and_says_what_to_do_next(tmp_path: Path) -> None:
    words, port = command()
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = ""
        while "Ctrl+C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        assert "Making two demo studies" in said
        assert f"ready at http://127.0.0.1:{port} with 2 cases, models: slem_brain" in said
        assert requests.get(f"http://127.0.0.1:{port}/info/", timeout=60).json()["datastore"]["total"] == 2
        for case in ("demo-1", "demo-2"):
            answer = requests.post(f"http://127.0.0.1:{port}/infer/slem_brain", params={"image": case, "output": "image"}, timeout=300)
            assert answer.content.startswith(b"NRRD")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert "interrupted" in rest
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.2)
    pytest.fail("the server outlived `slem serve`")


def test_a_folder_without_studies_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("x")
    words, _ = command("--studies", str(tmp_path))
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "the server ended while starting: no studies found in" in done.stderr
    assert "Traceback" not in done.stderr
