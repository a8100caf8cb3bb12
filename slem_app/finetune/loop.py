"""The training loop: AdamW, warm-up and cosine, moving average, bf16, checkpoints; one process or many by torchrun.

A run killed at any moment continues from its last checkpoint as if nothing had happened: patches are numbered, so the state is the
weights, their average, the optimizer and the step.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from slem_app.errors import BadSetting, SlemError, StorageFailed
from slem_app.finetune.losses import deep_loss
from slem_app.finetune.patches import Patches
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import Segmenter
from slem_app.volumes.cache import CaseCache

__all__ = ["TrainingFailed", "train"]

log = logging.getLogger(__name__)


class TrainingFailed(SlemError):
    """The loss is not a number; the last checkpoint is kept."""

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
        BadSetting: the folder holds a run with other settings, or the batch does not split among the processes.
        TrainingFailed: the loss became NaN.
    """
    rank, world = _ranks()
    if settings.batch % world:
        raise BadSetting(f"batch {settings.batch} does not split evenly among {world} processes")
    torch.manual_seed(settings.seed)
    network.to(device, memory_format=torch.channels_last_3d).train()
    average = torch.optim.swa_utils.AveragedModel(network, avg_fn=_averaging(settings.average))
    optimizer = torch.optim.AdamW(_groups(network, settings.weight_decay), lr=settings.rate, betas=(0.9, 0.99))
    state = _State(folder, settings, sorted(ids))
    step = state.resume(network, average, optimizer, device) if state.exists() else 0
    loader = _loader(Patches(cache, sorted(ids), settings), step, rank, world, workers)
    model = DistributedDataParallel(_Deep(network)) if world > 1 else _Deep(network)
    writer = SummaryWriter(folder / "tensorboard", purge_step=step) if rank == 0 else None
    bar = tqdm(total=settings.steps, initial=step, desc=folder.name, unit="step", disable=not progress or rank > 0, mininterval=5)
    for images, present, regions in loader:
        rate = _rate(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, norm = _step(model, optimizer, images.to(device), present.to(device), regions.to(device), settings)
        average.update_parameters(network)
        step += 1
        bar.update()
        if not torch.isfinite(torch.tensor(loss)):
            raise TrainingFailed(
                f"the loss is {loss} at step {step}: the checkpoint before it is kept; lower the rate (now {settings.rate:g}) or look at the cases"
            )
        if writer is not None and step % 10 == 0:
            writer.add_scalar("train/loss", loss, step)
            writer.add_scalar("train/rate", rate, step)
            writer.add_scalar("train/gradient_norm", norm, step)
            bar.set_postfix(loss=f"{loss:.3f}")
        if rank == 0 and (step % settings.save_every == 0 or step == settings.steps):
            state.save(step, network, average, optimizer)
            if on_checkpoint is not None:
                on_checkpoint(step, average.module)
    bar.close()
    if writer is not None:
        writer.close()
    return average.module.eval()


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
    with torch.autocast(images.device.type, torch.bfloat16):
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
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "checkpoint.pt"
        self.settings = {**dataclasses.asdict(settings), "cases": list(ids)}
        (folder / "settings.json").write_text(json.dumps(self.settings, indent=1))

    def exists(self) -> bool:
        return self.path.exists()

    def resume(self, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, device: str) -> int:
        saved = torch.load(self.path, map_location=device, weights_only=True)
        if saved["settings"] != json.loads(json.dumps(self.settings)):
            new = json.loads(json.dumps(self.settings))
            changed = {k: (saved["settings"].get(k), new.get(k)) for k in {*saved["settings"], *new} if saved["settings"].get(k) != new.get(k)}
            raise BadSetting(f"{self.path.parent.name} holds a run with other settings (there, here): {changed}: choose another folder, or the same settings")
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        log.info("continuing %s at step %d", self.path.parent.name, saved["step"])
        return saved["step"]

    def save(self, step: int, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        new = self.path.with_suffix(f".{os.getpid()}")
        state = {"step": step, "network": network.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
        try:
            torch.save({**state, "settings": json.loads(json.dumps(self.settings))}, new)
            os.replace(new, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            new.unlink(missing_ok=True)
            raise StorageFailed(f"the checkpoint at step {step} could not be written ({error}): free space on the disk; the one before it is kept") from error
