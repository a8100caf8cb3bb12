"""The editor of a model learns from what readers corrected: what they were shown, their prompts, and the
label that they saved in the end.

It learns beside the network of the same round, from the same cases. One half of its views are what a reader
saw before a prompt of theirs; the other half are errors as its first training had them, so that it forgets
nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slem_app.errors import BadVolume, SlemError
from slem_app.finetune.editing.disturb import StartSettings, make_start
from slem_app.finetune.editing.run import train_editor
from slem_app.finetune.editing.settings import EditorRecipe, EditorSettings
from slem_app.finetune.editing.starts import Starts
from slem_app.predict import Predictor
from slem_app.prompts import Corrections
from slem_app.rounds.labelled import LabelledStudies
from slem_app.training import first_process, first_process_first
from slem_app.volumes.cache import fingerprint
from slem_app.volumes.prepare import CONFORMED
from slem_app.weights import EditorModel, Model, load_editor
from slem_app.weights.fields import to_table

__all__ = ["editor_learnt", "with_corrections"]

log = logging.getLogger(__name__)

RATE = 4e-4  # peak learning rate: a quarter of what training from nothing takes
REPLAYED = 0.5  # share of the views that show a reader's own session, where there is one
MOST_CASES = 24  # cases that a round's editor learns from; each is prepared once, in some 15 s of a core
STARTS = StartSettings(tries=2, kept=2)


def with_corrections(studies: LabelledStudies, turns: Sequence[str]) -> tuple[str, ...]:
    """Those of some cases whose reader's corrections are known, in their order, each once."""
    return tuple(case for case in dict.fromkeys(turns) if studies.corrections_file(case).is_file())


def editor_learnt(
    model: Model,
    studies: LabelledStudies,
    starts: Starts,
    turns: Sequence[str],
    settings: EditorSettings,
    folder: Path,
    device: str,
) -> EditorModel | None:
    """The editor after some more steps.

    Args:
        model: with the editor as it is, whose weights stay as they are.
        studies: with the readers' labels.
        starts: of cases at the editor's voxels; those that are not needed any more are taken away.
        turns: cases to train on, each as often as it has its turn.
        settings: steps, batch and seed; the rest is as a round has it.
        folder: for the checkpoint; a run that was cut off goes on.
        device: torch device of this process.

    Returns:
        None without an editor, with one of other sequences than the model's, or where no reader corrected
        anything in these cases.

    Raises:
        TrainingFailed: the loss became NaN.
        StorageFailed: the disk refused a checkpoint.
    """
    corrected = with_corrections(studies, turns)
    if model.editor is None or model.editor.card.sequences != model.card.sequences or not corrected:
        return None
    chosen = [*corrected, *(case for case in dict.fromkeys(turns) if case not in corrected)][:MOST_CASES]
    with first_process_first():
        usable = _prepared(model, studies, starts, chosen, device)
        if first_process():
            starts.keep(usable)
    replayed = [case for case in usable if starts.load(case).session is not None]
    log.info("the editor learns from %d cases, %d of them with corrections", len(usable), len(replayed))
    if not replayed:
        return None
    card = model.editor.card
    ids = [case for case in turns if case in usable]
    own = replace(settings, view=card.view, rate=RATE, replayed=REPLAYED)
    run = folder / f"editor-{fingerprint(card.sha256, ids, to_table(own))}"
    recipe = EditorRecipe(replace(card, version=_next(card.version), figures={}), own)
    train_editor(recipe, starts, ids, model.card.labels, run, device, parent=model.editor)
    return load_editor(run / "editor")


def _next(version: str) -> str:
    """'3' -> '3+1', '3+1' -> '3+2': how many rounds an editor has learnt in since its first training."""
    first, _, rounds = version.partition("+")
    return f"{first}+{int(rounds) + 1 if rounds.isdigit() else 1}"


def _prepared(
    model: Model, studies: LabelledStudies, starts: Starts, cases: Sequence[str], device: str
) -> frozenset[str]:
    """Prepare what is not there in this form; the cases that can be used."""
    assert model.editor is not None, "asked for with an editor alone"
    predictor = Predictor(model, device)
    spacing, usable = (model.editor.card.spacing,) * 3, set()
    for case in cases:
        try:
            key = _key(model, studies, case)
            if not starts.has(case, key):
                rng = np.random.default_rng(int(fingerprint(case)[:8], 16))
                corrections = _corrections(studies, case)
                make_start(studies.study(case), predictor, starts, spacing, STARTS, rng, corrections, key)
            usable.add(case)
        except SlemError as error:
            log.warning("the editor does not learn from %s: %s", case, error)
    return frozenset(usable)


def _key(model: Model, studies: LabelledStudies, case: str) -> str:
    """What a prepared case depends on, but the weights: results of an earlier version have errors, too."""
    assert model.editor is not None, "asked for with an editor alone"
    study, card, file = studies.study(case), model.card, studies.corrections_file(case)
    states = [(one.id, one.state) for one in (*study.series, *([study.label] if study.label else []))]
    own = (card.name, card.preparation, card.labels, model.editor.card.spacing, to_table(STARTS))
    return fingerprint(CONFORMED, own, states, files=[file] if file.is_file() else [])


def _corrections(studies: LabelledStudies, case: str) -> Corrections | None:
    """What the reader did; None, with the reason in the log, where that cannot be read."""
    try:
        return studies.corrections(case)
    except BadVolume as error:
        log.warning("%s", error)
        return None
