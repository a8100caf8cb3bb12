"""The rules of grouping as typed tables, read from `rules.yaml` or from a file of the user's.

Constructed = valid: unknown keys, words and sequences are refused when the file is read, not when a series
meets them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from slem_app.errors import BadSetting
from slem_app.yaml_tables import load_yaml

__all__ = [
    "Exclusion",
    "Expectation",
    "HeaderTest",
    "Preference",
    "Rule",
    "Rules",
    "Unclear",
    "load_rules",
]

DEFAULT = Path(__file__).parent / "rules.yaml"
T = TypeVar("T")


@dataclass(frozen=True)
class HeaderTest:
    """A question to one header field; every part that is given must hold."""

    field: str
    """DICOM keyword, NumberOfSlices, NumberOfOrientations, or one of 'plane', 'thickness', 'pixel', 'slices'.
    """
    has: tuple[str, ...] = ()
    """One of the field's values is one of these, whatever its case."""
    lacks: tuple[str, ...] = ()
    """None of the field's values is one of these; a missing field passes."""
    matches: re.Pattern[str] | None = None
    """Found in the value, its parts joined by a backslash."""
    unless: re.Pattern[str] | None = None
    """Not found in the value; a missing field passes."""
    min: float | None = None
    """Least number."""
    max: float | None = None
    """Greatest number."""

    def passes(self, value: object) -> bool:
        """Whether `value` of the field (None: missing) fits."""
        parts = () if value in (None, "") else value if isinstance(value, tuple) else (value,)
        values = {str(part).upper() for part in parts}
        text = "\\".join(map(str, parts))
        if values & {word.upper() for word in self.lacks} or (
            self.unless and parts and self.unless.search(text)
        ):
            return False
        if self.has and not values & {word.upper() for word in self.has}:
            return False
        if self.matches and not (parts and self.matches.search(text)):
            return False
        return self._in_range(parts)

    def _in_range(self, parts: tuple[object, ...]) -> bool:
        if self.min is None and self.max is None:
            return True
        try:
            number = float(str(parts[0]))
        except (IndexError, ValueError):
            return False
        return (self.min is None or number >= self.min) and (self.max is None or number <= self.max)

    def __str__(self) -> str:
        wanted = [
            f"{word} {part:g}"
            for word, part in (("at least", self.min), ("at most", self.max))
            if part is not None
        ]
        wanted += [f"with {' or '.join(self.has)}"] * bool(self.has) + [
            f"without {', '.join(self.lacks)}"
        ] * bool(self.lacks)
        return f"{self.field} {' and '.join(wanted)}".strip()


@dataclass(frozen=True)
class Exclusion:
    """A kind of series that is no sequence of a model, whatever else its name says."""

    reason: str
    """What it is, e.g. 'an ADC map'."""
    words: re.Pattern[str] | None = None
    """Found as whole words in a text of the series."""
    header: tuple[HeaderTest, ...] = ()
    """All must pass."""


@dataclass(frozen=True)
class Rule:
    """What makes a series a sequence."""

    sequence: str
    """E.g. 't1c'."""
    strength: int
    """Of two series that fit one sequence, the one with the stronger rule wins."""
    words: tuple[str, ...] = ()
    """Words that must be said."""
    without: tuple[str, ...] = ()
    """Words that must not be said."""
    header: tuple[HeaderTest, ...] = ()
    """All must pass."""
    unnamed: bool = False
    """Only for a series none of whose texts says a telling word."""
    beside: str = ""
    """The sequence of another series, by which this one was told; empty: it was told by itself."""


@dataclass(frozen=True)
class Unclear:
    """A kind of series that no rule can name by itself, and what to tell the reader of it."""

    reason: str
    """What is not known."""
    words: tuple[str, ...] = ()
    """Words that must be said."""
    without: tuple[str, ...] = ()
    """Words that must not be said."""
    sequence: str = ""
    """What it is where another series of the study is `beside` and none is this; empty: never known."""
    beside: str = ""
    """See `sequence`."""

    def fits(self, said: Collection[str]) -> bool:
        """Whether a series that says these words is of this kind."""
        return set(self.words) <= set(said) and not set(self.without) & set(said)


@dataclass(frozen=True)
class Expectation:
    """What the header must not contradict."""

    sequences: tuple[str, ...]
    """Sequences it holds for."""
    header: HeaderTest
    """Fails only on a field that is there and not 0."""


@dataclass(frozen=True)
class Preference:
    """Which of several series of one sequence is taken."""

    reason: str
    """Why, e.g. 'thinner slices'."""
    sequences: tuple[str, ...] = ()
    """Sequences it holds for; none: all."""
    without: tuple[str, ...] = ()
    """Words that must not be said."""
    header: tuple[HeaderTest, ...] = ()
    """All must pass."""
    least: str = ""
    """Field of which less is better."""
    most: str = ""
    """Field of which more is better."""
    ratio: float = 1.0
    """How clearly: `least` keeps what is below best / ratio, `most` what is above best / ratio."""


@dataclass(frozen=True)
class Rules:
    """Everything that decides which series is which sequence.

    Raises:
        BadSetting: a rule names a word or a sequence that is not in the file.
    """

    order: tuple[str, ...]
    """Every sequence, in the order in which they are listed."""
    reference: tuple[str, ...]
    """Which sequence stands for a case, the first choice first."""
    texts: tuple[str, ...]
    """'name' and header fields, in the order in which they are asked."""
    telling: tuple[str, ...]
    """Words that end the search through the texts."""
    always: Mapping[str, tuple[str, ...]]
    """Header field -> words that are looked for in it whatever the texts say."""
    consumed: tuple[str, ...]
    """Words whose matches are removed before the others are looked for."""
    ignore: tuple[re.Pattern[str], ...]
    """Phrases removed from every text."""
    words: Mapping[str, re.Pattern[str]]
    """Word -> the ways it is written."""
    allowed: tuple[str, ...]
    """Reasons of `excluded` that do not count: what they find may be a sequence."""
    excluded: tuple[Exclusion, ...]
    """In the order of the file: the first gives the reason."""
    sequences: tuple[Rule, ...]
    """In the order of the file."""
    unclear: tuple[Unclear, ...]
    """In the order of the file: the first that fits gives the reason."""
    expected: tuple[Expectation, ...]
    """In the order of the file."""
    preferred: tuple[Preference, ...]
    """In the order in which they are asked."""

    def __post_init__(self) -> None:
        said = {*self.telling, *self.consumed, *(word for words in self.always.values() for word in words)}
        said.update(word for rule in self.sequences for word in (*rule.words, *rule.without))
        said.update(word for rule in self.preferred for word in rule.without)
        said.update(word for rule in self.unclear for word in (*rule.words, *rule.without))
        if unknown := said - set(self.words):
            raise BadSetting(
                f"rules name words that are not under 'words': {sorted(unknown)}; there are "
                f"{sorted(self.words)}"
            )
        named = {*self.reference, *(rule.sequence for rule in self.sequences)}
        named.update(name for rule in self.expected for name in rule.sequences)
        named.update(name for rule in self.preferred for name in rule.sequences)
        named.update(name for rule in self.unclear for name in (rule.sequence, rule.beside) if name)
        if unknown := set(self.allowed) - {exclusion.reason for exclusion in self.excluded}:
            raise BadSetting(f"'allowed' names reasons that are not under 'excluded': {sorted(unknown)}")
        if unknown := named - set(self.order):
            raise BadSetting(
                f"rules name sequences that are not under 'order': {sorted(unknown)}; there are "
                f"{list(self.order)}"
            )


def load_rules(path: Path | str | None = None) -> Rules:
    """The rules of a file, or the package's own; with `base: default` a file adds to the package's own.

    Raises:
        BadSetting: not readable, an unknown or missing key, a broken regular expression.
    """
    path = DEFAULT if path is None else Path(path).expanduser()
    try:
        return _kept(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise BadSetting(f"the rules {path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=8)
def _kept(path: Path, changed: int) -> Rules:
    return _load(path)


def _load(path: Path) -> Rules:
    table = _read(path)
    if "base" in table:
        if table.pop("base") != "default":
            raise BadSetting(f"{path}: 'base' can only be 'default'")
        table = _added(_read(DEFAULT), table)
    table.setdefault("unclear", [])  # files from before it was known
    if (unknown := set(table) - set(PARTS)) or (missing := set(PARTS) - set(table)):
        what = (
            f"unknown keys {sorted(map(str, unknown))}"
            if unknown
            else f"missing keys {sorted(missing)} (or begin the file with `base: default`)"
        )
        raise BadSetting(f"{path}: {what}; the keys are base, {', '.join(PARTS)}")
    return Rules(**{key: PARTS[key](table[key], f"{path.name}, {key}") for key in PARTS})


def _read(path: Path) -> dict[str, Any]:
    try:
        table = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadSetting(f"the rules {path} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise BadSetting(f"the rules {path} must be a YAML mapping with the keys {', '.join(PARTS)}")
    return table


def _added(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The base with a user's additions: words join, rules come first."""
    for key, value in more.items():
        if key == "words" and isinstance(value, dict):
            base[key] = {
                word: [*_many(base[key].get(word, [])), *_many(value.get(word, []))]
                for word in {**base[key], **value}
            }
        elif key == "always" and isinstance(value, dict):
            base[key] = {**base[key], **value}
        elif key in ("order", "reference", "telling"):
            base[key] = list(dict.fromkeys([*base[key], *_many(value)]))
        elif key in base:
            base[key] = [*_many(value), *base[key]] if key != "texts" else value
        else:
            base[key] = value
    return base


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, (str, int)) for one in value):
        raise BadSetting(f"{where}: expected a list of words, got {value!r}")
    return tuple(str(one) for one in value)


def _pattern(value: Any, where: str) -> re.Pattern[str]:
    try:
        return re.compile(str(value), re.IGNORECASE)
    except re.error as error:
        raise BadSetting(f"{where}: {value!r} is not a regular expression: {error}") from error


def _whole_words(value: Any, where: str) -> re.Pattern[str]:
    """Any of the expressions, each checked by itself, with no letter or digit on either side."""
    parts = [_pattern(one, where).pattern for one in _many(value)]
    return _pattern(rf"(?<![a-z0-9])(?:{'|'.join(parts)})(?![a-z0-9])", where)


def _tests(value: Any, where: str) -> tuple[HeaderTest, ...]:
    return tuple(_build(HeaderTest, one, where) for one in _many(value))


def _build(kind: type[T], row: Any, where: str) -> T:
    """A dataclass from a mapping; unknown and missing keys are refused."""
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(row, dict) or (unknown := set(row) - set(known)):
        raise BadSetting(
            f"{where}: unknown keys {sorted(map(str, unknown)) if isinstance(row, dict) else row!r}; "
            f"known are {', '.join(known)}"
        )
    if missing := [name for name, field in known.items() if field.default is MISSING and name not in row]:
        raise BadSetting(f"{where}: {row} lacks {', '.join(missing)}")
    return kind(**{key: _converter(kind, key)(value, f"{where}, {key}") for key, value in row.items()})


def _converter(kind: type, key: str) -> Callable[[Any, str], Any]:
    if key == "header":
        return (lambda value, where: _build(HeaderTest, value, where)) if kind is Expectation else _tests
    if key in ("has", "lacks", "sequences", "without") or (key == "words" and kind in (Rule, Unclear)):
        return _texts
    return {
        "words": _whole_words,
        "matches": _pattern,
        "unless": _pattern,
        "min": _number,
        "max": _number,
        "ratio": _number,
    }.get(key, lambda value, _: value)


def _number(value: Any, where: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise BadSetting(f"{where}: expected a number, got {value!r}")
    return float(value)


def _rows(kind: type[T]) -> Callable[[Any, str], tuple[T, ...]]:
    return lambda value, where: tuple(
        _build(kind, row, f"{where} {k}") for k, row in enumerate(_many(value), 1)
    )


def _words(value: Any, where: str) -> Mapping[str, re.Pattern[str]]:
    if not isinstance(value, dict):
        raise BadSetting(f"{where}: expected a mapping from word to regular expressions, got {value!r}")
    return {str(word): _whole_words(ways, f"{where}, {word}") for word, ways in value.items()}


def _fields(value: Any, where: str) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise BadSetting(f"{where}: expected a mapping from header field to words, got {value!r}")
    return {str(field): _texts(words, f"{where}, {field}") for field, words in value.items()}


PARTS: Mapping[str, Callable[[Any, str], Any]] = {
    "order": _texts,
    "reference": _texts,
    "texts": _texts,
    "telling": _texts,
    "consumed": _texts,
    "always": _fields,
    "ignore": lambda value, where: tuple(_pattern(one, where) for one in _many(value)),
    "words": _words,
    "allowed": _texts,
    "excluded": _rows(Exclusion),
    "sequences": _rows(Rule),
    "unclear": _rows(Unclear),
    "expected": _rows(Expectation),
    "preferred": _rows(Preference),
}
"""Key of the file -> how it is read."""
