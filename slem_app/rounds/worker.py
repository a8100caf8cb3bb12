"""The process of a learning round: python -m slem_app.rounds.worker ROUND_FOLDER [LOCK], by itself or under
torchrun.

It runs without MONAI Label, so it begins within seconds. LOCK is the open file of the lock that it inherits;
without it takes the lock itself.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from time import time

from slem_app.errors import SlemError
from slem_app.rounds.job import FAILED, RoundFolder
from slem_app.rounds.lock import Lock
from slem_app.rounds.round import Round
from slem_app.training import (
    device_of_this_process,
    end_with_launcher,
    first_process,
    join_processes,
    leave_processes,
)

__all__ = ["main"]

log = logging.getLogger(__name__)

POLITE = 5  # niceness of a training beside a server on the same processor


def main(arguments: list[str], kind: type[Round] = Round) -> int:
    """Do a round of a kind; returns the exit status."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stdout,
    )
    folder = RoundFolder(Path(arguments[0]))
    end_with_launcher()
    inherited = len(arguments) > 1 and "LOCAL_RANK" not in os.environ  # of a group, the launcher alone has it
    handle = int(arguments[1]) if inherited else None
    try:
        if len(arguments) < 2 and os.environ.get("LOCAL_RANK", "0") == "0":
            lock = Lock(Path(folder.job().root))
            handle = lock.take()
            lock.name(handle, os.getpid())
        device = device_of_this_process(folder.job().device)
        if device == "cpu":
            os.nice(POLITE)  # readers come first
        join_processes(device)
        kind(folder, device).run()
    except (
        SlemError
    ) as error:  # anything else leaves its traceback in the log, where the server finds the reason
        return _ended(folder, str(error))
    finally:
        leave_processes()
        if handle is not None:
            os.close(handle)  # the round is over, though this process may take seconds to end
    return 0


def _ended(folder: RoundFolder, reason: str) -> int:
    """Say why, unless the round has done so."""
    log.error(reason)
    if first_process() and folder.status().status != FAILED:
        folder.change(status=FAILED, stage="failed", reason=reason, ended=time())
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
