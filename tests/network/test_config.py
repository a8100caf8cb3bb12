"""Settings that make no network are refused."""

import pytest

from slem_app.network import SegmenterConfig


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sequences": 0}, "1 to 8 sequences, got 0"),
        ({"sequences": 9}, "1 to 8 sequences, got 9"),
        ({"blocks": (1, 1)}, "one entry a level"),
        ({"channels": (8,), "blocks": (1,)}, "at least two levels"),
        ({"context_levels": (4,)}, r"context_levels \(4,\) are not levels 0..3"),
        ({"deep_supervision": 4}, "deep_supervision 4"),
        ({"regions": 0}, "must be positive"),
        ({"stem_stride": 0}, "must be positive"),
        ({"prompts": -1}, "prompts not negative"),
        ({"prior": 0.0}, "prior between 0 and 1"),
        ({"differences": [[1, 4]]}, "two different slots out of 0 to 3"),
        ({"differences": [[1, 1]]}, "two different slots"),
    ],
)
def test_impossible_settings_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        SegmenterConfig(**changes)


def test_lists_become_tuples_and_sizes_follow_the_levels():
    config = SegmenterConfig(
        channels=[8, 16], blocks=[1, 1], context_levels=[1], deep_supervision=0, stem_stride=4
    )
    assert config.channels == (8, 16)
    assert config.multiple == 8
    assert hash(config) == hash(
        SegmenterConfig(
            channels=(8, 16), blocks=(1, 1), context_levels=(1,), deep_supervision=0, stem_stride=4
        )
    )
