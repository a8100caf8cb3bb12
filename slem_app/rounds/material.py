"""What a round works with: which of the labelled cases it learns, how often, and on which it measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slem_app.errors import BadStudy
from slem_app.rounds.holdout import HoldOut, split
from slem_app.rounds.job import Job
from slem_app.rounds.labelled import Mixture, mix
from slem_app.volumes.cache import fingerprint

__all__ = ["Material", "divided"]

MOST_WITHOUT = 8  # cases that were trained on are measured where none is held out; so many


@dataclass(frozen=True)
class Material:
    """What a round works with."""

    mixture: Mixture
    """Cases to train on."""
    hold_out: HoldOut
    """Which cases are held out."""
    measured: tuple[str, ...]
    """Cases to measure on: those held out, else some that are trained on."""
    seed: int
    """Of all draws: the same when the round is done again after a kill, another after it has come to its end.
    """


def divided(job: Job, sha256: str, cases: Sequence[str]) -> Material:
    """Divide the cases that could be prepared, the same in every process.

    Args:
        job: the round.
        sha256: of the weights from which it starts.
        cases: that are ready.

    Raises:
        BadStudy: none is left to train on.
        BadSetting: the user's choice of the held-out cases cannot be read.
    """
    weight, confirmed = job.confirmed_weight, {one.case for one in job.cases if one.confirmed}
    versions, published = {one.case: one.version for one in job.cases}, job.published
    ready = [case for case in cases if weight > 0 or case not in confirmed]
    if not ready:
        raise BadStudy(
            "all labels are model results that readers confirmed unchanged, and confirmed_weight is 0: "
            "correct some, then train again"
        )
    hold_out = split(ready, job.hold_out_file, job.hold_out_share)
    if not hold_out.train:
        raise BadStudy(hold_out.note)
    refused = published.refused()
    seed = int(fingerprint(sha256, refused[-1].folder.name if refused else "")[:7], 16)
    before = published.learnt(published.number_of(job.served))
    known = [case for case in hold_out.train if before.get(case) == versions[case]]
    mixture = mix(
        hold_out.train,
        known,
        job.new_share,
        job.most_cases,
        seed,
        sorted(confirmed),
        weight or 1.0,
    )
    # those that every epoch is measured on come first: in an order that stays when cases are added
    held = tuple(sorted(hold_out.validate, key=fingerprint))
    return Material(mixture, hold_out, held or (*mixture.new, *mixture.old)[:MOST_WITHOUT], seed)
