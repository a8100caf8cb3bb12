"""Which case comes next: the plain strategies. A case that cannot be served is passed over, with a line in the log."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable

from monailabel.interfaces.tasks.strategy import Strategy

from slem_app.errors import SlemError
from slem_app.serving.datastore import CaseDatastore

__all__ = ["First", "Random"]

logger = logging.getLogger(__name__)


class First(Strategy):
    """The first case, by name, that has no final label."""

    def __init__(self) -> None:
        super().__init__("First case without a final label, in the order of names")

    def __call__(self, request: dict, datastore: CaseDatastore) -> dict | None:
        return _first_usable(sorted(_unlabeled(request, datastore)), datastore)


class Random(Strategy):
    """A random case without a final label; one that was given out lately is less likely."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__("Random case without a final label")
        self.random = random.Random(seed)

    def __call__(self, request: dict, datastore: CaseDatastore) -> dict | None:
        now, name = time.time(), request.get("strategy", "random")
        served = {case: _served(datastore, case, name) for case in _unlabeled(request, datastore)}
        # weighted shuffle without replacement (Efraimidis and Spirakis 2006): the smallest exponential variate first
        keys = {case: self.random.expovariate(1.0) / max(1.0, now - then) for case, then in served.items()}
        return _first_usable(sorted(keys, key=keys.get), datastore)


def _unlabeled(request: dict, datastore: CaseDatastore) -> list[str]:
    return datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))


def _served(datastore: CaseDatastore, case: str, strategy: str) -> float:
    """When `strategy` last gave out the case, seconds since 1970; 0 if never."""
    return float(datastore.image_notes(case).get("strategy", {}).get(strategy, {}).get("ts", 0))


def _first_usable(cases: Iterable[str], datastore: CaseDatastore) -> dict | None:
    for case in cases:
        try:
            datastore.get_image_uri(case)
        except SlemError as error:
            logger.warning("case %s is passed over: %s", case, error)
        else:
            return {"id": case}
    return None
