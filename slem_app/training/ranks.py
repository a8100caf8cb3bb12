"""The processes of one training: this one's number, joining them, their devices. One process needs none of it and gets the same answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

__all__ = ["device_of_this_process", "first_process_first", "join_processes", "mean_of_all", "ranks"]


def ranks() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def join_processes(device: str) -> None:
    """Join the processes that torchrun started, if it did: NCCL on GPUs, gloo on CPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let rank 0 pass before the others, so that what it writes to a shared disk is there for them."""
    rank, world = ranks()
    if world > 1 and rank > 0:
        distributed.barrier()
    yield
    if world > 1 and rank == 0:
        distributed.barrier()


def device_of_this_process(device: str) -> str:
    """'auto' -> this process's own GPU, else the CPU; anything else as it is."""
    if device != "auto":
        return device
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def mean_of_all(value: torch.Tensor) -> torch.Tensor:
    """The mean of `value` over the processes; NaN for all if it is NaN in one."""
    _, world = ranks()
    if world == 1:
        return value.detach()
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / world
