"""The average of a run's late checkpoints (model soup, Wortsman et al. 2022; SWA, Izmailov et al. 2018): each
checkpoint of the last share of the steps leaves its averaged weights in `soup/`, so a resumed run has them
all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from slem_app.errors import StorageFailed
from slem_app.files import replacing

__all__ = ["Soup"]


class Soup:
    """The late checkpoints of one run.

    Args:
        folder: of the run.
        steps: of the whole run.
        share: of the steps, the last ones, whose checkpoints take part.
    """

    def __init__(self, folder: Path, steps: int, share: float) -> None:
        self.folder, self.first, self.last = Path(folder) / "soup", steps - share * steps, steps

    def add(self, step: int, network: nn.Module) -> None:
        """Note the weights of `network` at `step`, if it is late enough.

        Raises:
            StorageFailed: the disk refused.
        """
        if step < self.first:
            return
        path = self.folder / f"{step:08}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path, durable=False) as file:
                torch.save(network.state_dict(), file)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            raise StorageFailed(
                f"the weights at step {step} could not be written ({error}): free space on the disk"
            ) from error

    def steps(self) -> tuple[int, ...]:
        """Steps whose weights are there."""
        return tuple(sorted(int(path.stem) for path in self.folder.glob("*.pt")))

    def into(self, network: nn.Module) -> None:
        """Give `network` the mean of the weights; nothing where there are none."""
        total: dict[str, torch.Tensor] = {}
        count = 0
        for state in self._states(next(iter(network.parameters())).device):
            count += 1
            total = {name: total[name] + tensor if total else tensor for name, tensor in state.items()}
        if count:
            own = network.state_dict()
            network.load_state_dict({name: (t / count).to(own[name].dtype) for name, t in total.items()})

    def _states(self, device: torch.device) -> Iterator[dict[str, torch.Tensor]]:
        for step in self.steps():
            if self.first <= step <= self.last:
                state = torch.load(self.folder / f"{step:08}.pt", map_location=device, weights_only=True)
                yield {name: tensor.double() for name, tensor in state.items()}
