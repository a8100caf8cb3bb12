"""The training loop: AdamW, warm-up and cosine, moving average, bf16, checkpoints; one process or many by torchrun.

A run killed at any moment continues from its last checkpoint as if nothing had happened: patches are numbered, so the state is the
weights, their average, the optimizer and the step.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from slem_app.errors import BadSetting, BadWeights, SlemError, StorageFailed
from slem_app.finetune.losses import deep_loss
from slem_app.finetune.patches import Patches
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import Segmenter
from slem_app.predict import best_precision
from slem_app.volumes.cache import CaseCache

__all__ = ["TrainingFailed", "train"]

log = logging.getLogger(__name__)

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
)  # what a spoilt file makes torch.load raise
MOST_SKIPPED = 50  # steps in a row without a finite gradient, after which a run has failed


class TrainingFailed(SlemError):
    """The loss is not a number, or no gradient is; the last checkpoint is kept."""

    status = 500


def train(
    network: Segmenter,
    cache: CaseCache,
    ids: Sequence[str],
    settings: FinetuneSettings,
    folder: Path,
    device: str = "cpu",
    workers: int = 0,
    progress: bool = True,
    on_checkpoint: Callable[[int, nn.Module], None] | None = None,
) -> Segmenter:
    """Train `network` and return the moving average of its weights.

    Under torchrun every process calls this; the global batch is split among them and rank 0 writes.

    Args:
        network: fresh or pre-trained, trained in place.
        cache: prepared cases.
        ids: those to train on.
        settings: of the run.
        folder: for checkpoint.pt, settings.json and TensorBoard; a checkpoint found there is continued.
        device: torch device of this process.
        workers: loader processes.
        progress: show a bar with the time left.
        on_checkpoint: called by rank 0 with the step and the averaged network after each checkpoint.

    Raises:
        BadSetting: the folder holds a run with other settings, the batch does not split among the processes, or a patch that the network
            cannot take.
        BadStudy: no case to train on.
        BadWeights: the checkpoint is damaged.
        StorageFailed: the disk refused a checkpoint.
        TrainingFailed: the loss became NaN.
    """
    rank, world = _ranks()
    _check(settings, network, world)
    torch.manual_seed(settings.seed)
    network.to(device, memory_format=torch.channels_last_3d).train()
    average = torch.optim.swa_utils.AveragedModel(network, avg_fn=_averaging(settings.average))
    optimizer = torch.optim.AdamW(_groups(network, settings.weight_decay), lr=settings.rate, betas=(0.9, 0.99))
    patches = Patches(cache, sorted(ids), settings)
    state = _State(folder, settings, sorted(ids))
    step = state.resume(network, average, optimizer, device) if state.exists() else 0
    if rank == 0:
        state.begin()
    loader = _loader(patches, step, rank, world, workers)
    model = DistributedDataParallel(_Deep(network), find_unused_parameters=network.config.prompts > 0) if world > 1 else _Deep(network)
    with _Report(folder, settings.steps, step, rank == 0, progress) as report:
        for images, present, regions in loader:
            rate = _rate(step, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, norm = _step(model, optimizer, images.to(device), present.to(device), regions.to(device), settings)
            step += 1
            report.step(step, loss, norm, rate)
            average.update_parameters(network)
            if rank == 0 and (step % settings.save_every == 0 or step == settings.steps):
                state.save(step, network, average, optimizer)
                if on_checkpoint is not None:
                    on_checkpoint(step, average.module)
    return average.module.eval()


def _check(settings: FinetuneSettings, network: Segmenter, world: int) -> None:
    config = network.config
    if settings.batch % world:
        raise BadSetting(f"batch {settings.batch} does not split evenly among {world} processes")
    if any(n % config.multiple for n in settings.patch) or max(settings.patch) < 2 * config.multiple:
        raise BadSetting(f"patch {settings.patch}: this network takes multiples of {config.multiple} voxels, one of them at least {2 * config.multiple}")
    if len(settings.deep_weights) <= len(network.deep_heads):
        raise BadSetting(f"deep_weights {settings.deep_weights}: this network has {1 + len(network.deep_heads)} heads, each needs a weight")


class _Report:
    """What a run tells while it goes on: the bar and TensorBoard's curves, of the first process; the end of a run that has failed.

    Raises:
        TrainingFailed: from `step`.
    """

    def __init__(self, folder: Path, steps: int, done: int, first: bool, progress: bool) -> None:
        self.bar = tqdm(total=steps, initial=done, desc=folder.name, unit="step", disable=not (first and progress), mininterval=5)
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=done) if first else None
        self.skipped = 0

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.writer is not None:
            self.writer.close()

    def step(self, step: int, loss: float, norm: float, rate: float) -> None:
        self.bar.update()
        if self.writer is not None and step % 10 == 0:
            self.writer.add_scalar("train/loss", loss, step)
            self.writer.add_scalar("train/rate", rate, step)
            self.writer.add_scalar("train/gradient_norm", norm, step)
            self.bar.set_postfix(loss=f"{loss:.3f}")
        self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
        if not math.isfinite(loss) or self.skipped >= MOST_SKIPPED:
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"no gradient of the last {self.skipped} steps was finite"
            raise TrainingFailed(f"{what} at step {step}: the checkpoint before it is kept; lower the rate (now {rate:g}) or look at the cases")


class _Deep(nn.Module):
    """`Segmenter.deep` as a forward, since DistributedDataParallel wraps forward."""

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, present: torch.Tensor) -> list[torch.Tensor]:
        return self.network.deep(images, present)


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, present: torch.Tensor, regions: torch.Tensor, settings: FinetuneSettings
) -> tuple[float, float]:
    """One optimizer step; returns the loss and the gradient's norm."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=best_precision(images.device) == "bfloat16"):
        outputs = model(images, present)
    loss = deep_loss(outputs, regions, settings.deep_weights)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    if torch.isfinite(norm):  # one overflow in a gradient must not end a run
        optimizer.step()
    return float(loss.detach()), float(norm)


def _loader(patches: Patches, step: int, rank: int, world: int, workers: int) -> DataLoader:
    """Batches of this process from `step` on: patches n with n % world == rank."""
    mine = Subset(patches, range(step * patches.settings.batch + rank, len(patches), world))
    return DataLoader(mine, batch_size=patches.settings.batch // world, num_workers=workers, drop_last=True, persistent_workers=False)


def _ranks() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _averaging(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    """Exponential moving average that follows closely at first: min(decay, (1 + n) / (10 + n))."""

    def average(mean: torch.Tensor, now: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        return mean * keep + now * (1 - keep)

    return average


def _groups(network: nn.Module, decay: float) -> list[dict]:
    """No weight decay on norms, biases and substitutes."""
    flat = [p for p in network.parameters() if p.ndim < 2]
    deep = [p for p in network.parameters() if p.ndim >= 2]
    return [{"params": deep, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]


def _rate(step: int, settings: FinetuneSettings) -> float:
    rising = max(1, int(settings.warmup * settings.steps))
    if step < rising:
        return settings.rate * (step + 1) / rising
    done = (step - rising) / max(1, settings.steps - rising)
    return settings.rate * 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))


class _State:
    """The run on disk: checkpoint.pt (written beside its place, then renamed) and settings.json."""

    def __init__(self, folder: Path, settings: FinetuneSettings, ids: Sequence[str]) -> None:
        self.path = folder / "checkpoint.pt"
        self.settings = json.loads(json.dumps({**dataclasses.asdict(settings), "cases": list(ids)}))

    def exists(self) -> bool:
        return self.path.exists()

    def begin(self) -> None:
        """Make the folder ready: the settings beside the weights, no rest of a checkpoint that was cut off."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for rest in self.path.parent.glob(f"{self.path.stem}.*[0-9]"):
                rest.unlink(missing_ok=True)
            (self.path.parent / "settings.json").write_text(json.dumps(self.settings, indent=1))
        except OSError as error:
            raise StorageFailed(f"{self.path.parent} cannot be written: {error.strerror or error}: choose another folder, or free space") from error

    def resume(self, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, device: str) -> int:
        run, new = self.path.parent.name, self.settings
        try:
            saved = torch.load(self.path, map_location=device, weights_only=True)
            there, step = saved["settings"], saved["step"]
        except DAMAGED as error:
            raise BadWeights(f"{self.path} is damaged ({error}): delete it to start the run again, or choose another folder") from error
        if there != new:
            changed = {k: (there.get(k), new.get(k)) for k in sorted({*there, *new}) if there.get(k) != new.get(k)}
            raise BadSetting(f"{run} holds a run with other settings (there, here): {changed}: choose another folder, or the same settings")
        try:
            network.load_state_dict(saved["network"])
            average.load_state_dict(saved["average"])
            optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise BadSetting(f"{run} holds a run of another network than this recipe's: choose another folder, or the same recipe") from error
        log.info("continuing %s at step %d", run, step)
        return step

    def save(self, step: int, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        new = self.path.with_suffix(f".{os.getpid()}")
        state = {"step": step, "network": network.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
        try:
            with new.open("wb") as file:
                torch.save({**state, "settings": self.settings}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            new.unlink(missing_ok=True)
            raise StorageFailed(f"the checkpoint at step {step} could not be written ({error}): free space on the disk; the one before it is kept") from error
