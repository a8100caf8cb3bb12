"""Which case comes next: MONAI Label's strategies over `slem_app.selection`, with leases, so that two readers
are not offered the same.

A request is answered at once with what is known by then (`scores` measures in the background). A case that
cannot be shown is passed over, with a line in the log; one with a final label is never offered.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slem_app.errors import NotFound, SlemError
from slem_app.selection import STRATEGIES, CaseChoice, Pool, choices
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.labels.datastore import FINAL, CaseDatastore
from slem_app.serving.learning.case_scores import Scores
from slem_app.serving.learning.given_out import GivenOut
from slem_app.serving.learning.leases import Leases
from slem_app.serving.learning.request_types import NextCaseRequest

__all__ = ["ANY", "Chooser", "NextCase"]

logger = logging.getLogger(__name__)

ANY = "any"


@dataclass(frozen=True)
class NextCase:
    """A case that was chosen for a reader; its fields are what clients are told."""

    id: str
    """Case id."""
    reason: str
    """Why this one."""
    score: float | None
    """Of the strategy; None: it measures none."""
    details: Mapping[str, object]
    """What the score is made of."""
    strategy_notes: tuple[str, ...]
    """What a reader should know of the choice."""
    leased_until: int
    """When others may be offered it, seconds since 1970."""
    models: tuple[str, ...]
    """Names of the models that it is for, the best first."""


class Chooser:
    """Chooses cases for all readers.

    Args:
        scores: what is known of the cases.
        leases: who has which.
        seed: of the draws.
        models: names of those that readers may choose cases for.
    """

    def __init__(
        self, scores: Scores, leases: Leases, seed: int | None = None, models: Sequence[str] = ()
    ) -> None:
        self.scores, self.leases, self.models = scores, leases, tuple(models)
        self.random = np.random.default_rng(seed)
        self.given = GivenOut()

    def strategies(self) -> Mapping[str, str]:
        """What each strategy does, by its name, the default first."""
        return STRATEGIES

    def options(self) -> tuple[str, ...]:
        """What a client may choose the case for, where there are several models: any of them, or one."""
        return (ANY, *self.models) if len(self.models) > 1 else ()

    def next(self, request: NextCaseRequest, datastore: CaseDatastore) -> NextCase | None:
        """The next case for the reader who asks, which is leased to that reader; None when there is none.

        Raises:
            NotFound: no such model.
        """
        reader, model, strategy = reader_of(request.client_id), request.model, request.strategy
        if model and model not in datastore.labels:
            raise NotFound(f"no model {model!r}; this server has {', '.join(datastore.labels)}")
        with self.leases.guard:
            labelled = datastore.get_labeled_images(FINAL)
            done = set(labelled)
            left = [
                case
                for case in datastore.get_unlabeled_images(request.label_tag, request.labels)
                if case not in done
            ]
            for choice in self._choices(strategy, reader, left, labelled, datastore, model):
                try:
                    models = datastore.models_for(choice.case)
                    if not models or (model and model not in models):
                        continue
                    datastore.get_image_uri(choice.case)
                except SlemError as error:
                    logger.warning("case %s is passed over: %s", choice.case, error)
                    continue
                lease = self.leases.take(choice.case, reader)
                return NextCase(
                    choice.case,
                    choice.reason,
                    choice.score,
                    dict(choice.details),
                    tuple(choice.notes),
                    int(lease.until),
                    tuple(models),
                )
        return None

    def _choices(
        self,
        strategy: str,
        reader: str,
        left: Sequence[str],
        labelled: Sequence[str],
        datastore: CaseDatastore,
        model: str | None,
    ) -> Iterator[CaseChoice]:
        """Cases that nobody has in hand, then those that this reader has, the longest held first.

        What two models say is not compared: one of them is drawn, in proportion to its cases, and the other's
        come after.
        """
        held = self.leases.held()
        holders = {case: held.get(case) for case in left}
        own = {} if strategy == "first" else dict.fromkeys(c for c in self.leases.of(reader) if c in holders)
        # dictionaries, not tuples: they are asked once for each of 10,000 cases
        free = {
            case: None for case, holder in holders.items() if holder in (None, reader) and case not in own
        }
        measured = self.scores.models(tuple(free))
        count = Counter(measured.values())
        if model is None and len(count) > 1 and strategy not in ("first", "random"):
            names = sorted(count)
            model = names[
                self.random.choice(len(names), p=np.array([count[n] for n in names]) / len(measured))
            ]
        later = [case for case in free if model and measured.get(case, model) != model]
        if model and strategy not in ("first", "random"):
            for case in later:
                del free[case]
        measures, notes = self.scores.of((*left, *labelled), model)
        now = time.time()
        taken = (*labelled, *(case for case in left if case not in free))
        pool = Pool(
            tuple(free),
            measures,
            taken,
            self.scores.labelled_ml(),
            {case: now - given for case, given in self.given.times(datastore).items() if case in free},
        )
        for choice in choices(strategy, pool, self.random):
            yield CaseChoice(
                choice.case,
                choice.reason,
                choice.score,
                choice.details,
                (*notes, *choice.notes) if choice.score is not None else choice.notes,
            )
        yield from (
            CaseChoice(case, f"a case of another model; all of {model} are taken")
            for case in later
            if case not in free
        )
        yield from (CaseChoice(case, "you have this one in hand; no other is free") for case in own)

    def active(self, case: str, reader: str) -> None:
        """A reader works on a case: the lease is renewed."""
        self.leases.renew(case, reader)

    def saved(self, case: str, datastore: CaseDatastore) -> None:
        """A label of the case was saved: once it is final, nobody has the case in hand any more."""
        if FINAL in datastore.get_labels_by_image_id(case):
            self.leases.release(case)
            self.scores.wake()
