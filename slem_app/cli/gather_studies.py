"""Bringing studies into a cache, with a bar and a list of what is left out: for `slem adapt` and
`slem pretrain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slem_app.errors import BadStudy

if TYPE_CHECKING:
    from slem_app.volumes.cache import CaseCache
    from slem_app.volumes.prepare import Preparation

__all__ = ["gather_studies"]

MOST_TOLD = 10  # studies that were left out, of which the reason is printed


def gather_studies(
    folders: Sequence[Path],
    cache: CaseCache,
    sequences: tuple[str, ...],
    preparation: Preparation,
    least: int,
) -> tuple[str, ...]:
    """Prepare the studies of some folders; the first process prints how many are left out and why.

    Args:
        folders: of studies.
        cache: where they are kept.
        sequences: of the model, in its order.
        preparation: how they are prepared.
        least: number of sequences that a study needs.

    Returns:
        Ids of the studies that can be used.

    Raises:
        BadStudy: there is none.
    """
    from tqdm import tqdm

    from slem_app.pretext.cases import gather
    from slem_app.studies import open_source
    from slem_app.training import first_process

    ready: list[str] = []
    skipped: dict[str, str] = {}
    for folder in folders:
        source = open_source(folder)
        about = f"preparing {source.root.name}"
        with tqdm(total=len(source), desc=about, unit="case", disable=not first_process()) as bar:
            found = gather(source, cache, sequences, preparation, least, ready, lambda _: bar.update())
        ready += found.ready
        skipped |= found.skipped
    if skipped and first_process():
        print(f"left out {len(skipped)} of {len(skipped) + len(ready)} studies")
        for case, reason in list(skipped.items())[:MOST_TOLD]:
            print(f"  {case}: {reason}")
    if not ready:
        raise BadStudy(f"no usable study in {', '.join(map(str, folders))}: {len(skipped)} left out")
    return tuple(ready)
