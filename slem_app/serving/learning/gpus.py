"""How clients choose GPUs: MONAI Label's request fields, the same for training and for batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slem_app.errors import BadSetting

__all__ = ["first_of", "visible_gpus"]


def first_of(value: Any) -> Any:
    """Options that come as the whole list of their choices."""
    return (value[0] if value else None) if isinstance(value, list) else value


def visible_gpus(request: Mapping[str, Any]) -> str:
    """The GPUs that were chosen, '0,2'; empty: all.

    Raises:
        BadSetting: something else than numbers.
    """
    gpus = str(first_of(request.get("gpus")) or "all").replace(" ", "")
    if gpus == "all":
        return ""
    if not all(part.isdigit() for part in gpus.split(",")):
        raise BadSetting(f"gpus {gpus!r} cannot be read: use all, or numbers like 0,2")
    return gpus
