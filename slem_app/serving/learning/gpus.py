"""How clients choose GPUs and numbers: MONAI Label's request fields, the same for training and for
batches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from slem_app.errors import BadSetting

__all__ = ["first_of", "visible_gpus", "whole_number"]

MOST_GPUS = 64


def first_of(value: Any) -> Any:
    """Options that come as the whole list of their choices."""
    return (value[0] if value else None) if isinstance(value, list) else value


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


def whole_number(name: str, value: Any, least: int, most: int) -> int:
    """A number that a client sends, as JSON's number or as text.

    Raises:
        BadSetting: something else, or one that is out of range.
    """
    text = str(value)[:40].strip()
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,18}(\.0*)?", text):
        raise BadSetting(f"{name} cannot be {text!r}: expected a whole number from {least} to {most}")
    number = int(text.partition(".")[0])
    if not least <= number <= most:
        raise BadSetting(f"{name} cannot be {number}: expected a whole number from {least} to {most}")
    return number
