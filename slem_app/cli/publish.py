"""`slem publish`: make a model a version of one that a server serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from slem_app.cli.models import published_in
from slem_app.errors import SlemError

if TYPE_CHECKING:
    from slem_app.weights.version import ModelRecord

__all__ = ["Publish"]


@dataclass(frozen=True)
class Publish:
    """Serve a model as the next version: a refused candidate, or a result of `slem finetune`.

    It is not compared with anything: that is your decision. `slem models FOLDER --back` takes it back.
    """

    candidate: Annotated[Path, tyro.conf.Positional]
    """Folder of the model, as `slem models` lists it under refused, or RUN/model of `slem finetune`."""
    store: Path
    """The server's store, or the studies folder whose `.slem` it is."""
    models_dir: Path | None = None
    """As the server's setting: the folder that is searched for version 0 first."""

    def run(self) -> int:
        """Publish it and say so."""
        from slem_app.weights import load_model

        model = load_model(self.candidate)
        [published] = published_in(self.store, model.card.name, self.models_dir)
        record = _record(self.candidate)
        decision = published.publish(
            model.card,
            model.network,
            record.figures,
            record.before,
            detail=model.own_detail,
            editor=model.own_editor,
            parent=record.parent,
            labels=record.labels,
            held_out=record.held_out,
            settings=record.settings,
            round=record.round,
            trusted=record.trusted,
            chosen=f"chosen by a person: {record.reason or model.card.training or self.candidate}",
        )
        print(f"{model.card.name}: version {decision.number} is served from now on")
        return 0


def _record(folder: Path) -> ModelRecord:
    """How a candidate came to be, where that is known."""
    from slem_app.weights.version import ModelRecord, read_record

    try:
        return read_record(folder)
    except SlemError:
        return ModelRecord(created="", parent=0)
