"""Work that outlives the server: a process of its own, which holds a lock and writes a log."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from slem_app.files import import_path

__all__ = ["spawn"]


def spawn(command: list[str], log: Path, handle: int, gpus: Sequence[str] = ()) -> subprocess.Popen:
    """Start a process that goes on when the server stops.

    Args:
        command: what to run.
        log: where it writes what it says.
        handle: open file of the lock, which the process holds as long as it lives.
        gpus: numbers of the GPUs that it may see; empty: all.
    """
    env = {**os.environ, "PYTHONPATH": import_path()}
    if gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    with log.open("wb") as out:
        # a session of its own: it outlives the server's terminal, and can be ended as a whole
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=env,
            pass_fds=[handle],
            start_new_session=True,
        )
