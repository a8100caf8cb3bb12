"""Which series of a study is which sequence: rules are asked, every choice and every refusal carries its
reason.

Nothing is guessed: a series that fits two sequences, or two series that fit one equally well, are reported
and not used until the user has chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from slem_app.errors import BadVolume, NotFound
from slem_app.grouping.by_hand import followed, picked
from slem_app.grouping.facts import Facts, look_at, shortened
from slem_app.grouping.grouped import Grouping, Leftover, SequenceChoice
from slem_app.grouping.rules import HeaderTest, Preference, Rule, Rules, Unclear, load_rules
from slem_app.studies import Series, Study

__all__ = ["group"]


def group(study: Study, rules: Rules | None = None, chosen: Mapping[str, str] | None = None) -> Grouping:
    """Decide which series is which sequence.

    Args:
        study: the case.
        rules: default: those that the study's folder declares in `slem.yaml`, else the package's
            `rules.yaml`.
        chosen: sequence -> series id, description or number, the user's own decision; empty: no series is
            that sequence. Wins over every rule, and over what was chosen before (`Study.by_hand`).

    Raises:
        BadSetting: `chosen` names an unknown sequence, or one series for two.
        NotFound: `chosen` names a series that the study does not have.
    """
    rules = rules or load_rules(study.rules)
    kept, warnings = followed(study, rules)
    wanted = {**kept, **(chosen or {})}
    choices = picked(study, rules, wanted)
    taken = {choice.series.id for choice in choices}
    leftovers: list[Leftover] = []
    fits: dict[str, list[tuple[Facts, Rule]]] = {}
    unclear: list[tuple[Facts, Unclear]] = []
    for series in study.series:
        if series.id in taken:
            continue
        verdict = _classify(series, rules)
        if isinstance(verdict, Leftover):
            leftovers.append(verdict)
        elif isinstance(verdict[1], Unclear):
            unclear.append((verdict[0], verdict[1]))
        else:
            fits.setdefault(verdict[1].sequence, []).append((verdict[0], verdict[1]))
    leftovers += _settle(unclear, fits, [choice.sequence for choice in choices])
    for sequence, candidates in fits.items():
        if sequence in wanted:
            leftovers += [_passed_over(facts, rule, bool(wanted[sequence])) for facts, rule in candidates]
            continue
        choice, rest = _select(sequence, candidates, rules)
        choices += [choice] if choice else []
        leftovers += rest
    order = {name: place for place, name in enumerate(rules.order)}
    places = {series.id: place for place, series in enumerate(study.series)}
    leftovers.sort(key=lambda one: places[one.series.id])
    return Grouping(
        study,
        tuple(sorted(choices, key=lambda choice: order[choice.sequence])),
        tuple(leftovers),
        rules.reference,
        study.by_hand,
        warnings,
    )


def _passed_over(facts: Facts, rule: Rule, another: bool) -> Leftover:
    """A series that fits a sequence for which a person chose another one, or none."""
    if another:
        reason = f"also fits {rule.sequence}, for which another series was chosen by hand"
        return Leftover(facts.series, "duplicate", reason)
    reason = f"would be {rule.sequence} ({_why(facts, rule)}), but it was chosen by hand that no series is"
    return Leftover(facts.series, "by hand", reason)


def _classify(series: Series, rules: Rules) -> Leftover | tuple[Facts, Rule | Unclear]:
    """The sequence that a series fits, by its strongest rule, or why it fits none.

    A series of a kind that no rule names by itself comes with that kind: the other series may tell.
    """
    try:
        facts = look_at(series, rules)
        for exclusion in (one for one in rules.excluded if one.reason not in rules.allowed):
            found = _finds(exclusion.words, facts) if exclusion.words else ""
            if facts.passes(exclusion.header) and found is not None:
                return Leftover(
                    series,
                    "derived",
                    f"{exclusion.reason}: {found or _quote_header(facts, exclusion.header)}",
                )
    except BadVolume as error:
        return Leftover(series, "unknown", str(error))
    fitting = [rule for rule in rules.sequences if _fits(rule, facts)]
    names = list(dict.fromkeys(rule.sequence for rule in fitting))
    if not fitting:
        kind = next((one for one in rules.unclear if one.fits(facts.said)), None)
        return (facts, kind) if kind else Leftover(series, "unknown", _unknown(facts))
    if len(names) > 1:
        return Leftover(
            series,
            "tie",
            f"fits {' and '.join(names)} alike: name {shortened(series.name)}; choose by hand what it is",
        )
    best = max(fitting, key=lambda rule: rule.strength)
    for expectation in rules.expected:
        test = expectation.header
        value = facts.value(test.field)
        if best.sequence in expectation.sequences and value not in (None, "", 0) and not test.passes(value):
            reason = (
                f"{_why(facts, best)}, which would make it {best.sequence}, but {test.field} is "
                f"{value} where {test} is expected"
            )
            return Leftover(series, "unknown", reason)
    return facts, best


def _finds(words: re.Pattern[str], facts: Facts) -> str | None:
    """What an exclusion's words find in a text, quoted; None if nothing."""
    for field, text in facts.texts.items():
        if found := words.search(text):
            source = facts.series.name if field == "name" else str(facts.series.header.get(field))
            return f"{field} {shortened(source)} says {found[0].strip()!r}"
    return None


def _fits(rule: Rule, facts: Facts) -> bool:
    if rule.unnamed and facts.telling:
        return False
    return (
        all(word in facts.said for word in rule.words)
        and not any(word in facts.said for word in rule.without)
        and facts.passes(rule.header)
    )


def _why(facts: Facts, rule: Rule) -> str:
    """The rule's grounds for this series."""
    parts = [facts.quote(rule.words)] if rule.words else ["no text names it"]
    if grounds := _quote_header(facts, rule.header):
        parts.append(grounds)
    if rule.beside:
        parts.append(f"nothing is said of contrast, and another series of the study is {rule.beside}")
    return "; ".join(parts)


def _quote_header(facts: Facts, tests: tuple[HeaderTest, ...]) -> str:
    """The values that passed the tests; a test for absence tells that nothing was found."""
    parts = []
    for test in tests if facts.series.header else ():
        value = facts.value(test.field)
        shown = "\\".join(map(str, value)) if isinstance(value, tuple) else value
        parts.append(f"{test.field} is {shown}" if value not in (None, "") else f"no {test.field}")
    return ", ".join(dict.fromkeys(parts))


def _settle(
    unclear: list[tuple[Facts, Unclear]], fits: dict[str, list[tuple[Facts, Rule]]], chosen: Sequence[str]
) -> list[Leftover]:
    """Add to `fits` the series that the others tell apart: beside a T1 after contrast, the T1 of which
    nothing is said is the one before it, unless another one says that it is. The rest, with reasons.
    """
    named = {*fits, *chosen}
    rest = []
    for facts, kind in unclear:
        if kind.beside in named and kind.sequence not in named:
            rule = Rule(kind.sequence, 0, kind.words, beside=kind.beside)
            fits.setdefault(kind.sequence, []).append((facts, rule))
            continue
        reason = (
            f"name {shortened(facts.series.name)}: {kind.reason}; choose by hand what it is "
            f"(`--series SEQUENCE SERIES`)"
        )
        rest.append(Leftover(facts.series, "unknown", reason))
    return rest


def _unknown(facts: Facts) -> str:
    header = facts.series.header
    seen = [
        f"{key} {header[key]}"
        for key in ("ScanningSequence", "EchoTime", "RepetitionTime", "InversionTime")
        if header.get(key)
    ]
    said = f"; words found: {', '.join(sorted(facts.said))}" if facts.said else ""
    return f"no rule knows {shortened(facts.series.name)}{said}{'; ' + ', '.join(seen) if seen else ''}"


def _select(
    sequence: str, candidates: list[tuple[Facts, Rule]], rules: Rules
) -> tuple[SequenceChoice | None, list[Leftover]]:
    """The one series of several that fit a sequence, and the rest with reasons."""
    if len(candidates) == 1:
        facts, rule = candidates[0]
        return SequenceChoice(sequence, facts.series, _why(facts, rule)), []
    left, out = _readable(candidates)
    dropped: list[tuple[Facts, str]] = []
    strongest = max((rule.strength for _, rule in left), default=0)
    left = _keep(left, [rule.strength == strongest for _, rule in left], "surer signs", dropped)
    for preference in rules.preferred:
        if len(left) > 1 and (not preference.sequences or sequence in preference.sequences):
            left = _keep(
                left, _preferred(preference, [facts for facts, _ in left]), preference.reason, dropped
            )
    ids = [shortened(facts.series.id) for facts, _ in left]
    for facts, reason in dropped:
        out.append(
            Leftover(
                facts.series, "duplicate", f"also fits {sequence}; preferred is {' or '.join(ids)}: {reason}"
            )
        )
    if len(left) == 1:
        facts, rule = left[0]
        reasons = ", ".join(dict.fromkeys(reason for _, reason in dropped))
        return SequenceChoice(
            sequence,
            facts.series,
            _why(facts, rule) + (f"; preferred to {len(dropped)} more: {reasons}" if dropped else ""),
        ), out
    for facts, _ in left:
        others = " and ".join(id for id in ids if id != shortened(facts.series.id))
        out.append(
            Leftover(
                facts.series, "tie", f"fits {sequence} as well as {others}: choose one of them by its id"
            )
        )
    return None, out


def _readable(candidates: list[tuple[Facts, Rule]]) -> tuple[list[tuple[Facts, Rule]], list[Leftover]]:
    """The candidates whose headers make a volume; a broken file must not win over a good one."""
    left, out = [], []
    for facts, rule in candidates:
        try:
            if facts.series.paths and not facts.series.grid.voxel_volume > 0:
                raise BadVolume("its affine has a zero axis or no numbers")
        except (BadVolume, NotFound) as error:
            out.append(
                Leftover(facts.series, "unknown", f"would be {rule.sequence} but cannot be used: {error}")
            )
        else:
            left.append((facts, rule))
    return left, out


def _keep(
    left: list[tuple[Facts, Rule]], good: list[bool], reason: str, dropped: list[tuple[Facts, str]]
) -> list[tuple[Facts, Rule]]:
    """The good ones, if there are any; the others are noted in `dropped` with the reason."""
    if all(good) or not any(good):
        return left
    dropped += [(facts, reason) for (facts, _), ok in zip(left, good) if not ok]
    return [pair for pair, ok in zip(left, good) if ok]


def _preferred(preference: Preference, candidates: list[Facts]) -> list[bool]:
    """Which candidates a preference keeps."""
    if field := preference.least or preference.most:
        values = [facts.value(field) for facts in candidates]
        if any(not isinstance(value, (int, float)) or value <= 0 for value in values):
            return [True] * len(candidates)
        if preference.least:
            return [value * preference.ratio <= min(values) for value in values]
        return [value * preference.ratio >= max(values) for value in values]
    return [
        not any(word in facts.said for word in preference.without) and facts.passes(preference.header)
        for facts in candidates
    ]
