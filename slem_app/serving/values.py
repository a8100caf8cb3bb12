"""Single values as clients and settings write them: a boolean, a number, an option, a device."""

from __future__ import annotations

import re

import torch

from slem_app.errors import BadSetting

__all__ = ["boolean", "device", "device_or_cpu", "first_of", "whole_number"]

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


def device(wanted: str) -> str:
    """Where networks run, as PyTorch calls it.

    Args:
        wanted: 'cpu', 'cuda', 'cuda:1' ...; 'auto' takes a GPU if there is one.

    Raises:
        BadSetting: no such device, or one that is not here.
    """
    available = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if available else "cpu"
    kind, _, number = wanted.partition(":")
    if kind not in ("cpu", "cuda") or (":" in wanted and not (number.isascii() and number.isdigit())):
        raise BadSetting(f"device {wanted!r} is unknown: use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not available:
        raise BadSetting(f"device {wanted!r} is not usable here: PyTorch finds no GPU; use auto or cpu")
    return wanted


def device_or_cpu(wanted: str) -> str:
    """The same, and the processor where PyTorch finds no GPU: MONAI Label's own default asks for one wherever
    it runs.

    Raises:
        BadSetting: no such device.
    """
    return device(wanted) if torch.cuda.is_available() else "cpu"


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
