"""Automatic results of many kinds of badness, for the editor to learn from.

A model that knows a case too well makes no errors in it, so it is disturbed: noise on its weights, sequences
that are left out or mixed up, gain, shift and bias fields, another size. What it then says is recalibrated as
the card says, for that is what readers see; results are kept that are evenly spread from poor to good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from slem_app.errors import BadSetting
from slem_app.finetune.cases import drawn_on, truth
from slem_app.finetune.editing.sessions import Session, replayed
from slem_app.finetune.editing.starts import Starts
from slem_app.grouping import group
from slem_app.labels import LabelSet
from slem_app.predict import Predictor
from slem_app.predict.answers import Automatic, Detail
from slem_app.predict.closer_look import Likely
from slem_app.predict.correct import Corrector
from slem_app.predict.editor_answers import EditorAnswers
from slem_app.predict.recalibrate import recalibrated
from slem_app.prompts import Corrections
from slem_app.regions import PostProcess, decide
from slem_app.studies import Study, StudySource
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import Prepared, prepare
from slem_app.volumes.read import read_all

__all__ = ["StartSettings", "make_start", "make_starts"]


@dataclass(frozen=True)
class StartSettings:
    """How automatic results are disturbed.

    Raises:
        BadSetting: a value out of range.
    """

    tries: int = 4
    """Disturbed passes a case ..."""
    kept: int = 4
    """... of which so many are kept, beside the undisturbed one."""
    poor: float = 0.5
    """Mean Dice of the worst that is wanted ..."""
    good: float = 0.93
    """... and of the best."""
    noise: tuple[float, float] = (0.18, 0.45)
    """Noise on the weights, in standard deviations of each layer's."""
    drop: float = 0.4
    """Chance that a sequence is left out, where some are."""
    mix: float = 0.8
    """Largest share of T1 in T1c, and of T2 in FLAIR, where they are mixed."""
    size: tuple[float, float] = (0.7, 1.35)
    """Factor of the size at which the model sees the head."""
    seed: int = 0
    """Of all that is random."""

    def __post_init__(self) -> None:
        if self.tries < self.kept or self.kept < 0 or not 0 <= self.poor <= self.good <= 1:
            raise BadSetting(f"tries must not be less than kept, and 0 <= poor <= good <= 1: {self}")


def make_starts(
    studies: StudySource,
    predictor: Predictor,
    starts: Starts,
    spacing: tuple[float, float, float],
    settings: StartSettings,
    only: Sequence[str] = (),
    seen: Callable[[str], object] | None = None,
) -> None:
    """Prepare every labelled study that is not there yet.

    Args:
        studies: from `open_source`.
        predictor: the model whose errors are wanted; its weights are as before afterwards.
        starts: where they go.
        spacing: mm of the editor's voxels.
        settings: how results are disturbed.
        only: these cases; default: all.
        seen: called with each case's id.

    Raises:
        SlemError: a study that cannot be used.
    """
    for number, case in enumerate(studies.ids()):
        if case in (only or studies.ids()) and not starts.has(case):
            rng = np.random.default_rng([settings.seed, number])
            make_start(studies.study(case), predictor, starts, spacing, settings, rng)
        if seen is not None:
            seen(case)


def make_start(
    study: Study,
    predictor: Predictor,
    starts: Starts,
    spacing: tuple[float, float, float],
    settings: StartSettings,
    rng: np.random.Generator,
    corrections: Corrections | None = None,
    key: str = "",
) -> None:
    """Prepare one labelled study, in place of an older form of it.

    Args:
        study: with its label.
        predictor: as of `make_starts`; its editor answers the corrections.
        starts: where it goes.
        spacing: mm of the editor's voxels.
        settings: how results are disturbed.
        rng: what is random comes from here.
        corrections: what a reader did before they saved the label.
        key: of what it was made from, see `Starts.has`.

    Raises:
        SlemError: a study that cannot be used.
    """
    card, grouping = predictor.card, group(study)
    expected, grid = truth(study, card.labels)
    chosen = {n: s for n, s in grouping.sequences.items() if n in card.sequences}
    volumes, fixed = read_all(chosen), drawn_on(grouping, chosen, grid)
    closer = replace(card.preparation, spacing=spacing, multiple=1)
    seen = prepare(volumes, card.sequences, card.preparation, fixed=fixed, detailed=predictor.detailed)
    fine = prepare(volumes, card.sequences, closer, fixed=fixed)
    right = resample(expected, grid, fine.grid, 0).astype(np.uint8)
    plain = predictor.probabilities(seen)
    shown = predictor.likely(seen, plain, {}).onto(_finer(plain, seen, fine), fine.grid)
    best = _quality(shown, right, card.labels)
    pool = []
    for number in range(settings.tries):
        one = _disturbed(predictor, seen, settings, number, rng)
        likely = Likely(_finer(one, seen, fine), fine)
        pool.append(recalibrated(likely, seen, one, card.labels, card.recalibration).probabilities)
    quality = [_quality(one, right, card.labels) for one in pool]
    picked = _spread(quality, np.linspace(settings.poor, settings.good, settings.kept) * min(1, best / 0.85))
    stacked = np.stack([_bytes(one) for one in (shown, *(pool[n] for n in picked))])
    note = {
        "model": f"{card.name} {card.version}",
        "sequences": list(card.sequences),
        "labels": list(card.labels.names),
        "spacing": list(spacing),
        "quality": [round(q, 3) for q in (best, *(quality[n] for n in picked))],
        "key": key,
    }
    session = None if corrections is None else _session(predictor, corrections, fine, shown, right)
    starts.add(study.id, fine, right, stacked, note, card.labels, session)


def _session(
    predictor: Predictor, corrections: Corrections, fine: Prepared, shown: np.ndarray, right: np.ndarray
) -> Session | None:
    """A reader's corrections, made again by the model's editor; None where it has none."""
    editor, labels = predictor.model.editor, predictor.card.labels
    if editor is None:
        return None
    detail = Detail(fine.images.astype(np.float16), fine.present, fine.grid)
    corrector = Corrector(EditorAnswers(editor, labels, predictor.device), labels)
    return replayed(corrections, corrector, detail, Automatic(shown, fine.grid), labels, right)


def _disturbed(
    predictor: Predictor, seen: Prepared, settings: StartSettings, number: int, rng: np.random.Generator
) -> np.ndarray:
    """(R, I, J, K) of one disturbed pass; the kinds take turns."""
    kind = ("weights", "both", "mixed", "size")[number % 4]
    images, present = seen.images.copy(), seen.present.copy()
    if kind == "both" or rng.random() < 0.25:
        kept = present & (rng.random(len(present)) >= settings.drop)
        present = kept if kept.any() else present
    if kind == "mixed":
        _mix(images, seen, settings, rng)
    _vary(images, rng)
    state = {name: tensor.clone() for name, tensor in predictor.network.state_dict().items()}
    if kind in ("weights", "both"):
        _shake(predictor.network, rng.uniform(*settings.noise), rng)
    axes = [axis for axis in predictor.card.mirrors if rng.random() < 0.5]
    factor = rng.uniform(*settings.size) if kind == "size" or rng.random() < 0.3 else 1.0
    flips = [axis + 2 for axis in axes]
    try:
        given = torch.from_numpy(images)[None].flip(flips)
        return _pass(predictor, given, torch.from_numpy(present)[None], factor).flip(flips)[0].numpy()
    finally:
        predictor.network.load_state_dict(state)


def _pass(predictor: Predictor, images: torch.Tensor, present: torch.Tensor, factor: float) -> torch.Tensor:
    """(1, R, I, J, K) probabilities of (1, M, I, J, K), seen `factor` times as large."""
    shape, multiple = images.shape[2:], predictor.card.network.multiple
    size = [max(2 * multiple, round(n * factor / multiple) * multiple) for n in shape]
    if factor != 1:
        images = F.interpolate(images, size=size, mode="trilinear")
    device = predictor.device
    with torch.inference_mode(), predictor.autocast():
        found = predictor.network(images.to(device), present.to(device)).float().sigmoid().cpu()
    return F.interpolate(found, size=shape, mode="trilinear") if factor != 1 else found


def _mix(images: np.ndarray, seen: Prepared, settings: StartSettings, rng: np.random.Generator) -> None:
    """Contrast that is weak, fluid that is not dark (`images` is changed in place)."""
    slots = {name: slot for slot, name in enumerate(seen.sequences)}
    for bright, plain in (("t1c", "t1n"), ("t2f", "t2w")):
        if bright in slots and plain in slots:
            here = images[slots[bright]] != 0
            share = rng.uniform(0, settings.mix)
            mixed = (1 - share) * images[slots[bright]] + share * images[slots[plain]]
            images[slots[bright]] = np.where(here, mixed, 0)


def _vary(images: np.ndarray, rng: np.random.Generator) -> None:
    """Gain, shift, bias field and noise a sequence (`images` is changed in place)."""
    for n, image in enumerate(images):
        coarse = rng.normal(0, rng.uniform(0, 0.5), (1, 1, 3, 3, 3)).astype(np.float32)
        field = F.interpolate(torch.from_numpy(coarse), size=image.shape, mode="trilinear")[0, 0].numpy()
        noise = rng.uniform(0, 0.4) * rng.standard_normal(image.shape, dtype=np.float32)
        varied = rng.uniform(0.55, 1.6) * image + rng.uniform(-0.7, 0.7) + field + noise
        images[n] = np.where(image != 0, varied, 0)


def _shake(network: torch.nn.Module, share: float, rng: np.random.Generator) -> None:
    """Noise on the weights of the convolutions (`network` is changed in place)."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim >= 4:
                noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
                parameter.add_(share * parameter.std(correction=0) * noise)


def _finer(probabilities: np.ndarray, seen: Prepared, fine: Prepared) -> np.ndarray:
    """(R, I, J, K) float32 on the grid of `fine`."""
    return np.stack([resample(one, seen.grid, fine.grid, 1) for one in probabilities])


def _quality(probabilities: np.ndarray, right: np.ndarray, labels: LabelSet) -> float:
    """Mean Dice of the regions; 1 where both are empty."""
    found = decide(probabilities, labels, PostProcess(), 1.0)
    each = []
    for a, b in zip(labels.region_masks(found), labels.region_masks(right), strict=True):
        total = np.count_nonzero(a) + np.count_nonzero(b)
        each.append(2 * np.count_nonzero(a & b) / total if total else 1.0)
    return float(np.mean(each))


def _spread(quality: Sequence[float], wanted: np.ndarray) -> list[int]:
    """Numbers of those nearest to the wanted qualities, each once."""
    left, chosen = list(range(len(quality))), []
    for goal in wanted:
        nearest = min(left, key=lambda n: abs(quality[n] - goal))
        left.remove(nearest)
        chosen.append(nearest)
    return chosen


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
