"""Single values as clients and settings write them: a boolean, a number, an option."""

from __future__ import annotations

import re
from datetime import datetime

from slem_app.errors import BadSetting

__all__ = ["boolean", "clock", "duration", "first_of", "whole_number"]

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def boolean(name: str, value: object, default: bool = False) -> bool:
    """A value that is true or false.

    Args:
        name: what it is called, for the message.
        value: JSON's own, or text; None, 'none' and '' mean that nothing was said.
        default: what holds then.

    Raises:
        BadSetting: anything else.

    Example:
        >>> boolean("undo", "true"), boolean("undo", None), boolean("undo", 0)
        (True, False, False)
    """
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if value is None or text in ("", "none"):
        return default
    if text not in BOOLEANS:
        raise BadSetting(f"{name} is {value!r}: true or false is needed")
    return BOOLEANS[text]


def first_of(value: object) -> object:
    """An option that a client sends alone or as the whole list of its choices, the chosen one first.

    Example:
        >>> first_of(["t1c", "t2f"]), first_of("t1c"), first_of([])
        ('t1c', 't1c', None)
    """
    return (value[0] if value else None) if isinstance(value, list) else value


def whole_number(name: str, value: object, least: int, most: int) -> int:
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


def clock(seconds: float) -> str:
    """A time, seconds since 1970, as MONAI Label's clients show it: '2026-11-28 09:30:00', this machine's."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """Seconds as 'HH:MM:SS'."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
