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
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch

from slem_app.devices import read_device
from slem_app.errors import BadSetting, BadStudy, NoMemory
from slem_app.labels import LabelSet
from slem_app.network import channels_last
from slem_app.predict.check_here import trust_of
from slem_app.predict.closer_look import Likely, look_again
from slem_app.predict.doubts import doubts
from slem_app.predict.recalibrate import recalibrated
from slem_app.preemption import yield_point
from slem_app.regions import restore
from slem_app.result_warning import ResultWarning
from slem_app.trust import NOTHING, Trust
from slem_app.types import Grid
from slem_app.volumes.brain import BrainMask
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.prepare import Prepared, Volume, prepare
from slem_app.volumes.report import PreparationReport
from slem_app.weights import Inference, Model

if TYPE_CHECKING:
    from slem_app.grouping import Grouping

__all__ = ["PRECISIONS", "Prediction", "Predictor", "best_precision", "clock"]

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
    """Seconds by step: read, prepare, network, detail (where the model looks again), restore."""
    notes: tuple[str, ...] = ()
    """What was done to the study, in sentences."""
    warnings: tuple[ResultWarning, ...] = ()
    """What a reader must know before they trust it."""
    report: PreparationReport = field(default_factory=PreparationReport)
    """What was done to the study before the network saw it."""
    not_assessable: tuple[str, ...] = ()
    """Labels that the case's sequences cannot show, see `assessed`."""
    trust: Trust = NOTHING
    """Where it is likely wrong, and how good it probably is, as the model says itself."""
    unmeasured: tuple[str, ...] = ()
    """Labels and regions of which no millilitres are given: they would be read as findings."""

    def volumes_ml(self) -> dict[str, float]:
        """Millilitres of each label, then of each region that is more than one label."""
        found = self.array[bounding_box(self.array)]
        each = {label.name: self.grid.millilitres(found == label.value) for label in self.labels.labels}
        unions = {
            r.name: float(sum(each[name] for name in r.labels))
            for r in self.labels.regions
            if len(r.labels) > 1
        }
        return {name: ml for name, ml in (each | unions).items() if name not in self.unmeasured}


class Predictor:
    """Runs one model on one device.

    Args:
        model: from `load_model`.
        device: where the network runs, or 'auto'; the network is moved there.
        precision: 'float32', 'bfloat16' (autocast) or 'auto': bfloat16 where the processor computes in it,
            see `best_precision`.
        inference: how the network is run; default: as the card says.
        conformed: 'auto' makes of a study as a scanner gives it what the network was trained on; 'none'
            takes it as it is.

    Raises:
        BadSetting: an unknown precision, or a device that is not there.
    """

    def __init__(
        self,
        model: Model,
        device: str | torch.device = "cpu",
        precision: str = "auto",
        inference: Inference | None = None,
        conformed: Literal["auto", "none"] = "auto",
    ) -> None:
        if precision not in (*PRECISIONS, "auto"):
            raise BadSetting(f"unknown precision {precision!r}: use auto, {', '.join(PRECISIONS)}")
        self.model = model
        self.card = model.card
        self.device = read_device(device)
        self.precision = best_precision(self.device) if precision == "auto" else precision
        self.inference = inference or model.card.inference
        self.conformed = conformed
        self.network = channels_last(model.network, self.device).eval()
        self.finer = None if model.detail is None else Predictor(model.detail, self.device, self.precision)
        self.detailed = model.detail is not None or model.editor is not None

    def probabilities(self, prepared: Prepared) -> np.ndarray:
        """(R, I, J, K) float32 in 0..1 on the network's grid, mirrored passes averaged in.

        Args:
            prepared: the case.

        Raises:
            NoMemory: the GPU's memory is too small for this case.
        """
        images = torch.from_numpy(prepared.images)[None].to(self.device)  # 1 M I J K
        present = torch.from_numpy(prepared.present)[None].to(self.device)  # 1 M
        axes = [axis + 2 for axis in self.inference.mirror]
        passes = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))
        with torch.inference_mode(), self.memory(prepared):
            total = self._run(images, present)
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
                f"the memory of {self.device} is too small for {size} voxels of {self.card.name}: use the "
                "device cpu for this case"
            ) from error

    def predict(self, prepared: Prepared) -> Prediction:
        """Segment a prepared study; the result lies on `prepared.reference`."""
        return self.segment(prepared)[0]

    def segment(self, prepared: Prepared) -> tuple[Prediction, np.ndarray]:
        """As `predict`, with the probabilities of the regions, (R, I, J, K) float32 on the network's grid.

        Args:
            prepared: the case.

        Raises:
            NoMemory: the GPU's memory is too small for this case.
        """
        timings: dict[str, float] = {}
        with clock(timings, "network"):
            probabilities = self.probabilities(prepared)
        likely = self.likely(prepared, probabilities, timings)
        with clock(timings, "restore"):
            array = self.restored(likely, prepared)
            known = likely.onto(probabilities, prepared.grid)
        prediction = Prediction(
            array,
            prepared.reference,
            self.card.labels,
            prepared.used,
            prepared.missing,
            timings,
            prepared.notes,
            (*prepared.warnings, *self.doubts(array, known, prepared)),
            prepared.report,
            trust=trust_of(
                known,
                prepared.grid,
                self.card.labels,
                self.card.postprocess,
                self.card.confidence,
                prepared.used,
            ),
        )
        return prediction, known

    def look_again(self, prepared: Prepared, probabilities: np.ndarray, timings: dict[str, float]) -> Likely:
        """What a finer network makes of the place that was found, in a weighted mean; `probabilities` as
        they are where the model has none, or nothing was found.

        Args:
            prepared: the case.
            probabilities: from `probabilities`.
            timings: gets the seconds as 'detail', where there is such a network.

        Raises:
            NoMemory: the GPU's memory is too small for this case.
        """
        again = None
        if self.finer is not None:
            with clock(timings, "detail"):
                threshold = self.card.postprocess.threshold
                again = look_again(self.finer, prepared, probabilities, self.card.labels, threshold)
        return again or Likely(probabilities, prepared)

    def likely(self, prepared: Prepared, probabilities: np.ndarray, timings: dict[str, float]) -> Likely:
        """The probabilities by which labels are decided: those of `look_again`, put on the card's lines.

        Args:
            prepared: the case.
            probabilities: from `probabilities`.
            timings: gets the seconds as 'detail' and 'recalibrate', where there is such a step.

        Raises:
            NoMemory: the GPU's memory is too small for this case.
        """
        likely = self.look_again(prepared, probabilities, timings)
        if not self.card.recalibration:
            return likely
        with clock(timings, "recalibrate"):
            return recalibrated(likely, prepared, probabilities, self.card.labels, self.card.recalibration)

    def restored(self, likely: Likely, prepared: Prepared) -> np.ndarray:
        """(I, J, K) uint8 label map on `prepared.reference`."""
        card = self.card
        return restore(likely.probabilities, likely.grid, prepared.reference, card.labels, card.postprocess)

    def doubts(
        self, array: np.ndarray, probabilities: np.ndarray, prepared: Prepared
    ) -> tuple[ResultWarning, ...]:
        """Warnings of a result on `prepared.reference`, see `doubts.doubts`."""
        card = self.card
        volume = prepared.reference.voxel_volume
        return doubts(array, volume, probabilities, prepared, card.postprocess.threshold, card.plausible)

    def prepare_case(
        self,
        grouping: Grouping,
        reference: str | None = None,
        register: bool = False,
        brain: BrainMask | None = None,
    ) -> tuple[Prepared, dict[str, float]]:
        """Read and prepare a study.

        Args:
            grouping: the study with its series named.
            reference: sequence, or series id, on whose grid the result lies; default: the first of the card's
                order that the case has.
            register: move every other sequence onto the first of the card's order, stripped or not.
            brain: the reader's own mask, in the world of that first sequence.

        Returns:
            What the network sees, and the seconds of each step.

        Raises:
            BadStudy: no sequence that the model knows.
            NotFound: `reference` is not in this case.
            BadVolume, BadGrid: a series that cannot be used, or a whole head without a brain.
        """
        volumes, fixed, timings = self.read_case(grouping)
        target = fixed if reference is None else grouping.resolve(reference)
        grid = grouping.sequences[target].grid
        conformed = "register" if register else self.conformed
        with clock(timings, "prepare"):
            prepared = prepare(
                volumes,
                self.card.sequences,
                self.card.preparation,
                grid,
                fixed,
                conformed,
                self.detailed,
                brain,
            )
        return _told(prepared.shown_on(target, grid), grouping), timings

    def read_case(self, grouping: Grouping) -> tuple[Mapping[str, Volume], str, dict[str, float]]:
        """The sequences of a study that the model knows, as they lie in its files.

        Args:
            grouping: the study with its series named.

        Returns:
            Volumes by sequence, the sequence that stays where others are moved, and the seconds.

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
                f"case {grouping.study.id} has none of the sequences {', '.join(self.card.sequences)} that "
                f"{self.card.name} needs; it has {there}"
            )
        with clock(timings, "read"):
            volumes = read_all(series)
        return volumes, grouping.reference(self.card.reference_order), timings

    def predict_case(
        self,
        grouping: Grouping,
        reference: str | None = None,
        register: bool = False,
        brain: BrainMask | None = None,
    ) -> Prediction:
        """Read, prepare and segment a study; arguments and errors as those of `prepare_case`."""
        prepared, timings = self.prepare_case(grouping, reference, register, brain)
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


def _told(prepared: Prepared, grouping: Grouping) -> Prepared:
    """A prepared study that tells which series were chosen by hand, and which choice cannot be followed."""
    if not (grouping.by_hand or grouping.warnings):
        return prepared
    chosen = PreparationReport(by_hand=grouping.by_hand)
    return replace(
        prepared,
        report=replace(prepared.report, by_hand=grouping.by_hand),
        notes=(*prepared.notes, *chosen.notes()),
        warnings=(*grouping.warnings, *prepared.warnings),
    )


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


@contextmanager
def clock(timings: dict[str, float], step: str) -> Iterator[None]:
    """Add the seconds that the block takes to `timings[step]`; a yield point comes before it."""
    yield_point()
    start = time.perf_counter()
    yield
    timings[step] = timings.get(step, 0.0) + time.perf_counter() - start
