"""What `slem predict --all` does: a draft for every case that awaits one, by one process or several, going on
where it was stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from slem_app.devices import gpu_count
from slem_app.errors import SlemError
from slem_app.files import atomic_file, import_path
from slem_app.predict import Predictor, assessed
from slem_app.store.drafts import Drafts
from slem_app.training import (
    device_of_this_process,
    end_with_launcher,
    first_process,
    join_processes,
    leave_processes,
    of_all,
    ranks,
)
from slem_app.weights import Model

__all__ = ["Progress", "make_drafts", "processes_for", "under_torchrun"]

LOOK = 5.0  # seconds between looks at what the other processes have done
MAKER = "slem predict"


@dataclass
class Progress:
    """How far it is, as a bar and, for whoever asked, as a file that is always whole."""

    total: int
    """Cases to be made."""
    file: Path | None = None
    """Where it is written; None: nowhere."""
    made: list[str] = field(default_factory=list)
    """Cases made by this process."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Case -> why it could not be made by this process."""
    foreign: list[str] = field(default_factory=list)
    """Cases without any sequence of the model: they are another's."""

    def write(self, done: int, skipped: Mapping[str, str], ended: bool) -> None:
        """Tell it."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.file, durable=False) as file:
                file.write(
                    json.dumps(
                        {"total": self.total, "done": done, "skipped": dict(skipped), "ended": ended}
                    ).encode()
                )


def processes_for(wanted: int, device: str) -> int:
    """How many processes: as many as wanted, by default one a GPU."""
    if wanted:
        return wanted
    return max(1, gpu_count()) if device in ("auto", "cuda") else 1


def under_torchrun(arguments: list[str], processes: int) -> int:
    """The same command in several processes; returns the exit code."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    env = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        **os.environ,
        "PYTHONPATH": import_path(),
    }
    return subprocess.run(
        [sys.executable, *launcher, "-m", "slem_app.cli", *arguments], env=env, check=False
    ).returncode


def make_drafts(
    drafts: Drafts,
    model: Model,
    device: str = "auto",
    precision: str = "auto",
    register: bool = False,
    limit: int = 0,
    report: Path | None = None,
) -> int:
    """Make them; under torchrun this process's share.

    Args:
        drafts: which.
        model: what makes them.
        device: as `device_of_this_process` takes it.
        precision: as `Predictor` takes it.
        register: move the sequences of a case onto each other first.
        limit: cases at most, 0: all.
        report: file for the progress.

    Returns:
        The exit code: 0, or 1 if a case could not be made; its reason is printed.

    Raises:
        BadSetting: no such device or precision.
        StorageFailed: the disk refused.
    """
    end_with_launcher()
    device = device_of_this_process(device)
    predictor = Predictor(model, device, precision)
    join_processes(device)
    try:
        rank, world = ranks()
        # one list for all, whatever the others have made meanwhile
        left = of_all(drafts.left()[: limit or None] if rank == 0 else ())[0]
        progress = Progress(len(left), report if rank == 0 else None)
        progress.write(0, {}, False)
        with tqdm(total=len(left), desc="drafts", unit="case", disable=rank > 0) as bar:
            looked = time.monotonic()
            for case in left[rank::world]:
                _make(case, drafts, predictor, register, progress)
                if rank == 0 and (world == 1 or time.monotonic() - looked > LOOK):
                    looked = time.monotonic()
                    bar.n = (
                        len(progress.made) + len(progress.skipped) + len(progress.foreign)
                        if world == 1
                        else sum(not drafts.needs(one) for one in left)
                    )
                    bar.refresh()
                    progress.write(bar.n, progress.skipped, False)
            made, skipped, foreign, shares = _together(progress)
            bar.n = len(made) + len(skipped) + len(foreign)
            bar.refresh()
        first = first_process()
    finally:
        leave_processes()
    if first:
        progress.write(len(made) + len(skipped) + len(foreign), skipped, True)
        _tell(drafts, len(made), skipped, foreign, shares)
    return 1 if skipped else 0


def _tell(
    drafts: Drafts, made: int, skipped: Mapping[str, str], foreign: Sequence[str], shares: Sequence[int]
) -> None:
    """Print what became of the cases."""
    for case, reason in sorted(skipped.items()):
        print(f"left out {case}: {reason}")
    if foreign:
        some = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        print(
            f"{len(foreign)} cases have none of the sequences of {drafts.model} and are left to other "
            f"models: {some}"
        )
    shared = f"; made by {len(shares)} processes: {', '.join(map(str, shares))}" if len(shares) > 1 else ""
    print(
        f"{made} drafts by {drafts.model} {drafts.version} in {drafts.labels.root}, tag {drafts.tag}{shared}"
    )


def _make(case: str, drafts: Drafts, predictor: Predictor, register: bool, progress: Progress) -> None:
    """One case, unless another process has it or has made it."""
    with drafts.claimed(case) as ours:
        if not ours:
            return
        try:
            grouping = drafts.labels.images(case, predictor.card.reference_order[0])
            if grouping.choices and not set(grouping.sequences) & set(predictor.card.sequences):
                progress.foreign.append(case)
                return
            sequence = grouping.reference(predictor.card.reference_order)
            result = assessed(predictor.predict_case(grouping, sequence, register))
        except SlemError as error:
            progress.skipped[case] = str(error)
            return
        drafts.save(
            case,
            result.array,
            result.grid,
            result.labels,
            grouping,
            sequence,
            MAKER,
            result.report,
            result.warnings,
        )
        progress.made.append(case)


def _together(progress: Progress) -> tuple[list[str], dict[str, str], list[str], list[int]]:
    """What all processes have made, left out and left to other models, and how many each of them has made."""
    parts = of_all(progress)
    skipped = {case: reason for one in parts for case, reason in one.skipped.items()}
    return (
        [case for one in parts for case in one.made],
        skipped,
        sorted(case for one in parts for case in one.foreign),
        [len(one.made) for one in parts],
    )
