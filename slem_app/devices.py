"""Which device computes: the one place that reads 'auto', 'cpu', 'cuda' or 'cuda:N'."""

from __future__ import annotations

import os

import torch

from slem_app.errors import BadSetting

__all__ = ["device_name", "device_or_cpu", "gpu_count", "read_device"]


def gpu_count() -> int:
    """GPUs that torch sees here."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def read_device(wanted: str | torch.device = "auto") -> torch.device:
    """The device that was asked for.

    Args:
        wanted: 'cpu'; 'cuda:N'; 'cuda', this process's GPU (the first, unless torchrun gave it another);
            'auto', the same where there is a GPU, else the processor.

    Raises:
        BadSetting: an unknown name, or no such GPU here.
    """
    count, name = gpu_count(), str(wanted)
    if name == "auto":
        name = "cuda" if count else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadSetting(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise BadSetting(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise BadSetting(f"there is no device {name}: torch sees {count} GPUs here; use auto or cpu")
    return device


def device_name(wanted: str) -> str:
    """The name of a device for another process; 'auto' is decided here, 'cuda' stays, for each process may
    have a GPU of its own.

    Raises:
        BadSetting: as `read_device`.
    """
    found = read_device(wanted)
    return found.type if wanted == "auto" else wanted


def device_or_cpu(wanted: str) -> str:
    """The same, and the processor where there is no GPU: MONAI Label's own default asks for one wherever it
    runs.

    Raises:
        BadSetting: as `read_device`.
    """
    return device_name(wanted) if gpu_count() else "cpu"
