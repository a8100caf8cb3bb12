"""Bytes in memory, the least recently used given up first."""

from slem_app.serving.models.byte_cache import ByteCache


def filled(limit: int, *sizes: int) -> ByteCache[bytes]:
    cache: ByteCache[bytes] = ByteCache(limit, len)
    for key, size in enumerate(sizes):
        cache.put(key, "state", bytes(size))
    return cache


def test_gives_back_what_was_made_from_the_same_state() -> None:
    cache = filled(10, 4)
    assert cache.get(0, "state") == bytes(4)
    assert cache.get(0, "changed") is None
    assert cache.get(1, "state") is None


def test_gives_up_the_least_recently_used() -> None:
    cache = filled(10, 4, 4)
    assert cache.get(0, "state")
    cache.put(2, "state", bytes(4))
    assert cache.get(1, "state") is None
    assert cache.get(0, "state")
    assert cache.used == 8


def test_never_holds_more_than_its_limit() -> None:
    cache = filled(10, 4, 11, 3)
    assert cache.get(1, "state") is None
    assert cache.get(0, "state")
    assert cache.used == 7
    cache.put(0, "new", bytes(5))
    assert (cache.used, cache.get(0, "new")) == (8, bytes(5))


def test_without_memory_it_keeps_nothing() -> None:
    assert filled(0, 4).used == 0
