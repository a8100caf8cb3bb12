"""Which combinations of sequences a collage may have, and so what its classes are.

A word says for every block which sequence fills it. Method: the abstract of SLeM (Wang et al., J. CAD & CG
37(3), 2025) assigns "different labels" to "different multi-modal images" and leaves open which; every reading
is here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import permutations, product

import numpy as np

from slem_app.errors import BadSetting

__all__ = ["KINDS", "distance", "draw_word", "word_count", "words"]

KINDS = ("permutations", "all", "even", "mds")
MOST = 65_536  # words that are listed
FIELDS = {2: 0b11, 4: 0b111, 8: 0b1011}  # irreducible polynomials over GF(2)


@lru_cache(maxsize=64)
def words(kind: str, blocks: int, present: tuple[int, ...]) -> np.ndarray:
    """All words of a label set: (classes, blocks) sequence indices out of `present`.

    - 'permutations': each sequence once; with more blocks than sequences every sequence at least once, with
      fewer no sequence twice.
    - 'all': every combination.
    - 'even': the even permutations, any two of which differ in at least three blocks.
    - 'mds': a Reed-Solomon code, words (f(0), f(1), ...) of all f = a + b x over the field of as many
      elements as there are sequences; any two differ in all blocks but one.

    A case that lacks sequences has fewer words: 'even' and 'mds' then fall back to 'permutations' of what is
    there.

    Raises:
        BadSetting: an unknown kind, too many words to list, or a code that does not exist for these numbers.
    """
    if kind not in KINDS:
        raise BadSetting(f"unknown label set {kind!r}: choose {', '.join(KINDS)}")
    count = word_count(kind, blocks, len(present))
    if count > MOST:
        raise BadSetting(
            f"{kind} of {len(present)} sequences in {blocks} blocks are {count} classes, more than "
            f"{MOST}: use fewer blocks, or all"
        )
    m = len(present)
    found: Iterable[tuple[int, ...]]
    if kind == "all":
        found = product(range(m), repeat=blocks)
    elif kind == "even":
        found = (word for word in permutations(range(m)) if _is_even(word))
    elif kind == "mds":
        found = _reed_solomon(m, blocks)
    elif blocks <= m:
        found = permutations(range(m), blocks)
    else:
        found = (word for word in product(range(m), repeat=blocks) if len(set(word)) == m)
    table = np.array(present)[np.array(sorted(found))].astype(np.int64)  # classes x blocks
    table.setflags(write=False)
    return table


def word_count(kind: str, blocks: int, sequences: int) -> int:
    """How many classes a label set has.

    Raises:
        BadSetting: it does not exist for these numbers.
    """
    m, b = sequences, blocks
    if kind == "all":
        return m**b
    if kind == "even":
        if b != m or m < 3:
            raise BadSetting(
                f"even permutations need as many blocks as sequences, at least 3: got {b} blocks and {m} "
                f"sequences"
            )
        return math.factorial(m) // 2
    if kind == "mds":
        if b > m or not (m in FIELDS or m in (3, 5, 7)):
            raise BadSetting(
                f"the MDS code needs 2, 3, 4, 5, 7 or 8 sequences and at most as many blocks: got {m} "
                f"sequences and {b} blocks"
            )
        return m * m
    if b <= m:
        return math.perm(m, b)
    # surjections, by inclusion and exclusion
    return sum((-1) ** k * math.comb(m, k) * (m - k) ** b for k in range(m + 1))


def draw_word(kind: str, blocks: int, present: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(blocks,) a word drawn evenly."""
    if kind == "all":
        return np.array(present)[rng.integers(len(present), size=blocks)]
    table = words(kind, blocks, present)
    return table[rng.integers(len(table))].copy()


def distance(table: np.ndarray) -> int:
    """In how many blocks the two most alike words of (classes, blocks) differ."""
    unlike = (table[:, None] != table[None]).sum(axis=2)
    return int(unlike[~np.eye(len(table), dtype=bool)].min())


def _is_even(word: tuple[int, ...]) -> bool:
    return sum(a > b for i, a in enumerate(word) for b in word[i + 1 :]) % 2 == 0


def _reed_solomon(m: int, blocks: int) -> set[tuple[int, ...]]:
    return {tuple(_plus(a, _times(b, x, m), m) for x in range(blocks)) for a in range(m) for b in range(m)}


def _plus(a: int, b: int, m: int) -> int:
    return a ^ b if m in FIELDS else (a + b) % m


def _times(a: int, b: int, m: int) -> int:
    """Product in the field of m elements; those of GF(2^n) are polynomials over GF(2), written as bits."""
    if m not in FIELDS:
        return a * b % m
    result = 0
    while b:
        if b & 1:
            result ^= a
        a, b = a << 1, b >> 1
        if a & m:
            a ^= FIELDS[m]
    return result
