"""Which of a server's models a case is for: those that know one of its sequences. No model is known here but
by its card.
"""

from __future__ import annotations

from collections.abc import Mapping

from slem_app.errors import BadStudy
from slem_app.grouping import Grouping
from slem_app.weights import Card

__all__ = ["check", "fitting"]


def fitting(grouping: Grouping, cards: Mapping[str, Card]) -> tuple[str, ...]:
    """Names of the models that can segment a case, the one that knows most of its sequences first.

    Args:
        grouping: the case.
        cards: of the served models, by the name under which clients know them.
    """
    known = {name: len(set(card.sequences) & set(grouping.sequences)) for name, card in cards.items()}
    return tuple(sorted((name for name, count in known.items() if count), key=lambda name: -known[name]))


def check(grouping: Grouping, model: str, cards: Mapping[str, Card]) -> None:
    """Refuse a case that a model is not for.

    Raises:
        BadStudy: it has none of the model's sequences; the text says which model it is for.
    """
    fits = fitting(grouping, cards)
    if model in fits:
        return
    there = ", ".join(grouping.sequences) or "no known sequence"
    instead = (
        f"use {' or '.join(fits)}" if fits else f"none of this server's models ({', '.join(cards)}) is for it"
    )
    raise BadStudy(
        f"case {grouping.study.id} is not for {model}, which segments "
        f"{', '.join(cards[model].sequences)}: it has {there}; {instead}"
    )
