"""Points that OHIF sends by mistake.

Once a reader has edited its options, OHIF sends one and the same object of parameters for ever, so the clicks
of labels that were clicked on another image come along, as indices of that other image. What gives them away:
the very list of points that this reader's last request for another image held, under the same label, on an
image where it was never placed. They are left out and the reply says so. Only requests of OHIF's kind are
looked at. On one image, points that were cleared cannot be told from points that are still there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping

__all__ = ["StalePoints"]

READERS = 500  # readers and labels remembered


class StalePoints:
    """What each reader sent last, by label."""

    def __init__(self) -> None:
        self.sent: OrderedDict[tuple[str, str], tuple[Hashable, object]] = OrderedDict()
        self.guard = threading.Lock()

    def without(
        self, points: Mapping[str, object], reader: str, image: Hashable
    ) -> tuple[dict[str, object], tuple[str, ...]]:
        """The points of a request of OHIF without stale ones, and the names under which those came.

        Args:
            points: by label name.
            reader: who asks.
            image: what tells the displayed image from all others.
        """
        with self.guard:
            known = {name: self.sent.get((reader, name)) for name in _listed(points)}
        stale = tuple(
            name
            for name, last in known.items()
            if last is not None and last[0] != image and last[1] == points[name]
        )
        return {name: value for name, value in points.items() if name not in stale}, stale

    def heard(self, points: Mapping[str, object], reader: str, image: Hashable) -> None:
        """Remember points that could be used."""
        with self.guard:
            for name in _listed(points):
                self.sent[reader, name] = (image, points[name])
                self.sent.move_to_end((reader, name))
            while len(self.sent) > READERS:
                self.sent.popitem(last=False)


def _listed(points: Mapping[str, object]) -> list[str]:
    """Names under which there are any."""
    return [
        name
        for name, listed in points.items()
        if isinstance(listed, list) and listed and isinstance(listed[0], list)
    ]
