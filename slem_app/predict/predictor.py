"""A case and a model -> a label map on the reference grid.

The volume is segmented in one pass where it is small enough for that, else by overlapping windows. Missing
sequences travel as flags, so the network never looks at their voxels. A `Predictor` keeps no state between
cases, but its network serves one call at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, combinations
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from slem_app.errors import BadSetting, BadStudy, NoMemory
from slem_app.labels import LabelSet
from slem_app.network import channels_last
from slem_app.regions import restore
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.prepare import Prepared, Volume, prepare
from slem_app.weights import Inference, Model

if TYPE_CHECKING:
    from slem_app.grouping import Grouping

__all__ = ["PRECISIONS", "Prediction", "Predictor", "best_device", "best_precision", "clock"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Prediction:
    """A segmentation and how it came about."""

    array: np.ndarray
    """(I, J, K) uint8 label values, 0 background."""
    grid: Grid
    """Where it lies: the reference's grid."""
    labels: LabelSet
    """What the values mean."""
    used: tuple[str, ...]
    """Sequences that the network saw."""
    missing: tuple[str, ...]
    """Sequences of the model that the case lacks."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds by step: read, prepare, network, restore."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""

    def volumes_ml(self) -> dict[str, float]:
        """Millilitres of each label, then of each region that is more than one label."""
        found = self.array[bounding_box(self.array)]
        each = {
            label.name: np.count_nonzero(found == label.value) * self.grid.voxel_volume / 1000
            for label in self.labels.labels
        }
        unions = {
            r.name: float(sum(each[name] for name in r.labels))
            for r in self.labels.regions
            if len(r.labels) > 1
        }
        return each | unions


class Predictor:
    """Runs one model on one device.

    Args:
        model: from `load_model`.
        device: where the network runs, or 'auto'; the network is moved there.
        precision: 'float32', 'bfloat16' (autocast) or 'auto': bfloat16 where the processor computes in it,
            see `best_precision`.
        inference: how the network is run; default: as the card says.

    Raises:
        BadSetting: an unknown precision, or a device that is not there.
    """

    def __init__(
        self,
        model: Model,
        device: str | torch.device = "cpu",
        precision: str = "auto",
        inference: Inference | None = None,
    ) -> None:
        if precision not in (*PRECISIONS, "auto"):
            raise BadSetting(f"unknown precision {precision!r}: use auto, {', '.join(PRECISIONS)}")
        self.model = model
        self.card = model.card
        self.device = _device(device)
        self.precision = best_precision(self.device) if precision == "auto" else precision
        self.inference = inference or model.card.inference
        self.network = channels_last(model.network, self.device).eval()

    def probabilities(self, prepared: Prepared, plain: torch.Tensor | None = None) -> np.ndarray:
        """(R, I, J, K) float32 in 0..1 on the network's grid, mirrored passes averaged in.

        Args:
            prepared: the case.
            plain: (1, R, I, J, K) of the pass that is not mirrored, where it is known.

        Raises:
            NoMemory: the GPU's memory is too small for this case.
        """
        images = torch.from_numpy(prepared.images)[None].to(self.device)  # 1 M I J K
        present = torch.from_numpy(prepared.present)[None].to(self.device)  # 1 M
        axes = [axis + 2 for axis in self.inference.mirror]
        passes = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))
        with torch.inference_mode(), self.memory(prepared):
            total = self._run(images, present) if plain is None else plain
            for flips in passes[1:]:
                total = total + self._run(images.flip(flips), present).flip(flips)
        return (total / len(passes))[0].cpu().numpy()

    @contextmanager
    def memory(self, prepared: Prepared) -> Iterator[None]:
        """Names the case whose passes need more memory than the GPU has.

        Raises:
            NoMemory: the GPU's memory is too small for this case.
        """
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            size = "x".join(map(str, prepared.grid.shape))
            raise NoMemory(
                f"the memory of {self.device} is too small for {size} voxels of "
                f"{self.card.name}: use the "
                f"device cpu for this case"
            ) from error

    def predict(self, prepared: Prepared) -> Prediction:
        """Segment a prepared study; the result lies on `prepared.reference`."""
        timings: dict[str, float] = {}
        with clock(timings, "network"):
            probabilities = self.probabilities(prepared)
        with clock(timings, "restore"):
            array = restore(
                probabilities, prepared.grid, prepared.reference, self.card.labels, self.card.postprocess
            )
        return Prediction(
            array,
            prepared.reference,
            self.card.labels,
            prepared.used,
            prepared.missing,
            timings,
            prepared.notes,
        )

    def prepare_case(
        self, grouping: Grouping, reference: str | None = None, register: bool = False
    ) -> tuple[Prepared, dict[str, float]]:
        """Read and prepare a study.

        Args:
            grouping: the study with its series named.
            reference: sequence, or series id, on whose grid the result lies; default: the first of the card's
                order that the case has.
            register: move the other sequences onto the reference first; adds the step 'register' to the
                timings.

        Returns:
            What the network sees, and the seconds of each step.

        Raises:
            BadStudy: no sequence that the model knows.
            NotFound: `reference` is not in this case.
            BadVolume, BadGrid: a series that cannot be used.
            BadSetting: registration is wanted but SimpleITK is not installed.
        """
        volumes, target, notes, timings = self.read_case(grouping, reference, register)
        with clock(timings, "prepare"):
            prepared = prepare(
                volumes, self.card.sequences, self.card.preparation, grouping.sequences[target].grid
            )
        return replace(prepared, notes=(*notes, *prepared.notes)), timings

    def read_case(
        self, grouping: Grouping, reference: str | None = None, register: bool = False
    ) -> tuple[Mapping[str, Volume], str, tuple[str, ...], dict[str, float]]:
        """The sequences of a study that the model knows, as they lie in its files, or registered.

        Args:
            grouping: the study with its series named.
            reference: sequence, or series id; default: the first of the card's order that the case has.
            register: move the other sequences onto the reference.

        Returns:
            Volumes by sequence, the reference's sequence, what a reader should know, and the seconds of each
            step.

        Raises:
            As `prepare_case`.
        """
        # a training server predicts from its cache and has no image readers
        from slem_app.volumes.read import read_all

        timings: dict[str, float] = {}
        series = {name: one for name, one in grouping.sequences.items() if name in self.card.sequences}
        if not series:
            there = ", ".join(grouping.sequences) or "none"
            raise BadStudy(
                f"case {grouping.study.id} has none of the sequences "
                f"{', '.join(self.card.sequences)} that "
                f"{self.card.name} needs; it has {there}"
            )
        target = (
            grouping.reference(self.card.reference_order)
            if reference is None
            else grouping.resolve(reference)
        )
        notes: tuple[str, ...] = ()
        with clock(timings, "read"):
            volumes = read_all(series)
        if register:
            with clock(timings, "register"):
                volumes, notes = _registered(volumes, target)
        return volumes, target, notes, timings

    def predict_case(
        self, grouping: Grouping, reference: str | None = None, register: bool = False
    ) -> Prediction:
        """Read, prepare and segment a study; arguments and errors as those of `prepare_case`."""
        prepared, timings = self.prepare_case(grouping, reference, register)
        result = self.predict(prepared)
        return replace(result, timings=timings | dict(result.timings))

    def autocast(self) -> torch.autocast:
        """The precision as a context."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def _run(self, images: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """(1, M, I, J, K), (1, M) -> (1, R, I, J, K) float32 probabilities, in one pass or by windows."""
        shape = images.shape[2:]
        if shape.numel() <= self.inference.one_pass:
            return self._forward(images, present)
        from monai.inferers import sliding_window_inference  # takes seconds to import, seldom needed

        window = [min(size, n) for size, n in zip(self.inference.window, shape, strict=True)]
        found = sliding_window_inference(
            images,
            window,
            1,
            lambda patch: self._forward(patch, present.expand(len(patch), -1)),
            overlap=self.inference.overlap,
            mode="gaussian",
        )
        return cast(torch.Tensor, found)

    def _forward(self, images: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            logits = self.network(images, present)
        return torch.sigmoid(logits.float())


def _device(wanted: str | torch.device) -> torch.device:
    """The device that was asked for.

    Raises:
        BadSetting: it is not there.
    """
    if wanted == "auto":
        return best_device()
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadSetting(
            f"device {wanted!r} cannot be used ({str(error).splitlines()[0]}): use auto, cpu, cuda or cuda:N"
        ) from error
    return device


def best_device() -> torch.device:
    """The first GPU, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_precision(device: torch.device) -> str:
    """'bfloat16' where the hardware computes in it natively, else 'float32' (emulated bfloat16 is slower than
    single precision).
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu":
        # older ones do not tell
        known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return "bfloat16" if known.get("avx512_bf16") or known.get("amx_bf16") else "float32"
    return "float32"


def _registered(volumes: Mapping[str, Volume], reference: str) -> tuple[dict[str, Volume], tuple[str, ...]]:
    """The volumes moved onto the reference, and by how much, in words.

    Raises:
        BadSetting: the reference is not among the volumes, or SimpleITK is not installed.
    """
    if reference not in volumes:
        raise BadSetting(
            f"cannot register onto {reference}: it is no sequence of the model; choose one of "
            f"{', '.join(volumes)} as reference"
        )
    try:
        from slem_app.volumes.register import register  # SimpleITK is optional, and takes a second to import
    except ImportError as error:
        raise BadSetting("registration needs SimpleITK: pip install 'slem-label[register]'") from error
    moved = register(volumes, reference)
    return dict(moved.volumes), tuple(
        f"{name} was moved by {mm:.1f} mm onto {reference}"
        for name, mm in moved.shifts.items()
        if name != reference
    )


@contextmanager
def clock(timings: dict[str, float], step: str) -> Iterator[None]:
    """Add the seconds that the block takes to `timings[step]`."""
    start = time.perf_counter()
    yield
    timings[step] = timings.get(step, 0.0) + time.perf_counter() - start
