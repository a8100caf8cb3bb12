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
from typing import Any

__all__ = ["StalePoints"]

READERS = 500  # readers and labels remembered


class StalePoints:
    """What each reader sent last, by label."""

    def __init__(self) -> None:
        self.sent: OrderedDict[tuple[str, str], tuple[Hashable, list]] = OrderedDict()
        self.guard = threading.Lock()

    def without(
        self, request: Mapping[str, Any], reader: str, image: Hashable
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The request without leaked points, and the names under which they came.

        Args:
            request: its fields.
            reader: who asks.
            image: what tells the displayed image from all others.
        """
        with self.guard:
            known = {name: self.sent.get((reader, name)) for name in _points(request)}
        leaked = tuple(
            name
            for name, last in known.items()
            if last is not None and last[0] != image and last[1] == request[name]
        )
        return {name: value for name, value in request.items() if name not in leaked}, leaked

    def heard(self, request: Mapping[str, Any], reader: str, image: Hashable) -> None:
        """Remember the points of a request that could be used."""
        with self.guard:
            for name in _points(request):
                self.sent[reader, name] = (image, request[name])
                self.sent.move_to_end((reader, name))
            while len(self.sent) > READERS:
                self.sent.popitem(last=False)


def _points(request: Mapping[str, Any]) -> list[str]:
    """Names under which a request of OHIF's kind holds points."""
    if (
        request.get("client_id") or request.get("restore_label_idx") is not False
    ):  # OHIF never names a reader and always says this
        return []
    return [
        name
        for name, points in request.items()
        if isinstance(points, list) and points and isinstance(points[0], list)
    ]
