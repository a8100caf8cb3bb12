"""Label sets: how many classes, how far apart, and the codes that the notes' table was worked out for."""

from itertools import product

import numpy as np
import pytest

from slem_app.errors import BadSetting
from slem_app.pretext.labelsets import distance, draw_word, word_count, words

FOUR = (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("kind", "classes", "least"),
    [("permutations", 24, 2), ("all", 256, 1), ("even", 12, 3), ("mds", 16, 3)],
)
def test_four_sequences_in_four_blocks(kind: str, classes: int, least: int) -> None:
    table = words(kind, 4, FOUR)
    assert table.shape == (classes, 4)
    assert word_count(kind, 4, 4) == classes
    assert len({tuple(word) for word in table}) == classes
    assert distance(table) == least


@pytest.mark.parametrize(
    ("sequences", "blocks"), [(2, 4), (3, 4), (3, 8), (4, 4), (4, 2), (5, 4), (4, 8), (2, 2)]
)
def test_permutations_use_sequences_as_evenly_as_blocks_allow(sequences: int, blocks: int) -> None:
    table = words("permutations", blocks, tuple(range(sequences)))
    wanted = min(sequences, blocks)
    assert (
        len(table)
        == word_count("permutations", blocks, sequences)
        == sum(len(set(w)) == wanted for w in product(range(sequences), repeat=blocks))
    )
    assert all(len(set(word)) == wanted for word in table.tolist())


@pytest.mark.parametrize("sequences", [2, 3, 4, 5, 7, 8])
def test_mds_words_differ_in_all_blocks_but_one(sequences: int) -> None:
    blocks = min(4, sequences)
    table = words("mds", blocks, tuple(range(sequences)))
    assert len(table) == sequences**2
    assert distance(table) == blocks - 1


def test_one_unreadable_block_never_hides_a_permutation_but_hides_three_of_four_combinations() -> None:
    """A block of which nothing is known is decoded from the others: the notes' ceilings of 100 % and 25 %."""
    for kind, ceiling in (("permutations", 1.0), ("even", 1.0), ("all", 0.25)):
        table = words(kind, 4, FOUR)
        known = np.delete(table, 2, axis=1)
        assert len({tuple(word) for word in known}) / len(table) == ceiling


def test_words_of_an_incomplete_case_name_only_what_is_there(rng: np.random.Generator) -> None:
    table = words("permutations", 4, (0, 3))
    assert set(table.ravel()) == {0, 3}
    assert len(table) == 2**4 - 2
    assert set(draw_word("all", 4, (1, 2), rng)) <= {1, 2}


def test_all_combinations_are_drawn_without_listing_them(rng: np.random.Generator) -> None:
    assert draw_word("all", 27, FOUR, rng).shape == (27,)
    assert word_count("all", 27, 4) == 4**27


def test_refuses_what_does_not_exist() -> None:
    with pytest.raises(BadSetting, match="unknown label set 'odd': choose permutations, all, even, mds"):
        words("odd", 4, FOUR)
    with pytest.raises(
        BadSetting,
        match="even permutations need as many blocks as sequences, at least 3: got 8 blocks and 4 sequences",
    ):
        words("even", 8, FOUR)
    with pytest.raises(BadSetting, match="the MDS code needs 2, 3, 4, 5, 7 or 8 sequences"):
        words("mds", 4, tuple(range(6)))
    with pytest.raises(BadSetting, match="classes, more than 65536: use fewer blocks, or all"):
        words("permutations", 12, FOUR)
