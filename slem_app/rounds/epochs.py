"""What the first process of a round does after every epoch: measure, keep the best, tell, and decide whether
it is enough.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any

from slem_app.errors import StorageFailed
from slem_app.network import Segmenter
from slem_app.rounds.job import Job, RoundFolder
from slem_app.rounds.validate import HoldOutScores
from slem_app.weights import Model, save_model
from slem_app.weights.store import write_file

__all__ = ["Best", "Epochs"]

log = logging.getLogger(__name__)

MOST_MEASURED = 16  # cases on which every epoch is measured; what decides in the end is measured on all


@dataclass(frozen=True)
class Best:
    """Where the epochs of a round stand."""

    history: tuple[float, ...] = ()
    """Mean Dice before the first epoch and after each."""
    epoch: int = 0
    """The best one; 0: none is done."""
    scores: Mapping[str, float] | None = None
    """Measured after it."""

    @property
    def done(self) -> int:
        """Epochs that are done."""
        return max(0, len(self.history) - 1)


class Epochs:
    """The epochs of one round, in its first process.

    Args:
        folder: of the round.
        job: its order.
        parent: the served model, from which training starts.
        work: for the best epoch's model.
        scores: measures a network.
    """

    def __init__(
        self, folder: RoundFolder, job: Job, parent: Model, work: Path, scores: HoldOutScores
    ) -> None:
        self.folder, self.job, self.parent, self.scores = folder, job, parent, scores
        self.model, self.record = work / "best", work / "best.json"
        self.best = Best()
        self.begun, self.first = time(), 0

    def kept(self) -> Best:
        """Where the epochs stand, in any of the round's processes."""
        return Best(**json.loads(self.record.read_text(encoding="utf-8")))

    def begin(self) -> None:
        """Take up what a killed round of the same kind has left. Training begins at once: the served model is
        measured after the first epoch.
        """
        if self.record.is_file() and (self.record.parent / "checkpoint.pt").is_file():
            self.best = self.kept()
            log.info("going on after epoch %d of a round that was cut off", self.best.done)
        else:
            shutil.rmtree(self.record.parent, ignore_errors=True)
        self.begun, self.first = time(), self.best.done
        self._tell(0.0)

    def done(self, step: int, network: Segmenter) -> bool:
        """Called after each epoch with the averaged network; True ends the round early.

        Raises:
            StorageFailed: the disk refused; the epochs before are kept.
        """
        epoch = -(-step // self.job.epoch_steps)
        if not self.best.history:
            self.folder.change(stage="measuring the served model")
            self.best = Best((self.scores(self.parent.network, MOST_MEASURED).get("mean", 0.0),))
        self.folder.change(stage=f"measuring epoch {epoch}")
        found, best = self.scores(network, MOST_MEASURED), self.best
        best = replace(best, history=(*best.history[:epoch], found.get("mean", 0.0)))
        if best.scores is None or best.history[-1] > best.history[best.epoch]:
            save_model(self.model, replace(self.parent.card, file="", sha256=""), network)
            best = replace(best, epoch=epoch, scores=found)
        self._keep(best)
        log.info(
            "epoch %d of %d: mean Dice %.4f (best %.4f)",
            epoch,
            self.job.max_epochs,
            best.history[-1],
            max(best.history),
        )
        self._tell((time() - self.begun) / max(1, epoch - self.first) * (self.job.max_epochs - epoch))
        return 0 <= self.job.early_stop_patience <= epoch - best.epoch and epoch > best.epoch

    def _keep(self, best: Best) -> None:
        try:
            write_file(self.record, json.dumps(vars(best)).encode())
        except OSError as error:
            raise StorageFailed(
                f"{self.record} could not be written: {error.strerror or error}: free space, then train again"
            ) from error
        self.best = best

    def _tell(self, left: float) -> None:
        told: dict[str, Any] = {name: round(value, 4) for name, value in (self.best.scores or {}).items()}
        best = min(1.0, max((0.0, *self.best.history)))
        now = {
            "epoch": self.best.done,
            "best_metric": round(best, 4),
            "history": self.best.history,
            "seconds_left": round(left, 1),
        }
        self.folder.change(stage="training", metrics=told, **now)
