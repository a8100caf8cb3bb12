"""A run on disk: checkpoint.pt, settings.json and the curves.

A checkpoint is written beside its place and renamed, so a run killed at any moment keeps the one before. Its
settings are compared on resume; a setting that is younger than the checkpoint counts as its default.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile

import torch
from torch import nn

from slem_app.errors import BadSetting, BadWeights, StorageFailed
from slem_app.files import replacing, sweep

__all__ = ["Curve", "State"]

log = logging.getLogger(__name__)

# what a spoilt file makes torch.load raise
DAMAGED = (
    EOFError,
    OSError,
    RuntimeError,
    UnpicklingError,
    BadZipFile,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
)


class State:
    """Weights, their average, optimizer and step of one run.

    Args:
        folder: of the run.
        settings: all that the run depends on, as plain tables.
        defaults: of settings that an older checkpoint may lack.
    """

    def __init__(self, folder: Path, settings: Mapping, defaults: Mapping | None = None) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "checkpoint.pt"
        self.settings = json.loads(json.dumps(settings))
        self.defaults = json.loads(json.dumps(defaults or {}))

    def exists(self) -> bool:
        return self.path.exists()

    def begin(self) -> None:
        """Make the folder ready: the settings beside the weights, no rest of a checkpoint that was cut off.

        Raises:
            StorageFailed: it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder, deep=False)
            (self.folder / "settings.json").write_text(json.dumps(self.settings, indent=1))
        except OSError as error:
            raise StorageFailed(
                f"{self.folder} cannot be written: {error.strerror or error}: choose another folder, or "
                f"free space"
            ) from error

    def resume(
        self, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, device: str
    ) -> int:
        """Load the checkpoint; returns its step.

        Raises:
            BadSetting: it was made with other settings, which the text lists, or for another network.
            BadWeights: the file is damaged.
        """
        run = self.folder.name
        try:
            saved = torch.load(self.path, map_location=device, weights_only=True)
            there, step = _filled(saved["settings"], self.defaults), saved["step"]
        except DAMAGED as error:
            raise BadWeights(
                f"{self.path} is damaged ({error}): delete it to start the run again, or choose another "
                f"folder"
            ) from error
        if there != self.settings:
            changed = dict(sorted(_differences(there, self.settings).items()))
            raise BadSetting(
                f"{run} holds a run with other settings (there, here): {changed}: choose another folder, or "
                "the same settings"
            )
        try:
            network.load_state_dict(saved["network"])
            average.load_state_dict(saved["average"])
            optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise BadSetting(
                f"{run} holds a run of another network than this recipe's: choose another folder, or the "
                f"same recipe"
            ) from error
        log.info("continuing %s at step %d", run, step)
        return step

    def save(
        self, step: int, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Replace the checkpoint.

        Raises:
            StorageFailed: the disk refused; the one before is kept.
        """
        state = {
            "step": step,
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        try:
            with replacing(self.path) as file:
                torch.save({**state, "settings": self.settings}, file)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            raise StorageFailed(
                f"the checkpoint at step {step} could not be written ({error}): free space on the disk; the "
                "one before it is kept"
            ) from error


class Curve:
    """A CSV file of figures by step; a resumed run forgets the rows that its checkpoint does not know."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int = 0) -> None:
        self.path, self.columns = path, columns
        rows = [row for row in self.read(path) if int(row["step"]) <= step] if step and path.exists() else []
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def add(self, **values: float) -> None:
        """Append one row; columns without a value stay empty."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()}
            )

    @staticmethod
    def read(path: Path) -> list[dict[str, str]]:
        """The rows of such a file; a last line cut off by a kill is left out."""
        with path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row.values()]


def _filled(saved: Mapping, defaults: Mapping) -> dict:
    """`saved` with what it lacks taken from `defaults`, nested tables too."""
    both = {**defaults, **saved}
    return {
        k: _filled(v, defaults[k]) if isinstance(v, Mapping) and isinstance(defaults.get(k), Mapping) else v
        for k, v in both.items()
    }


def _differences(old: Mapping, new: Mapping, above: str = "") -> dict[str, tuple[object, object]]:
    """Dotted key -> the values there and here, of what is not equal."""
    found: dict[str, tuple[object, object]] = {}
    for key in {*old, *new}:
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= _differences(a, b, f"{above}{key}.")
        elif a != b:
            found[f"{above}{key}"] = (a, b)
    return found
