"""The README's two commands on machines that have nothing: trees of Debian made by debootstrap.

    python benchmarks/fresh_machine.py --releases bookworm trixie --out benchmarks/results/fresh_machine.md

In each tree, a user who is not root gets a clone of this repository's HEAD and types `make serve`; when the
server has answered and is stopped, `make test`. Where a command says what is missing, it is installed with
apt and the command is given again, as its reader would. Needs root, debootstrap, and the network for apt and
pip. A tree is entered by chroot: it has its own files and programs, but this machine's kernel, processors and
network. `--share` shows it folders of this machine as well, such as a store of wheels that PIP_* names.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from page import table, where, write_page

PROJECT = Path(__file__).resolve().parents[1]
BASIC = ("make", "python3", "git", "ca-certificates")  # what somebody who has the clone and a Python has
ADVICE = re.compile(r"sudo apt-get install ([a-z0-9.+ -]+)")
HOME = "/home/reader"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PATIENCE = 3600.0  # seconds that a command may take


@dataclass
class Step:
    """One command of the README in one tree."""

    command: str
    seconds: float = 0.0
    """Until it was done, or the server answered."""
    ended: str = ""
    """What became of it."""


@dataclass
class Seen:
    """What one release needed and took."""

    release: str
    python: str = ""
    apt: list[str] = field(default_factory=list)
    """Packages that were installed by apt, in the order in which they were asked for."""
    steps: list[Step] = field(default_factory=list)
    environment_gb: float = 0.0
    """Of `.venv`, GB."""
    torch: str = ""


@dataclass(frozen=True)
class FreshMachine:
    """Run the README's commands in fresh Debian trees."""

    releases: tuple[str, ...] = ("bookworm", "trixie")
    """Names of Debian's releases."""
    root: Path = Path("/var/tmp/fresh_machine")
    """Where the trees are made; one that is there already is used as it is."""
    mirror: str = "http://deb.debian.org/debian"
    """Where debootstrap gets Debian from."""
    share: tuple[Path, ...] = ()
    """Folders of this machine that a tree sees, for reading, at the same place."""
    port: int = 8765
    """Of the server."""
    test_args: str = ""
    """PYTEST_ARGS of `make test`."""
    out: Path | None = None
    """Where the table goes; default: to the terminal alone."""

    def run(self) -> None:
        """Make the trees, run the commands, write the table."""
        told = [self.release(name) for name in self.releases]
        text = report(told)
        print(write_page(self.out, text) if self.out is not None else text)

    def release(self, name: str) -> Seen:
        """One release."""
        tree, seen = self.root / name, Seen(name)
        if not (tree / "usr/bin/apt-get").exists():
            tree.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["debootstrap", "--variant=minbase", name, str(tree), self.mirror], check=True)
        with mounted(tree, self.share):
            self.install(tree, seen, *BASIC)
            clone(tree)
            seen.python = inside(tree, "python3 --version").stdout.strip()
            seen.steps.append(self.serve(tree, seen))
            seen.environment_gb, seen.torch = installed(tree)
            seen.steps.append(self.test(tree, seen))
        return seen

    def install(self, tree: Path, seen: Seen, *packages: str) -> None:
        """As root, with apt."""
        line = f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {' '.join(packages)}"
        inside(
            tree, f"DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; {line}", user="root", check=True
        )
        seen.apt += [name for name in packages if name not in seen.apt]

    def serve(self, tree: Path, seen: Seen) -> Step:
        """`make serve`, until it answers; then it is stopped with Ctrl+C."""
        step, log = Step("make serve"), tree.parent / f"{seen.release}-serve.log"
        begun = time.monotonic()
        while not step.ended:
            with log.open("w") as output, started(tree, f"make serve PORT={self.port}", output) as server:
                answered = self.wait(server)
            if answered:
                step.ended = "the server answers with 3 cases"
            elif not self.follow_advice(tree, seen, log.read_text()):
                step.ended = f"failed: {log.read_text().strip().splitlines()[-1]}"
        step.seconds = time.monotonic() - begun
        return step

    def wait(self, server: subprocess.Popen) -> bool:
        """Whether the server with its demo answers before it ends."""
        end = time.monotonic() + PATIENCE
        while server.poll() is None and time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/info/", timeout=60) as answer:
                    return b'"total":3' in answer.read().replace(b" ", b"")
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        return False

    def test(self, tree: Path, seen: Seen) -> Step:
        """`make test`."""
        arguments = f' PYTEST_ARGS="{self.test_args}"' if self.test_args else ""
        step, log = Step(f"make test{arguments}"), tree.parent / f"{seen.release}-test.log"
        begun = time.monotonic()
        with log.open("w") as output, started(tree, step.command, output) as tests:
            tests.wait(2 * PATIENCE)
        step.seconds = time.monotonic() - begun
        step.ended = log.read_text().strip().splitlines()[-1].strip("= ")
        return step

    def follow_advice(self, tree: Path, seen: Seen, said: str) -> bool:
        """Install what a failed command told its reader to; False where it told nothing new."""
        wanted = [name for line in ADVICE.findall(said) for name in line.split() if name not in seen.apt]
        if wanted:
            self.install(tree, seen, *wanted)
        return bool(wanted)


def environment() -> dict[str, str]:
    """What a tree's programs see of this machine's environment: how its network is reached."""
    kept = {name: value for name, value in os.environ.items() if name.upper().endswith("_PROXY")}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return kept | {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def words(tree: Path, line: str, user: str) -> list[str]:
    """A shell line in the tree, as a user of it."""
    change = [f"--userspec={user}:{user}"] if user != "root" else []
    home = "/root" if user == "root" else f"{HOME}/slem-label"
    return [
        "chroot",
        *change,
        str(tree),
        "/bin/sh",
        "-c",
        f"export HOME={Path(home).parent}; cd {home}; {line}",
    ]


def inside(tree: Path, line: str, user: str = "reader", check: bool = False) -> subprocess.CompletedProcess:
    """Run a shell line in the tree."""
    return subprocess.run(
        words(tree, line, user), env=environment(), text=True, stdout=subprocess.PIPE, check=check
    )


@contextmanager
def started(tree: Path, line: str, output: object) -> Iterator[subprocess.Popen]:
    """A command that runs, and is interrupted at the end as by Ctrl+C."""
    process = subprocess.Popen(
        words(tree, line, "reader"),
        env=environment(),
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


@contextmanager
def mounted(tree: Path, share: tuple[Path, ...]) -> Iterator[None]:
    """The tree with what programs expect of a machine: devices, processes, names, certificates."""
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    shutil.copy("/etc/hosts", tree / "etc/hosts")
    points = [(["-t", "proc", "proc"], tree / "proc"), (["--rbind", "/dev"], tree / "dev")]
    points += [(["--bind", "-o", "ro", str(path)], tree / path.relative_to("/")) for path in share]
    done = []
    try:
        for options, place in points:
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", *options, str(place)], check=True)
            done.append(place)
            if place.name == "dev":  # so that unmounting does not reach this machine's own
                subprocess.run(["mount", "--make-rslave", str(place)], check=True)
        yield
    finally:
        for place in reversed(done):
            subprocess.run(["umount", "--recursive", "--lazy", str(place)], check=True)


def clone(tree: Path) -> None:
    """A user, and the repository's HEAD in their home."""
    home = tree / HOME.lstrip("/")
    if not home.is_dir():
        inside(tree, f"useradd --create-home --home-dir {HOME} reader", user="root", check=True)
    shutil.rmtree(home / "slem-label", ignore_errors=True)
    subprocess.run(["git", "clone", "-q", str(PROJECT), str(home / "slem-label")], check=True)
    if CERTIFICATES.is_file():  # of a network that looks into connections
        shutil.copy(CERTIFICATES, tree / CERTIFICATES.relative_to("/"))
    inside(tree, f"chown -R reader:reader {HOME}", user="root", check=True)


def installed(tree: Path) -> tuple[float, str]:
    """GB of the environment, and PyTorch's version."""
    code = "import torch; print(torch.__version__)"
    size = int(inside(tree, "du -sk .venv | cut -f1").stdout or 0)
    return size * 1024 / 1e9, inside(tree, f".venv/bin/python -c '{code}'").stdout.strip()


def report(told: list[Seen]) -> str:
    """The table."""
    call = f"python benchmarks/fresh_machine.py --releases {' '.join(one.release for one in told)}"
    head = ("Debian", "Python", "PyTorch", "`.venv`, GB", "installed by apt", "command", "s", "ended")
    rows = []
    for one in told:
        has = [one.release, one.python.removeprefix("Python "), one.torch, f"{one.environment_gb:.1f}"]
        rows += [
            (*has, ", ".join(one.apt), f"`{step.command}`", f"{step.seconds:.0f}", step.ended)
            for step in one.steps
        ]
    about = (
        "Trees made by debootstrap (minbase) and entered by chroot: their own programs and files, this "
        "machine's kernel, processors and network. Seconds of the clock, downloads included."
    )
    lines = ["# The README's commands on a fresh machine", "", f"`{call}`, {where()}. {about}", ""]
    return "\n".join([*lines, *table(head, rows)]) + "\n"


if __name__ == "__main__":
    tyro.cli(FreshMachine).run()
