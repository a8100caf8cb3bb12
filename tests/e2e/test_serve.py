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

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not BUNDLED, reason="no bundled weights"),
]


def command(*options: str) -> tuple[list[str], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [sys.executable, "-m", "slem_app.cli", "serve", "--port", str(port), *options], port


def test_without_studies_it_serves_a_demo_and_says_what_to_do_next(tmp_path: Path) -> None:
    words, port = command()
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        words, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        said = ""
        while "Ctrl+C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        assert "Making demo-1, demo-2, demo-abdomen in" in said
        assert f"ready at http://127.0.0.1:{port} with 3 cases, models: " in said
        assert {"slem_brain", "slem_abdomen"} <= set(
            said.partition("models: ")[2].partition(".")[0].split(", ")
        )
        assert requests.get(f"http://127.0.0.1:{port}/info/", timeout=60).json()["datastore"]["total"] == 3
        for case, model, other in (
            ("demo-1", "slem_brain", ""),
            ("demo-2", "slem_brain", "slem_abdomen"),
            ("demo-abdomen", "slem_abdomen", "slem_brain"),
        ):
            given = requests.post(
                f"http://127.0.0.1:{port}/infer/{model}",
                params={"image": case, "output": "image"},
                timeout=300,
            )
            assert given.content.startswith(b"NRRD")
            if other:
                refused = requests.post(
                    f"http://127.0.0.1:{port}/infer/{other}",
                    params={"image": case, "output": "image"},
                    timeout=60,
                )
                assert refused.status_code == 422
                assert f"is not for {other}" in refused.text
        for model, cases in (("slem_brain", {"demo-1", "demo-2"}), ("slem_abdomen", {"demo-abdomen"})):
            first = requests.post(
                f"http://127.0.0.1:{port}/activelearning/balanced",
                json={"model": model, "client_id": model},
                timeout=60,
            ).json()
            assert first["id"] in cases
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
