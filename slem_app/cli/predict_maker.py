"""What makes the draft of one case. It knows neither store nor queue, so it may be on another machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from slem_app.grouping import Grouping
from slem_app.predict import Predictor, answer
from slem_app.store.drafts import Draft
from slem_app.store.provenance import provenance
from slem_app.volumes.prepare import Prepared

__all__ = ["Made", "Maker", "Ready"]


@dataclass(frozen=True, eq=False)
class Ready:
    """A case that the network can be shown."""

    grouping: Grouping
    """Its series."""
    sequence: str
    """On whose grid the result lies."""
    prepared: Prepared
    """What the network sees."""
    timings: Mapping[str, float]
    """Seconds of each step."""


@dataclass(frozen=True, eq=False)
class Made:
    """The draft of a case."""

    draft: Draft
    """What is kept."""
    busy: float
    """Seconds in which the network was at work."""


class Maker:
    """Makes drafts with one model.

    Args:
        predictor: the model on its device.
        register: move the sequences of a case onto each other first.
        tag: under which the drafts are kept.
    """

    def __init__(self, predictor: Predictor, register: bool, tag: str) -> None:
        self.predictor, self.register = predictor, register
        self.settings: Mapping[str, Any] = {  # what decides a result beside the model and the images
            "device": predictor.device.type,
            "precision": predictor.precision,
            "register": register,
            "tag": tag,
        }

    def prepare(self, grouping: Grouping) -> Ready:
        """Read and prepare a case.

        Raises:
            SlemError: as `Predictor.prepare_case`.
        """
        sequence = grouping.reference(self.predictor.card.reference_order)
        prepared, timings = self.predictor.prepare_case(grouping, sequence, self.register)
        return Ready(grouping, sequence, prepared, timings)

    def make(self, ready: Ready) -> Made:
        """Show a case to the network; one at a time.

        Raises:
            NoMemory: the GPU's memory is too small for this case.
            NotFound: a file of the case is gone.
        """
        begun = time.monotonic()
        result = self.predictor.predict(ready.prepared)
        busy = time.monotonic() - begun
        result = answer(replace(result, timings={**ready.timings, **result.timings}))
        facts = provenance(ready.grouping, result.used, self.settings, result.volumes_ml())
        return Made(Draft.of(result, ready.grouping, ready.sequence, facts), busy)
