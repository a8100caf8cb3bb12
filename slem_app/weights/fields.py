"""Dataclasses to plain tables and back, strictly: every key must be there, none may be unknown, every value
has its field's type.

A key younger than the tables that are out there (`metadata={"younger": True}`) may be missing and then has
its default. Understands dataclasses, `tuple[T, ...]`, `tuple[T, U]`, `Mapping[str, T]`, str, int, float and
bool, nested at will.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from slem_app.errors import BadCard, BadSetting, SlemError

__all__ = ["from_table", "merge", "to_table"]

T = TypeVar("T")


def to_table(value: Any) -> Any:
    """A dataclass as dicts, lists and scalars that YAML can hold."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_table(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_table(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_table(item) for item in value]
    return value


def from_table(kind: type[T], table: Any, where: str) -> T:
    """Build a `kind` from what `to_table` gave.

    Args:
        kind: the dataclass or type to build.
        table: dicts, lists and scalars.
        where: file and key, for the message.

    Raises:
        BadCard: an unknown or missing key, a value of another type, or one that the dataclass refuses.
    """
    return typing.cast(T, _value(kind, table, where))


def _value(kind: Any, table: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, table, where)
    if origin is tuple:
        return _tuple(inner, table, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(table, dict) or any(not isinstance(key, str) for key in table):
            raise BadCard(f"{where}: a table with text keys is needed, got {table!r}")
        return {key: _value(inner[1], item, f"{where}.{key}") for key, item in table.items()}
    if kind is float and type(table) is int:
        return float(table)
    if type(table) is not kind:
        hint = " (write it in quotes)" if kind is str else ""
        raise BadCard(f"{where}: {kind.__name__} is needed, got {table!r}{hint}")
    return table


def merge(base: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`base` with the differences put in; nested tables are merged.

    Raises:
        BadSetting: a key that `base` lacks.
    """
    if not isinstance(changes, Mapping):
        raise BadSetting(f"{where}: a table with keys out of {', '.join(base)} is needed, got {changes!r}")
    if unknown := [key for key in changes if key not in base]:
        raise BadSetting(f"{where}: unknown key {', '.join(map(repr, unknown))}; known: {', '.join(base)}")
    both = dict(base)
    for key, value in changes.items():
        both[key] = (
            merge(base[key], value, f"{where}.{key}") if isinstance(base[key], dict) and base[key] else value
        )
    return both


def _dataclass(kind: Any, table: Any, where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if not isinstance(table, dict):
        raise BadCard(f"{where}: a table with the keys {', '.join(fields)} is needed, got {table!r}")
    if unknown := [str(key) for key in table if key not in fields]:
        raise BadCard(f"{where}: unknown key {', '.join(map(repr, unknown))}; known: {', '.join(fields)}")
    if missing := [name for name in fields if name not in table and not fields[name].metadata.get("younger")]:
        defaults = [f"{name!r}{_default(fields[name])}" for name in missing]
        raise BadCard(f"{where}: missing key {', '.join(defaults)}; known: {', '.join(fields)}")
    hints = typing.get_type_hints(kind)
    values = {
        name: _value(hints[name], table[name], f"{where}: {name}" if ": " not in where else f"{where}.{name}")
        for name in fields
        if name in table
    }
    try:
        return kind(**values)
    except (SlemError, ValueError) as error:
        raise BadCard(f"{where}: {error}") from error


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return f" (usually {to_table(field.default)!r})"
    return ""


def _tuple(inner: tuple[Any, ...], table: Any, where: str) -> tuple:
    if not isinstance(table, list):
        raise BadCard(f"{where}: a list is needed, got {table!r}")
    kinds = [inner[0]] * len(table) if inner[-1] is Ellipsis else list(inner)
    if len(kinds) != len(table):
        raise BadCard(f"{where}: {len(kinds)} entries are needed, got {len(table)}: {table!r}")
    return tuple(
        _value(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, table, strict=True))
    )
