"""A head that comes again: elsewhere in the scanner, with other tumours, noise and receive field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from slem_app.phantom.head import Head, draw

__all__ = ["at_next_visit"]


def at_next_visit(
    head: Head,
    seed: int,
    move: np.ndarray,
    tumours: Sequence[tuple[np.ndarray, tuple[float, float, float]]],
) -> Head:
    """The same head as another visit shows it.

    Args:
        head: as it was drawn.
        seed: of the noise, the scanner's units and the receive field at that visit.
        move: (4, 4) RAS by which the head lies elsewhere in the world.
        tumours: middle, in the head's own mm, and radii of each.
    """
    fresh, (first, *others) = draw(seed), tumours
    return replace(
        head,
        seed=seed,
        pose=head.pose @ np.linalg.inv(move),
        centre=first[0],
        radii=first[1],
        others=tuple(others),
        gain=fresh.gain,
        bias=fresh.bias,
    )
