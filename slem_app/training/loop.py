"""The loop that pretext and fine-tuning share: AdamW, warm-up and cosine, moving average, checkpoints; one
process or many by torchrun.

A run killed at any moment continues from its last checkpoint as if nothing had happened: samples are
numbered, so the state is the weights, their average, the optimizer and the step. Step s of W processes with a
global batch of B uses samples s B to s B + B - 1 whatever W is; a loss that is a mean over samples therefore
gives the same curve on any number of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from slem_app.errors import BadSetting, SlemError
from slem_app.network import channels_last
from slem_app.training.ranks import first_says, mean_of_all, ranks
from slem_app.training.schedule import averaging, parameter_groups, rate_at
from slem_app.training.state import Curve, State

__all__ = ["Numbered", "Outcome", "Plan", "TrainingFailed", "fit"]

EVERY = 10  # steps between points of the curve; short runs have more
MOST_SKIPPED = 50  # steps in a row without a finite gradient, after which a run has failed


class TrainingFailed(SlemError):
    """The loss is not a number, or no gradient is; the last checkpoint is kept."""

    status = 500


class Numbered(Protocol):
    """A data set in which sample `n` is always the same."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Any: ...

    def case(self, number: int) -> str:
        """Name of the case that sample `number` is of."""


class Plan(Protocol):
    """What the loop reads from a run's settings."""

    @property
    def steps(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def rate(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...

    @property
    def warmup(self) -> float: ...

    @property
    def average(self) -> float: ...

    @property
    def clip(self) -> float: ...

    @property
    def seed(self) -> int: ...

    @property
    def save_every(self) -> int: ...


@dataclass(frozen=True)
class Outcome:
    """A run that reached its last step, and what this process's part of it cost."""

    network: nn.Module
    """The moving average of the weights, in evaluation mode."""
    samples: int
    """Samples of all processes since the start or the resume."""
    seconds: float
    """Wall time of those."""
    waited: float
    """Seconds of it in which this process waited for data."""

    def throughput(self) -> str:
        """'12.3 volumes/s, 4 % of the time waiting for data'."""
        if not self.samples:
            return "nothing left to do"
        return (
            f"{self.samples / self.seconds:.2f} volumes/s, {100 * self.waited / self.seconds:.0f} % of "
            f"the time waiting for data"
        )


def fit(
    network: nn.Module,
    losses: nn.Module,
    samples: Numbered,
    plan: Plan,
    state: State,
    device: str = "cpu",
    workers: int = 0,
    progress: bool = True,
    factor: Callable[[str], float] | None = None,
    on_gradients: Callable[[int], None] | None = None,
    on_checkpoint: Callable[[int, nn.Module], bool | None] | None = None,
    unused: bool = False,
) -> Outcome:
    """Train `network` in place to the plan's last step, from the state's checkpoint if there is one.

    Under torchrun every process calls this; the global batch is split among them and rank 0 writes.

    Args:
        network: what is trained, averaged and saved.
        losses: holds `network`; its forward takes one batch and returns (n,) losses, one a sample, or (1,)
            for the batch.
        samples: data by number, `steps * batch` of them.
        plan: steps, batch, rates.
        state: checkpoint and folder.
        device: torch device of this process.
        workers: loader processes.
        progress: show a bar with the time left.
        factor: factor of the learning rate by a parameter's name.
        on_gradients: called with the step after the gradients are there, before they are clipped and used.
        on_checkpoint: called by rank 0 with the step and the averaged network after each checkpoint; where it
            returns True all processes stop.
        unused: weights may take no part in a step; several processes must know.

    Raises:
        BadSetting: the folder holds a run with other settings, or the batch does not split among the
            processes.
        BadWeights: the checkpoint is damaged.
        TrainingFailed: the loss became NaN, in which case the cases are named, or no gradient is finite any
            more.
        StorageFailed: a checkpoint could not be written.
    """
    rank, world = ranks()
    if plan.batch % world:
        raise BadSetting(f"batch {plan.batch} does not split evenly among {world} processes")
    torch.manual_seed(plan.seed)
    channels_last(losses, device).train()
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=averaging(plan.average))
    optimizer = torch.optim.AdamW(
        parameter_groups(network, plan.weight_decay, factor), lr=plan.rate, betas=(0.9, 0.99)
    )
    step = first = state.resume(network, average, optimizer, device) if state.exists() else 0
    if rank == 0:
        state.begin()
    model = DistributedDataParallel(losses, find_unused_parameters=unused) if world > 1 else losses
    begun, waited, skipped = time.perf_counter(), 0.0, 0
    with _ProgressLog(state, step, plan, progress, rank == 0) as pen:
        for batch, seconds in _timed(_loader(samples, plan, step, rank, world, workers, device)):
            waited += seconds
            rate = _set_rate(optimizer, step, plan)
            each = model(_to(batch, device))
            loss = float(mean_of_all(each.mean()))
            if not math.isfinite(loss):
                raise TrainingFailed(
                    _failure(
                        f"the loss is {loss}", step, rate, _guilty(each, step, samples, plan, rank, world)
                    )
                )
            norm = _descend(model, optimizer, each, plan.clip, on_gradients, step)
            skipped = 0 if math.isfinite(norm) else skipped + 1
            if skipped >= MOST_SKIPPED:
                raise TrainingFailed(
                    _failure(f"no gradient of the last {skipped} steps was finite", step, rate, "")
                )
            average.update_parameters(network)
            step += 1
            pen.note(step, loss, rate, norm)
            if step % plan.save_every and step != plan.steps:
                continue
            enough = False
            if rank == 0:
                state.save(step, network, average, optimizer)
                enough = bool(on_checkpoint(step, average.module)) if on_checkpoint is not None else False
            if first_says(enough):
                break
    return Outcome(average.module.eval(), (step - first) * plan.batch, time.perf_counter() - begun, waited)


def _descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    each: torch.Tensor,
    clip: float,
    on_gradients: Callable[[int], None] | None,
    step: int,
) -> float:
    """One step against the gradient of the mean loss; returns the gradient's norm."""
    optimizer.zero_grad(set_to_none=True)
    each.mean().backward()
    if on_gradients is not None:
        on_gradients(step)
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    if torch.isfinite(norm):  # one overflow in a gradient must not end a run
        optimizer.step()
    return float(norm)


def _set_rate(optimizer: torch.optim.Optimizer, step: int, plan: Plan) -> float:
    rate = rate_at(step, plan.steps, plan.rate, plan.warmup)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    return rate


def _loader(
    samples: Numbered, plan: Plan, step: int, rank: int, world: int, workers: int, device: str
) -> DataLoader:
    """Batches of this process from `step` on: samples n with n % world == rank."""
    mine: Subset[Any] = Subset(
        cast(Dataset[Any], samples), range(step * plan.batch + rank, plan.steps * plan.batch, world)
    )
    return DataLoader(
        mine,
        batch_size=plan.batch // world,
        num_workers=workers,
        drop_last=True,
        pin_memory=device.startswith("cuda"),
    )


def _timed(loader: DataLoader) -> Iterator[tuple[Any, float]]:
    """Batches, each with the seconds that were waited for it."""
    batches = iter(loader)
    while True:
        start = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch, time.perf_counter() - start


def _to(batch: Any, device: str) -> Any:
    """A batch of tensors, nested in tuples and mappings, on `device`."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_to(value, device) for value in batch))
    return [_to(value, device) for value in batch]


def _guilty(each: torch.Tensor, step: int, samples: Numbered, plan: Plan, rank: int, world: int) -> str:
    """Names of the cases, of all processes, whose loss is not finite."""
    numbers = range(step * plan.batch + rank, (step + 1) * plan.batch, world)
    bad = (~torch.isfinite(each.detach())).tolist()
    guilty = [samples.case(n) for i, n in enumerate(numbers) if bad[i if len(bad) == len(numbers) else 0]]
    if world > 1:
        gathered: list[Any] = [None] * world
        distributed.all_gather_object(gathered, guilty)
        guilty = [case for several in gathered for case in several]
    return ", ".join(dict.fromkeys(guilty))


def _failure(what: str, step: int, rate: float, cases: str) -> str:
    look = f"case {cases}" if cases else "the cases"
    return (
        f"{what} at step {step + 1}: the checkpoint before it is kept; lower the rate (now {rate:g}) "
        f"or look at {look}"
    )


class _ProgressLog:
    """What the first process writes while it trains: losses.csv, TensorBoard, the bar."""

    def __init__(self, state: State, step: int, plan: Plan, progress: bool, first: bool) -> None:
        self.last, self.every, self.first = plan.steps, max(1, min(EVERY, plan.steps // 50)), first
        if first:
            self.curve = Curve(state.folder / "losses.csv", ("step", "loss", "rate", "gradient_norm"), step)
            self.writer = SummaryWriter(state.folder / "tensorboard", purge_step=step)
            self.bar = tqdm(
                total=plan.steps,
                initial=step,
                desc=state.folder.name,
                unit="step",
                disable=not progress,
                mininterval=5,
            )

    def __enter__(self) -> _ProgressLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self.first:
            self.bar.close()
            self.writer.close()

    def note(self, step: int, loss: float, rate: float, norm: float) -> None:
        if not self.first:
            return
        self.bar.update()
        if step % self.every and step != self.last:
            return
        self.curve.add(step=step, loss=loss, rate=rate, gradient_norm=norm)
        for name, value in (("loss", loss), ("rate", rate), ("gradient_norm", norm)):
            self.writer.add_scalar(f"train/{name}", value, step)
        self.bar.set_postfix(loss=f"{loss:.3f}")
