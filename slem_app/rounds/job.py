"""What one learning round is to do, and its folder: written by whoever starts it, read by the process that
does it.

Below the folder of all rounds lie `lock`, which the process of the running round holds (`rounds.lock`);
`rounds/ID` with the order `job.json`, `status.json` (always whole) and `log.txt`; `cache` with prepared
cases; `work` with the checkpoint and the best model of the round that runs or was killed.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

from slem_app.errors import BadSetting, NotFound, StorageFailed
from slem_app.weights.published import POLICIES, Published
from slem_app.weights.store import write_file

__all__ = [
    "LIMITS",
    "Job",
    "Labelled",
    "RoundFolder",
    "Status",
    "last_lines",
    "latest_round",
    "rounds",
]

TAIL = 20  # lines of the log that clients are shown
KEPT = 50  # rounds whose folders are kept
LIMITS: Mapping[str, tuple[int, int]] = {
    "max_epochs": (1, 1_000),
    "epoch_steps": (1, 10_000),
    "early_stop_patience": (-1, 1_000),
    "most_cases": (1, 100_000),
    "processes": (1, 64),
}
"""The least and the most that the numbers of a job may be."""
RUNNING, DONE, FAILED, STOPPED = "RUNNING", "DONE", "ERROR", "STOPPED"  # the words of MONAI Label's clients


@dataclass(frozen=True)
class Labelled:
    """A case that a reader has labelled."""

    case: str
    """Case id."""
    label: str
    """Path of the label map, in the model's values."""
    sequence: str
    """The sequence on whose grid the label lies."""
    version: str
    """Which of the case's labels this is; another one means: learn it anew."""
    upload: str = ""
    """Path of the image where a client uploaded it; empty: the case lies in the studies folder."""
    confirmed: bool = False
    """It is a model's result which a reader has saved without a change."""
    series: str = ""
    """The id of the series on whose grid the label lies; empty: not known."""

    @staticmethod
    def name(number: int, by_hand: Mapping[str, str]) -> str:
        """What `version` is, of a final label's number and the choice of series at the time."""
        chosen = ", ".join(f"{name} is {id or 'none'}" for name, id in sorted(by_hand.items()))
        return f"final {number}{f' ({chosen})' if chosen else ''}"


@dataclass(frozen=True)
class Job:
    """One round.

    Raises:
        BadSetting: a value out of range.
    """

    model: str
    """Name of the model that learns."""
    served: str
    """Folder of the weights that are served; the round starts from them."""
    bundled: str
    """Folder of version 0."""
    models: str
    """Folder of the published versions of all models."""
    root: str
    """Folder of all rounds."""
    studies: str
    """The studies folder, or the address of a PACS."""
    cases: tuple[Labelled, ...]
    """What is labelled, sorted by case."""
    archive: bool = False
    """It learns without labels from all studies there (`slem_app.adapt`); the labelled cases only measure."""
    by_hand: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    """Case -> sequence -> id of the series that a person has chosen, see `Study.by_hand`."""
    coding: str = ""
    """Layout's coding where it must be declared."""
    name: str = "train_01"
    """The run's name, for people; it stands in the card."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ... or auto."""
    processes: int = 1
    """Processes, one a GPU."""
    max_epochs: int = 10
    """Epochs at most."""
    epoch_steps: int = 50
    """Optimizer steps of an epoch; after each the hold-out is predicted."""
    early_stop_patience: int = 3
    """Epochs without a better metric after which it stops; negative: never."""
    new_share: float = 0.5
    """Share of the patches that come from labels that no earlier round has learnt; the rest is replay. Only
    where there are both.
    """
    confirmed_weight: float = 0.5
    """How often a label that a reader only confirmed is seen, beside one that they drew or corrected; 0: it
    is
    neither learnt nor measured on.
    """
    most_cases: int = 64
    """Cases a round trains on at most: all new ones first, then a draw of the old ones."""
    hold_out: str = ""
    """The user's `hold_out.yaml`, which need not exist; which cases validate is kept beside it. Empty: beside
    `models`.
    """
    hold_out_share: float = 0.2
    """Share of the labelled cases that validate."""
    publish: str = "better"
    """One of `slem_app.weights.published.POLICIES`."""
    publish_tolerance: float = 0.0
    """How much worse than the served model a new one may be on the hold-out, in mean Dice."""
    cache_gb: float = 20.0
    """Disk space of prepared cases; those that this round does not need go first."""
    pacs_cache_mb: int = 20_000
    """Disk space of the images of a PACS, which the server shares, MiB."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Changes of the training's settings (`FinetuneSettings`, of an archive `AdaptSettings`)."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "cases", tuple(one if isinstance(one, Labelled) else Labelled(**one) for one in self.cases)
        )
        for name, (least, most) in LIMITS.items():
            if not least <= getattr(self, name) <= most:
                raise BadSetting(
                    f"{name} must be at least {least} and at most {most}, got {getattr(self, name)}"
                )
        if not (0 <= self.new_share <= 1 and 0 <= self.confirmed_weight <= 1 and self.cache_gb > 0):
            raise BadSetting(
                f"new_share and confirmed_weight must lie between 0 and 1 and cache_gb above 0, got "
                f"{self.new_share}, {self.confirmed_weight} and {self.cache_gb}"
            )
        if (
            self.publish not in POLICIES
            or not 0 <= self.hold_out_share <= 1
            or not 0 <= self.publish_tolerance <= 1
        ):
            raise BadSetting(
                f"publish must be one of {', '.join(POLICIES)}, hold_out_share and publish_tolerance lie "
                f"between 0 and 1, got {self.publish!r}, {self.hold_out_share} and {self.publish_tolerance}"
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", self.name):
            raise BadSetting(f"name {self.name!r} cannot be used: use at most 64 letters, digits, _ . and -")

    @property
    def published(self) -> Published:
        """All versions of the model."""
        return Published(Path(self.models), self.model, Path(self.bundled))

    @property
    def hold_out_file(self) -> Path:
        """Where the user may say which cases validate."""
        return Path(self.hold_out) if self.hold_out else Path(self.models).parent / "hold_out.yaml"


@dataclass(frozen=True)
class Status:
    """Where a round stands."""

    status: str = RUNNING
    """RUNNING, DONE, ERROR or STOPPED."""
    stage: str = "starting"
    """What it is doing, for people."""
    epoch: int = 0
    """Epochs done."""
    total_epochs: int = 1
    """Epochs at most."""
    best_metric: float = 0.0
    """Best mean Dice on the hold-out so far, that of the served model included; 0..1."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Dice of each region on the hold-out at the best epoch."""
    trusted: bool = False
    """Whether the hold-out is large enough for these to mean something."""
    history: tuple[float, ...] = ()
    """Mean Dice before the first epoch and after each."""
    started: float = 0.0
    """Seconds since 1970."""
    ended: float = 0.0
    """The same; 0: it has not."""
    seconds_left: float = 0.0
    """About how long it will take still; 0: unknown."""
    reason: str = ""
    """Why it failed, or what came out of it."""
    published: int = 0
    """The version that its model has become; 0: none."""
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Case -> why it was left out."""
    notes: tuple[str, ...] = ()
    """What a person should know of the figures."""


class RoundFolder:
    """The folder of one round."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.id, self.log = self.path.name, self.path / "log.txt"
        self.reserve = self.path / "reserve"

    @classmethod
    def make(cls, job: Job, request: Mapping[str, object]) -> RoundFolder:
        """A new folder with the order in it.

        Raises:
            StorageFailed: the disk refused.
        """
        # names sort by time
        folder = cls(Path(job.root) / "rounds" / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{uuid.uuid4().hex[:4]}")
        try:
            folder.path.mkdir(parents=True)
            write_file(
                folder.path / "job.json",
                json.dumps({"job": dataclasses.asdict(job), "request": dict(request)}, indent=1).encode(),
            )
            # given back where the disk is full, so that the reason can still be told
            folder.reserve.write_bytes(bytes(64 * 1024))
        except OSError as error:
            raise StorageFailed(
                f"{folder.path} cannot be written: {error.strerror or error}: free space, then train again"
            ) from error
        folder.write(Status(started=time(), total_epochs=job.max_epochs))
        for old in rounds(Path(job.root))[:-KEPT]:
            shutil.rmtree(old.path, ignore_errors=True)
        return folder

    def job(self) -> Job:
        """The order.

        Raises:
            NotFound: there is none, or it is damaged.
        """
        return Job(**self._order()["job"])

    def request(self) -> dict[str, object]:
        """The request that it came from."""
        return self._order()["request"]

    def status(self) -> Status:
        """Where it stands, as it was last written."""
        try:
            return Status(**json.loads((self.path / "status.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise NotFound(f"the status of round {self.id} cannot be read ({error})") from error

    def write(self, status: Status) -> None:
        """Replace the status.

        Raises:
            StorageFailed: the disk refused, even after the reserve was given back.
        """
        data = json.dumps(dataclasses.asdict(status), indent=1).encode()
        try:
            try:
                write_file(self.path / "status.json", data)
            except OSError:
                self.reserve.unlink(missing_ok=True)
                write_file(self.path / "status.json", data)
        except OSError as error:
            raise StorageFailed(
                f"the status of round {self.id} could not be written: {error.strerror or error}"
            ) from error

    def change(self, **changes: Any) -> Status:
        """Write the status with some fields replaced; returns it."""
        status = dataclasses.replace(self.status(), **changes)
        self.write(status)
        return status

    def tail(self, lines: int = TAIL) -> list[str]:
        """The last lines of the log; a bar that was redrawn counts as its last state."""
        return last_lines(self.log, lines)

    def _order(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / "job.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NotFound(f"the order of round {self.id} cannot be read ({error})") from error


def last_lines(log: Path, lines: int = TAIL) -> list[str]:
    """The last lines of a log; a bar that was redrawn counts as its last state."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        text = file.read().decode("utf-8", errors="replace")
    found = (line.rsplit("\r", 1)[-1].strip() for line in text.splitlines())
    return [line for line in found if line][-lines:]


def rounds(root: Path) -> list[RoundFolder]:
    """All rounds that are known, oldest first."""
    there = Path(root) / "rounds"
    return (
        [RoundFolder(path) for path in sorted(there.iterdir()) if (path / "status.json").is_file()]
        if there.is_dir()
        else []
    )


def latest_round(root: Path) -> RoundFolder | None:
    """The newest round, or None."""
    return next(iter(rounds(root)[-1:]), None)
