"""Test folds: which cases are held out together. Needs no reader of studies, so it runs where there is only a
cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slem_app.errors import BadStudy

__all__ = ["folds"]


def folds(
    ids: Sequence[str], count: int, strata: Mapping[str, object] | None = None
) -> list[tuple[str, ...]]:
    """Split cases (= patients) into `count` test folds: every case is in exactly one, by its place in the
    sorted list.

    Args:
        ids: the cases.
        count: number of folds.
        strata: case -> something sortable, e.g. how much enhancing tumour it has; the list is sorted by it
            first, so that every fold has its share of each. Default: by name alone.

    Raises:
        BadStudy: fewer cases than folds.
    """
    if len(set(ids)) < count:
        raise BadStudy(f"{len(set(ids))} cases cannot be split into {count} folds")
    dealt = sorted(set(ids), key=(lambda case: (strata[case], case)) if strata else None)
    return [tuple(sorted(dealt[k::count])) for k in range(count)]
