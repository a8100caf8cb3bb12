"""The processes of one training: this one's number, joining them, their devices. One process needs none of it
and gets the same answers.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from slem_app.devices import read_device

__all__ = [
    "device_of_this_process",
    "end_with_launcher",
    "first_process",
    "first_process_first",
    "first_says",
    "join_processes",
    "leave_processes",
    "mean_of_all",
    "of_all",
    "ranks",
]


def ranks() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def join_processes(device: str) -> None:
    """Join the processes that torchrun started, if it did: NCCL on GPUs, gloo on CPUs."""
    if device.startswith("cuda"):
        # NCCL talks over the current GPU, which is the first one of all until told otherwise
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        # DistributedDataParallel imports torch._dynamo, which keeps whatever group there is at that time
        # alive for good, and the group its threads
        importlib.import_module("torch._dynamo")
        store, rank, world = next(distributed.rendezvous("env://"))
        # processes that the launcher starts again must not find the addresses of those before them
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        distributed.init_process_group(
            "nccl" if device.startswith("cuda") else "gloo",
            store=distributed.PrefixStore(f"start{again}", store),
            rank=rank,
            world_size=world,
        )


def end_with_launcher() -> None:
    """Have the kernel end this process when the launcher of its group dies: else it would go on without
    whoever started the group.
    """
    if "LOCAL_RANK" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def of_all(value: object) -> list:
    """What every process has, in the order of their ranks."""
    _, world = ranks()
    if world == 1:
        return [value]
    found: list = [None] * world
    distributed.all_gather_object(found, value)
    return found


def leave_processes() -> None:
    """Part from them again; the group's threads have ended afterwards.

    A gloo thread that still runs when the interpreter ends, with a tensor of Python's in hand, aborts the
    process (SIGABRT, "terminate called without an active exception"), and with it a run that was done
    (pytorch pull request 179291 describes it). They end with the group's last holder.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # DistributedDataParallel holds the group and lies in cycles


def first_process() -> bool:
    """True in the process that writes and prints, and where there is only one."""
    return ranks()[0] == 0


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let rank 0 pass before the others, so that what it writes to a shared disk is there for them."""
    rank, world = ranks()
    if world > 1 and rank > 0:
        distributed.barrier()
    yield
    if world > 1 and rank == 0:
        distributed.barrier()


def first_says(answer: bool) -> bool:
    """Rank 0's answer, in every process."""
    if ranks()[1] == 1:
        return answer
    said = [answer]
    distributed.broadcast_object_list(said, src=0)
    return said[0]


def device_of_this_process(device: str) -> str:
    """As `read_device`: 'auto' and 'cuda' become this process's own GPU.

    Raises:
        BadSetting: no such device here.
    """
    return str(read_device(device))


def mean_of_all(value: torch.Tensor) -> torch.Tensor:
    """The mean of `value` over the processes; NaN for all if it is NaN in one."""
    _, world = ranks()
    if world == 1:
        return value.detach()
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / world
