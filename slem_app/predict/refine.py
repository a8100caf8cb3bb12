"""Corrections: a result and new prompts -> a new result, changed near the new prompts only.

    refiner = Refiner(predictor)
    features = refiner.features(prepared)  # once a case: what does not depend on prompts
    result = refiner.start(prepared, features)  # the automatic result, or one that starts from a mask
    result = refiner.refine(prepared, features, result, result.prompts.with_click(click))

Guarantees, kept after the network whatever it says: the voxel of a click, and every painted voxel, has its
prompt's label (of two prompts on one voxel the later holds); outside `Result.changed` the label map is bit by
bit the one before; labels that a box limits lie inside it. A correction only ever spreads the label that was
pointed at, in one piece with the prompt and over what shows the label that the prompt corrects (a click that
turns edema into core takes no enhancing tumor), and stays clear of what other prompts claim: so no click
undoes an earlier one. A removed prompt is not undone here: go back to the result before it, or `replay`.

A model without prompt channels is refined by its automatic probabilities, the images and the prompts alone
(`claim`); one with them looks again at a view around the new prompts. `Refiner` keeps no state between calls;
its network serves one call at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from slem_app.errors import BadCard, BadPrompt
from slem_app.predict.appearance import AppearanceSettings, Maps
from slem_app.predict.claim import ClaimSettings
from slem_app.predict.correct import Automatic, Corrector, Detail, EditSettings, Touched
from slem_app.predict.predictor import Prediction, Predictor, clock
from slem_app.predict.spread import Sight, Spread, check_inside
from slem_app.predict.view import Box3, ViewSettings, groups, moved, view
from slem_app.prompts import Box, Click, Mask, Prompts, Scribble, channel_count, encode
from slem_app.result_warning import lasting
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.prepare import Prepared

__all__ = ["Features", "RefineSettings", "Refiner", "Result"]


@dataclass(frozen=True)
class RefineSettings:
    """How corrections are made."""

    view: ViewSettings = field(default_factory=ViewSettings)
    """What the network looks at again."""
    claim: ClaimSettings = field(default_factory=ClaimSettings)
    """How a prompt spreads."""
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    """How much the looks of the tissue count beside the network."""
    edit: EditSettings = field(default_factory=EditSettings)
    """How an editor's answers become changes; with an editor the three above do not count."""


@dataclass(frozen=True, eq=False)
class Features:
    """What the network made of the images before any prompt; the same for every image of the case and every
    reader.
    """

    fused: torch.Tensor
    """(1, C, I/s, J/s, K/s) before the first level, on the network's device."""
    decoded: torch.Tensor
    """(1, C, I/s, J/s, K/s) behind the logits, likewise."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.fused.nbytes + self.decoded.nbytes


@dataclass(frozen=True, eq=False)
class Result:
    """A segmentation that can be corrected further."""

    prediction: Prediction
    """The label map on the reference grid, and what goes with it."""
    probabilities: np.ndarray | None
    """(R, I, J, K) float32 of the automatic pass, on the network's grid; None: an editor shall not
    know it.
    """
    prompts: Prompts = field(default_factory=Prompts)
    """What it obeys."""
    changed: Box3 | None = None
    """The box of the reference grid outside which nothing differs from the result before; None: nothing was
    there before.
    """

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        known = 0 if self.probabilities is None else self.probabilities.nbytes
        return self.prediction.array.nbytes + known


class Refiner:
    """Makes and corrects results with one model.

    Args:
        predictor: the model on its device.
        settings: how corrections are made.

    Raises:
        BadCard: a network whose prompt channels are not those of its labels.
    """

    def __init__(self, predictor: Predictor, settings: RefineSettings | None = None) -> None:
        self.predictor = predictor
        self.card = predictor.card
        self.settings = settings or RefineSettings()
        wanted, has = channel_count(self.card.labels), self.card.network.prompts
        if has not in (0, wanted):
            raise BadCard(
                f"{self.card.name}: the network has {has} prompt channels; its "
                f"{len(self.card.labels.labels)} labels need {wanted}, or 0 for none"
            )
        self.listens = has > 0
        self.spread = Spread(self.card, self.settings.claim, self.settings.appearance)
        editor = predictor.model.editor
        self.corrector = (
            None
            if editor is None
            else Corrector(editor, self.card.labels, predictor.device, self.settings.edit)
        )
        views = replace(self.settings.view, cube=self.settings.view.cube or predictor.device.type == "cuda")
        self.view = (
            views
            if self.listens
            else replace(views, smallest=2 * self.settings.claim.reach, largest=2 * self.settings.claim.reach)
        )

    @property
    def edits(self) -> bool:
        """True when the model has an editor, which needs no features to correct a result."""
        return self.corrector is not None

    def features(self, prepared: Prepared) -> Features | None:
        """What can be kept between corrections of one case; None for a volume that is too large to be seen at
        once.

        Raises:
            NoMemory: the GPU's memory is too small for this case.
        """
        if prepared.images[0].size > self.predictor.inference.one_pass:
            return None
        with self.predictor.memory(prepared):
            fused = self._fuse(prepared.images, prepared.present)
            return Features(fused, self._decoded(fused))

    def start(self, prepared: Prepared, features: Features | None = None, mask: Mask | None = None) -> Result:
        """The result before any correction.

        Args:
            prepared: the case; its reference is the displayed image's grid.
            features: from `features`; spares that work.
            mask: an existing segmentation that takes the place of the automatic one.
        """
        plain = None if features is None else self._plain(features)
        if mask is None:
            return Result(*self.predictor.segment(prepared, plain))
        timings: dict[str, float] = {}
        with clock(timings, "network"):
            probabilities = self.predictor.probabilities(prepared, plain)
        with clock(timings, "restore"):
            array = moved(mask.array, mask.grid, prepared.reference, order=0).astype(np.uint8)
        prediction = Prediction(
            np.asfortranarray(array),
            prepared.reference,
            self.card.labels,
            prepared.used,
            prepared.missing,
            timings,
            prepared.notes,
            prepared.warnings,  # none of the result's own: the mask is somebody's
            prepared.report,
        )
        return Result(prediction, probabilities, Prompts(mask=mask))

    def refine(
        self,
        prepared: Prepared,
        features: Features | None,
        result: Result,
        prompts: Prompts,
        detail: Detail | None = None,
    ) -> Result:
        """The result after more prompts.

        Args:
            prepared: the case, as for `start`.
            features: from `features`, or None.
            result: the one that the reader sees.
            prompts: all prompts: those of `result` and new ones, or another box.
            detail: the case as the model's editor sees it, from `detail`; None: made of `prepared`, which
                takes its time.

        Raises:
            BadPrompt: a label that the model does not have, prompts of `result` that are gone, or a reach
                where there is no editor.
        """
        prompts.check(self.card.labels)
        new = prompts.since(result.prompts)
        if new is None:
            raise BadPrompt(
                "earlier prompts are gone: a correction cannot take them back; go back to the result before "
                "them, or replay the others"
            )
        timings = {"view": 0.0, "network": 0.0, "merge": 0.0}
        array = result.prediction.array.copy(order="K")
        boxes: list[Box3] = []
        warnings = lasting(result.prediction.warnings)
        if self.corrector is not None:
            detail = detail or self.corrector.detail(prepared)
            for entry in new:
                touched = self._edit(self.corrector, array, prepared, detail, result, entry, prompts, timings)
                boxes.append(touched.box)
                warnings += touched.warnings
        else:
            if any(entry.reach for entry in new):
                raise BadPrompt(
                    f"{self.card.name} has no editor, so the reach of a prompt cannot be changed: "
                    f"leave it out"
                )
            for members in groups(new, self.view.largest / 2):
                sight = self._look(prepared, features, result, prompts, array, members, timings)
                with clock(timings, "merge"):
                    for entry in members:
                        boxes.append(self.spread.follow(array, prepared, sight, entry, prompts))
        if prompts.box is not None and prompts.box != result.prompts.box:
            boxes.append(self._keep_inside(array, prompts.box, prepared.reference))
        prediction = replace(result.prediction, array=array, timings=timings, warnings=warnings)
        return Result(prediction, result.probabilities, prompts, _union(boxes))

    def replay(
        self,
        prepared: Prepared,
        features: Features | None,
        start: Result,
        prompts: Prompts,
        detail: Detail | None = None,
    ) -> Result:
        """The result of all prompts one after the other from `start`, e.g. after one of them was removed."""
        result, done = start, Prompts(mask=start.prompts.mask)
        for entry in prompts.entries:
            done = replace(done, entries=(*done.entries, entry))
            result = self.refine(prepared, features, result, done, detail)
        result = self.refine(prepared, features, result, replace(done, box=prompts.box), detail)
        return replace(result, changed=None)

    def detail(self, prepared: Prepared) -> Detail | None:
        """The case as the model's editor sees it; None without an editor."""
        return None if self.corrector is None else self.corrector.detail(prepared)

    def _edit(
        self,
        corrector: Corrector,
        array: np.ndarray,
        prepared: Prepared,
        detail: Detail,
        result: Result,
        entry: Click | Scribble,
        prompts: Prompts,
        timings: dict[str, float],
    ) -> Touched:
        """Let `array` (changed in place) follow one prompt as the editor says."""
        reference = prepared.reference
        check_inside(entry, reference)
        before = prompts.entries[: prompts.entries.index(entry)]
        automatic = None if result.probabilities is None else Automatic(result.probabilities, prepared.grid)
        with clock(timings, "network"):
            answer = corrector.answer(array, reference, detail, automatic, entry, before)
        with clock(timings, "merge"):
            return corrector.follow(array, reference, answer, entry, before, prompts.box)

    def _fuse(self, images: np.ndarray, present: np.ndarray) -> torch.Tensor:
        device = self.predictor.device
        with torch.inference_mode(), self.predictor.autocast():
            return self.predictor.network.fuse(
                torch.from_numpy(images)[None].to(device), torch.from_numpy(present)[None].to(device)
            )

    def _decoded(self, fused: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), self.predictor.autocast():
            return self.predictor.network.decoded(fused)

    def _plain(self, features: Features) -> torch.Tensor:
        """(1, R, I, J, K) float32 probabilities without prompts or mirrors."""
        with torch.inference_mode(), self.predictor.autocast():
            return self.predictor.network.logits(features.decoded).float().sigmoid()

    def _logits(self, fused: torch.Tensor, prompts: np.ndarray) -> torch.Tensor:
        """(1, R, I, J, K) float32."""
        given = torch.from_numpy(prompts)[None].to(fused.device)
        with torch.inference_mode(), self.predictor.autocast():
            return self.predictor.network.deep_fused(fused, given)[0].float()

    def _look(
        self,
        prepared: Prepared,
        features: Features | None,
        result: Result,
        prompts: Prompts,
        array: np.ndarray,
        members: Sequence[Click | Scribble],
        timings: dict[str, float],
    ) -> Sight:
        config = self.card.network
        with clock(timings, "view"):
            where = view(
                members,
                array,
                prepared.reference,
                prepared.grid,
                self.card.labels,
                self.view,
                config.multiple,
                config.stem_stride,
            )
        with clock(timings, "network"):
            if not self.listens:
                assert result.probabilities is not None, "made by `start` without an editor"
                known = np.clip(result.probabilities[(slice(None), *where.box)], 1e-6, 1 - 1e-6)
                return Sight(where, np.log(known / (1 - known)))
            last = max(prompts.entries.index(entry) for entry in members)
            told = replace(prompts, entries=prompts.entries[: last + 1])
            channels = encode(
                told, where.grid, self.card.labels, moved(array, prepared.reference, where.grid, order=0)
            )
            looked = self.settings.appearance.deep > 0 and any(isinstance(entry, Click) for entry in members)
            if features is None:
                fused = self._fuse(
                    np.ascontiguousarray(prepared.images[(slice(None), *where.box)]), prepared.present
                )
                decoded = self._decoded(fused) if looked else None
            else:
                s = config.stem_stride
                box = (slice(None), slice(None), *(slice(b.start // s, b.stop // s) for b in where.box))
                fused, decoded = features.fused[box], features.decoded[box] if looked else None
            return Sight(
                where,
                self._logits(fused, channels)[0].cpu().numpy(),
                None if decoded is None else self._maps(decoded),
            )

    def _maps(self, decoded: torch.Tensor) -> Maps:
        values = decoded[0].float()
        spread, mean = torch.std_mean(values, dim=(1, 2, 3), correction=0, keepdim=True)
        return Maps(
            ((values - mean) / (spread + 1e-3)).contiguous().cpu().numpy(), self.card.network.stem_stride
        )

    def _keep_inside(self, array: np.ndarray, box: Box, reference: Grid) -> Box3:
        """Take away what lies outside the box (`array` is changed in place)."""
        limited = [label.value for label in self.card.labels.labels if box.limits(label.name)]
        outside = np.isin(array, limited) & ~box.inside(reference)
        array[outside] = 0
        return bounding_box(outside)


def _union(boxes: Sequence[Box3]) -> Box3:
    real = [b for b in boxes if all(s.stop > s.start for s in b)]
    if not real:
        return (slice(0, 0),) * 3
    return triple(slice(min(b[a].start for b in real), max(b[a].stop for b in real)) for a in range(3))
