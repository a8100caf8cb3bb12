"""Requests that nobody would send: does any break the server, or what it says of itself?

Schemathesis makes requests from the server's own description (`/openapi.json`), sound and malformed ones, and
looks at every answer with all its checks (`CONFIG` says what is set, and why). The server is a process of its
own, `apps/slem` on two phantoms in DICOM with a model that was never trained; it must live on, without a
traceback in its log. With `--login` readers must log in, and the requests are an administrator's.

Left out are the routes that start processes or end others' (`WORK`): a right request would train for hours.

    python benchmarks/fuzz_api.py --requests 10000
    python benchmarks/fuzz_api.py --requests 10000 --login
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import requests
import tiny
import tyro
from page import table, where
from serving import PROJECT, command

from slem_app import phantom
from slem_app.users import UserFile

WORK = "^/(train|batch|scoring|slem/adapt)/"
SECRET = "a long secret of nobody"
SHAPE, SPACING = (32, 36, 24), (6.0, 6.0, 6.0)
PACE = 60.0  # seconds for an answer
CONFIG = """
# Ids must exist, and some text fields hold JSON: a description cannot say so, and such requests are
# answered by 400, 404, 413 or 422, or by 410: no session of nnInteractive has the token. 501, 503 and 507
# tell what is not offered, or not possible now.
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "410", "413",
    "422", "429", "501", "503", "507"]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501", "503", "507"]
# No header and no field that is left out or unknown makes a request wrong that says nothing else.
negative_data_rejection.expected-statuses = ["2xx", "4xx"]
"""


@dataclass(frozen=True)
class FuzzApi:
    """Ask, and tell what was found."""

    requests: int = 10_000
    """How many, about."""
    login: bool = False
    """Whether readers must log in."""
    seconds: int = 0
    """Ask for so long at most; 0: until all are asked."""
    seed: int = 0
    """Of the requests."""
    workers: int = 2
    """Requests at once."""
    only: str = ""
    """Only paths that match this."""
    keep: Path | None = None
    """Where schemathesis's report and the server's log are kept."""

    def run(self) -> None:
        """One server, one run."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for number, name in enumerate(("ann", "ben"), 1):
                made = phantom.make(seed=number, shape=SHAPE, spacing=SPACING)
                phantom.write_dicom(made, folder / "studies", name)
            users = UserFile(folder / "users.json")
            users.add("ann", SECRET, "admin")
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            url, begin = f"http://127.0.0.1:{port}", time.monotonic()
            conf = {"users": str(users.path), "login": "required" if self.login else "off", "score_load": "0"}
            words = [word for pair in conf.items() for word in ("--conf", *pair)]
            start = [*command(folder / "studies", port), *tiny.options(folder / "models"), *words]
            with (folder / "log").open("w") as log:
                env = os.environ | {"PYTHONPATH": str(PROJECT)}
                server = subprocess.Popen(start, cwd=PROJECT, stdout=log, stderr=log, env=env)
                try:
                    _wait(url, server, folder / "log")
                    self.ask(folder, url)
                    alive = server.poll() is None
                finally:
                    server.terminate()
                    server.wait()
            if self.keep is not None:
                shutil.copytree(folder / "report", self.keep, dirs_exist_ok=True)
                shutil.copy(folder / "log", self.keep / "server.log")
            self.tell(folder, alive, time.monotonic() - begin)

    def ask(self, folder: Path, url: str) -> None:
        """Let schemathesis ask."""
        (folder / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
        headers: list[str] = []
        if self.login:
            fields = {"username": "ann", "password": SECRET}
            token = requests.post(f"{url}/auth/token", data=fields, timeout=60).json()["access_token"]
            headers = ["--header", f"Authorization: Bearer {token}"]
        told = requests.get(f"{url}/openapi.json", headers=_header(headers), timeout=60).json()
        operations = sum(len(methods) for methods in told["paths"].values())
        words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml")]
        words += ["run", f"{url}/openapi.json", "--checks", "all", "--phases", "coverage,fuzzing", *headers]
        words += ["--max-examples", str(max(1, self.requests // operations)), "--continue-on-failure"]
        words += ["--generation-database", "none", "--no-shrink", "--warnings", "off"]
        words += ["--seed", str(self.seed), "--workers", str(self.workers), "--request-timeout", str(PACE)]
        words += ["--max-response-time", str(PACE)]
        words += ["--report", "json,ndjson", "--report-dir", str(folder / "report")]
        words += ["--report-json-path", str(folder / "report/run.json")]
        words += ["--exclude-path-regex", WORK]
        words += ["--max-time", str(self.seconds)] if self.seconds else []
        words += ["--include-path-regex", self.only] if self.only else []
        with (folder / "said").open("w") as said:
            subprocess.run(words, cwd=folder, stdout=said, stderr=said, check=False)
        (folder / "report").mkdir(exist_ok=True)
        shutil.copy(folder / "said", folder / "report/said.txt")

    def tell(self, folder: Path, alive: bool, seconds: float) -> None:
        """What was found, as a table."""
        report = folder / "report/run.json"
        if not report.is_file():
            raise SystemExit(f"schemathesis has told nothing:\n{(folder / 'said').read_text()[-3000:]}")
        run = json.loads(report.read_text(encoding="utf-8"))
        made, operations = run["test_cases"], run["operations"]
        traces = (folder / "log").read_text(errors="replace").count("Traceback")
        print(f"{where()}; {'log-in' if self.login else 'no log-in'}, seed {self.seed}, {seconds:.0f} s")
        print(f"{made['generated']} requests to {operations['tested']} operations")
        print(f"{made['errored']} without an answer")
        print(f"server alive: {alive}; tracebacks in its log: {traces}")
        found = [(one["title"], str(one["count"]), ", ".join(one["operations"])) for one in run["failures"]]
        print("\n".join(table(("check that failed", "places", "operations"), found)) if found else "all held")


def _header(words: list[str]) -> dict[str, str]:
    return dict([words[1].split(": ", 1)]) if words else {}


def _wait(url: str, server: subprocess.Popen, log: Path) -> None:
    """Until the server answers."""
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit(f"the server did not start:\n{log.read_text()[-3000:]}")
        with suppress(requests.RequestException):
            if requests.get(f"{url}/healthz", timeout=60).ok:
                return
        time.sleep(0.5)
    raise SystemExit("the server does not answer")


if __name__ == "__main__":
    tyro.cli(FuzzApi).run()
