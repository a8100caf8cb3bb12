"""JSON that somebody else wrote, read strictly: what is accepted can be written out again, for any reader.

Python's own reader takes NaN, numbers of any length, lone surrogates and any depth. One such value, once
kept, makes every answer that holds it fail. So they are refused where they come in (RFC 8259, and RFC 7493).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from slem_app.errors import BadSetting, TooLarge

__all__ = ["DEEPEST", "LARGEST", "parse", "parse_object"]

LARGEST = 4 * 2**20  # bytes
DEEPEST = 32  # lists and objects inside each other
WHOLE_DIGITS = 20  # characters of a whole number: 64 bits
REAL_DIGITS = 100  # characters of any other number
SURROGATE = re.compile("[\ud800-\udfff]")
QUOTED = 60  # characters of a value that an error text shows


def parse(text: str | bytes, what: str, largest: int = LARGEST) -> Any:
    """Read a JSON text.

    Args:
        text: the text, or its bytes in UTF-8.
        what: names it in errors, e.g. 'the field `params`'.
        largest: bytes that it may have.

    Returns:
        Dictionaries, lists, strings without surrogates, finite numbers, True, False or None.

    Raises:
        TooLarge: more than `largest` bytes.
        BadSetting: not JSON, or JSON with NaN, infinity, a lone surrogate, a number that is too long, a name
            that comes twice in one object, or too many levels.

    Example:
        >>> parse('{"clicks": [[1, 2, 3]]}', "the field `params`")
        {'clicks': [[1, 2, 3]]}
    """
    if len(text) > largest:
        raise TooLarge(f"{what} has more than {largest // 1024} KiB: {len(text) // 1024} KiB came")
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(
            decoded,
            parse_constant=_no_constant,
            parse_int=_whole,
            parse_float=_real,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise BadSetting(f"{what} must be JSON of at most {DEEPEST} levels") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are two of them
        raise BadSetting(f"{what} must be JSON: {_reason(error)}") from error
    _check(value, what)
    return value


def parse_object(text: str | bytes, what: str, largest: int = LARGEST) -> dict[str, Any]:
    """Read a JSON text that must hold an object; an empty text is an empty one.

    Raises:
        TooLarge, BadSetting: as `parse`, or another kind of value.
    """
    value = parse(text or "{}", what, largest)
    if not isinstance(value, dict):
        raise BadSetting(f"{what} must be a JSON object, got a {type(value).__name__}")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _whole(digits: str) -> int:
    if len(digits) > WHOLE_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} characters; the limit is {WHOLE_DIGITS}")
    return int(digits)


def _real(digits: str) -> float:
    if len(digits) > REAL_DIGITS:
        raise ValueError(f"a number of {len(digits)} characters; the limit is {REAL_DIGITS}")
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits} is too large for a number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {twice[:QUOTED]!a} comes twice in one object")
    return found


def _check(value: Any, what: str) -> None:
    """Refuse what goes too deep, and text that UTF-8 cannot write."""
    level = [value]
    for _ in range(DEEPEST + 1):
        texts = [part for part in level if isinstance(part, str)]
        below: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                texts += part
                below += part.values()
            elif isinstance(part, list):
                below += part
        for found in texts:
            if SURROGATE.search(found):
                raise BadSetting(f"{what} holds half a character (a lone surrogate): {found[:QUOTED]!a}")
        if not below:
            return
        level = below
    raise BadSetting(f"{what} must be JSON of at most {DEEPEST} levels")


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return str(error)
