"""What clients ask of training, of batches and of the choice of cases: one typed value each.

A request is built once, where it comes in (`serving.http.learning_requests`), and is valid from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slem_app.selection import DEFAULT
from slem_app.store.record import DRAFT

__all__ = ["BatchRequest", "NextCaseRequest", "TrainRequest"]


@dataclass(frozen=True)
class TrainRequest:
    """One request for a learning round."""

    name: str | None = None
    """The round's name, for people; None: as a job has it. So are the other numbers."""
    max_epochs: int | None = None
    """Epochs at most."""
    epoch_steps: int | None = None
    """Optimizer steps of an epoch."""
    early_stop_patience: int | None = None
    """Epochs without a better metric after which it stops."""
    batch: int | None = None
    """Patches of a step on one GPU."""
    archive: bool = False
    """Learn without labels from all studies that the server has, see `slem_app.adapt`."""
    device: str = "cpu"
    """Where it runs, as PyTorch calls it."""
    gpus: tuple[str, ...] = ()
    """Numbers of the GPUs that were chosen; empty: all."""
    multi_gpu: bool = True
    """One process a GPU."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """As the client sent it, to be repeated when it asks what became of it."""


@dataclass(frozen=True)
class BatchRequest:
    """One request for drafts of many cases."""

    images: str = "unlabeled"
    """'unlabeled', 'labeled' or 'all'."""
    ids: tuple[str, ...] = ()
    """Ids of images, where single cases are wanted instead."""
    label_tag: str = DRAFT
    """Under which the drafts are kept."""
    device: str | None = None
    """Where it runs, as PyTorch calls it; None: where the server does."""
    gpus: tuple[str, ...] = ()
    """Numbers of the GPUs that were chosen; empty: all."""
    multi_gpu: bool = True
    """One process a GPU."""
    limit: int = 0
    """Cases at most; 0: all."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """As the client sent it, to be repeated when it asks what became of it."""


@dataclass(frozen=True)
class NextCaseRequest:
    """One request for the next case."""

    strategy: str = DEFAULT
    """Name of the strategy."""
    client_id: str = ""
    """The reader, as the client names them."""
    model: str | None = None
    """For which model the case is to be; None: any."""
    label_tag: str | None = None
    """Cases without a label of this tag count as not labelled; None: 'final'."""
    labels: tuple[str, ...] = ()
    """Only a label that holds one of these counts."""
