"""How clients choose GPUs: MONAI Label's request fields, the same for training and for batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slem_app.errors import BadSetting
from slem_app.serving.values import first_of

__all__ = ["visible_gpus"]

MOST_GPUS = 64


def visible_gpus(request: Mapping[str, Any]) -> str:
    """The GPUs that were chosen, '0,2'; empty: all.

    Raises:
        BadSetting: something else than numbers.
    """
    gpus = str(first_of(request.get("gpus")) or "all")[:1000].replace(" ", "")
    if gpus == "all":
        return ""
    numbers = gpus.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in numbers):
        raise BadSetting(f"gpus {gpus[:40]!r} cannot be read: use all, or numbers like 0,2")
    if len(set(numbers)) < len(numbers) or len(numbers) > MOST_GPUS:
        raise BadSetting(f"gpus {gpus[:40]!r} cannot be used: each GPU once, at most {MOST_GPUS}")
    return gpus
