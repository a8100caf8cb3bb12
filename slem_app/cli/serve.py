"""`slem serve`: start the server as a process of its own, and say what to do next."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from slem_app.errors import BadSetting, NotFound, SlemError
from slem_app.files import import_path

__all__ = ["Serve"]

PATIENCE = 180.0  # seconds until the server must answer
NEXT = """
SLeM Label is ready at {url}{what}.

In 3D Slicer (5.x):
  1. Install the extension MONAILabel (View > Extensions Manager), then open the module
     Active Learning > MONAILabel.
  2. Put the address below into the field 'MONAI Label server' and press the button beside it.
  3. Press 'Next Sample': a case is loaded and segmented ('Run' under Auto Segmentation does it again).
  4. Correct the segments in the Segment Editor and press 'Submit Label'.
{host_note}Labels are kept in {store}
The server's log: {log}
Stop the server with Ctrl+C. Research use only, not for diagnostic use.

  Worklist, in a browser    {url}/
  OHIF                      {url}/ohif/
  3D Slicer, server field   {url}
"""
OPEN = (
    "Other machines reach the server under this machine's name. It asks for no password (login "
    "off): keep it behind something that does.\n"
)
LOG_IN = (
    "Other machines reach the server under this machine's name; readers log in with their name "
    "and password (`slem users`).\n"
)
IN_THE_CLEAR = "Passwords and images travel unencrypted: give --ssl-certfile and --ssl-keyfile.\n"


@dataclass(frozen=True)
class Serve:
    """Serve studies to 3D Slicer; three demo studies if none are given.

    Runs until it is interrupted.
    """

    studies: str | None = None
    """Folder of studies, in any layout that `slem inspect` understands, or the address of a PACS's DICOMweb
    (http://HOST:PORT/PATH). Default: three demo studies, two heads and an abdomen, made in the cache folder.
    """
    port: int = 8000
    """TCP port."""
    host: str = "127.0.0.1"
    """Address to listen on. If other machines can reach it, readers must log in: add them with `slem users`.
    """
    store: Path | None = None
    """Folder for labels and uploads. Default: `.slem` in the studies folder."""
    ssl_certfile: Path | None = None
    """Certificate and its chain, for encrypted connections (https); passed to uvicorn."""
    ssl_keyfile: Path | None = None
    """Its private key."""
    cluster: str = ""
    """Let a Ray cluster compute: its address, `auto` (the one that runs on this machine, else a new one) or
    `local` (a new one on this machine). The images must have the same paths on all its machines.
    """
    conf: dict[str, str] = field(default_factory=dict)
    """More settings of the server, e.g. `device cpu threads 2 cache_mb 1024`."""
    verbose: bool = False
    """Show the server's whole log here instead of writing it to a file in the cache folder."""

    def run(self) -> int:
        """Start the server, say when it answers, and wait for its end."""
        from slem_app.studies.places import is_address

        _check_free(self.host, self.port)
        os.umask(0o077)  # logs, labels and copies of images are this user's alone
        studies = str(demo_studies() if self.studies is None else self.studies)
        if not is_address(studies) and not Path(studies).is_dir():
            raise NotFound(
                f"no folder {studies}: give the folder that holds the studies, or the address of a PACS"
            )
        if not is_address(studies) and not any(Path(studies).iterdir()):
            print(f"{studies} is empty: studies appear in the worklist once they are put there", flush=True)
        print(f"Starting the server on {studies} (a few seconds)", flush=True)
        log_file().parent.mkdir(parents=True, exist_ok=True)
        with log_file().open("w", encoding="utf-8") as log:
            output = None if self.verbose else log
            for number in (signal.SIGTERM, signal.SIGHUP):  # else the server would be left behind
                signal.signal(number, _leave)
            with subprocess.Popen(
                self.command(studies), env=environment(), cwd=log_file().parent, stdout=output, stderr=output
            ) as server:
                try:
                    info = wait_until_ready(server, self.url, log=log_file())
                    print(self.advice(studies, info), flush=True)
                    return server.wait()
                finally:
                    _stop(server)

    def command(self, studies: str) -> list[str]:
        """The command line of the server."""
        from slem_app.studies.places import is_address

        conf = dict(self.conf) | ({"store": str(self.store.expanduser().resolve())} if self.store else {})
        conf |= {"cluster": self.cluster} if self.cluster else {}
        pairs = [part for key, value in conf.items() for part in ("--conf", key, value)]
        level = "info" if self.verbose else "warning"
        place = studies if is_address(studies) else str(Path(studies).resolve())
        start = [
            sys.executable,
            "-m",
            "slem_app.serving",
            "--studies",
            place,
            "--logs",
            str(log_file().parent),
        ]
        start += ["--host", self.host, "--port", str(self.port), "--log-level", level]
        for option, file in (("--ssl-certfile", self.ssl_certfile), ("--ssl-keyfile", self.ssl_keyfile)):
            start += [option, str(file.expanduser().resolve())] if file else []
        return [*start, *pairs]

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host
        return f"http{'s' if self.ssl_certfile else ''}://{host}:{self.port}"

    def advice(self, studies: str, info: dict | None) -> str:
        """What the user can do now; `info`: the server's, None where it tells it only to those who log in."""
        from slem_app.studies.places import default_store

        count = info["datastore"]["total"] if info else 0
        what = (
            f" with {count} case{'' if count == 1 else 's'}, models: {', '.join(info['models'])}"
            if info
            else ", readers log in"
        )
        local = self.host in ("127.0.0.1", "localhost", "::1")
        note = "" if local else (OPEN if info else LOG_IN + ("" if self.ssl_certfile else IN_THE_CLEAR))
        return NEXT.format(
            url=self.url,
            what=what,
            host_note=note,
            store=self.store or self.conf.get("store") or default_store(studies),
            log="above" if self.verbose else log_file(),
        )


def cache_folder() -> Path:
    """Where the demo and the server's logs are kept, for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slem-label"


def log_file() -> Path:
    """The server's log."""
    return cache_folder() / "logs" / "serve.log"


def demo_studies() -> Path:
    """Three phantoms, each made once: a head, an oblique one with thick slices and a grid for each sequence,
    and an abdomen.

    Returns:
        Their folder, in the user's cache.
    """
    from slem_app import phantom

    folder = cache_folder() / "demo"
    studies = {
        "demo-1": lambda new: phantom.write_nifti(phantom.make(seed=1), new, "demo-1"),
        "demo-2": lambda new: phantom.write_nifti(
            phantom.make(seed=2, oblique=True, own_grids=True), new, "demo-2"
        ),
        "demo-abdomen": lambda new: phantom.write_nifti(
            phantom.make_abdomen(seed=1), new, "demo-abdomen", layout="nifti", labels=False
        ),
    }
    if missing := [name for name in studies if not (folder / name).is_dir()]:
        print(f"Making {', '.join(missing)} in {folder} (a few seconds)", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".demo-", dir=folder.parent) as new:
            for name in missing:
                # so that a start that was interrupted leaves no half a study
                studies[name](Path(new)).rename(folder / name)
    return folder


def environment() -> dict[str, str]:
    """This process's environment, in which Python finds this package wherever it is started."""
    return {**os.environ, "PYTHONPATH": import_path()}


def wait_until_ready(
    server: subprocess.Popen, url: str, patience: float = PATIENCE, log: Path | None = None
) -> dict | None:
    """Wait until the server answers; its `/info/`, or None where it wants a log-in first.

    Args:
        server: the process.
        url: where it will answer.
        patience: seconds.
        log: where its output goes, for the reason of a failure.

    Raises:
        SlemError: it ended or did not answer in time.
    """
    # its certificate is for another name than the one asked here
    end, itself = time.monotonic() + patience, ssl._create_unverified_context()
    while time.monotonic() < end:
        if server.poll() is not None:
            raise SlemError(f"the server ended while starting: {reason_in(log)}")
        try:
            with urllib.request.urlopen(f"{url}/info/", timeout=patience, context=itself) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return None
            time.sleep(0.2)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SlemError(f"the server did not answer at {url} within {patience:.0f} s: {reason_in(log)}")


def reason_in(log: Path | None) -> str:
    """What a log says about a failed start: the last error's own line, else its last lines."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log and log.is_file() else []
    errors = [line.partition(": ")[2] for line in lines if line.startswith("slem_app.errors.")]
    return (
        errors[-1]
        if errors
        else "\n".join(["its last words were", *lines[-8:]])
        if lines
        else "its output above says why"
    )


def _check_free(host: str, port: int) -> None:
    if not 0 < port < 2**16:
        raise BadSetting(f"--port {port}: a port is a number from 1 to 65535, e.g. 8000")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise BadSetting(f"cannot listen at {host}:{port}: {reason}; choose another with --port") from error


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """End as Ctrl+C does, with the status that shells give a process that a signal ended."""
    raise SystemExit(128 + number)


def _stop(server: subprocess.Popen) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
