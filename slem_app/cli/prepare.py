"""`slem prepare`: registration and brain mask alone, as images for other programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from slem_app.errors import BadSetting
from slem_app.weights.folders import model_folder

__all__ = ["Prepare"]


@dataclass(frozen=True)
class Prepare:
    """Register the sequences of studies, extract the brain and write them on one grid.

    It is what is done before a model sees a study. Writes images, brain masks, transforms, a picture a case
    and a report. Call it again to go on after an interruption; a case that cannot be prepared is
    named in the report, and the others go on.
    """

    case: Annotated[Path, tyro.conf.Positional]
    """A case folder, or a folder of cases (then name IDS, or give --all), or FOLDER/ID if a case has no
    folder of its own.
    """
    ids: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Cases of that folder."""
    all: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Every case of the folder."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("prepared")
    """The folder to write."""
    layout: Literal["brats", "bids", "nnunet"] = "brats"
    """brats: CASE/CASE-t1n.nii.gz; bids: derivatives with a JSON file for each image; nnunet: imagesTr, one
    channel for each sequence, which requires all sequences in every case.
    """
    spacing: float = 0.0
    """mm of the grid, e.g. 1, over the reference's field of view. Default: the reference's own grid."""
    deface: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Keep whole heads and remove the face, as far as it lies 5 mm and more from the brain. The ears stay,
    and part of the eyes may: look at the pictures.
    """
    register: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Register every sequence. Without it, only sequences of whole heads are registered, and those that
    clearly fit better elsewhere.
    """
    brains: Path | None = None
    """A folder with your own brain masks, CASE.nii.gz, drawn on the sequence that stays in place; e.g. the
    folder `masks` of an earlier call, corrected. Default: a network finds the brain of whole heads.
    """
    reference: str = ""
    """Sequence that stays in place. Default: the first of the model's order that the case has."""
    sequences: tuple[str, ...] = ()
    """Sequences to write, e.g. t1c t2f. Default: all of the model."""
    series: dict[str, str] = field(default_factory=dict)
    """Your own choice of series, if the names are not enough, by id, description or number."""
    model: str = "slem_brain"
    """The model whose sequences and order are used, a name or a folder."""

    def run(self) -> int:
        """Prepare and report; 1 if a case was left out."""
        folder = model_folder(self.model)
        from slem_app.preprocess import PreprocessSettings, preprocess_all
        from slem_app.preprocess.folder import Wanted
        from slem_app.studies.chosen import chosen
        from slem_app.weights import load_card

        card = load_card(folder)
        if unknown := [name for name in self.sequences if name not in card.sequences]:
            raise BadSetting(
                f"{card.name} knows no sequence {', '.join(unknown)}: it has {', '.join(card.sequences)}"
            )
        wanted = Wanted(
            sequences=self.sequences or card.sequences,
            order=card.reference_order,
            preparation=card.preparation,
            settings=PreprocessSettings(self.spacing, self.deface, self.register, self.reference),
            layout=self.layout,
            chosen=self.series,
            brains=self.brains,
        )
        source, ids = chosen(self.case, ("all",) if self.all else self.ids)
        outcome = preprocess_all(
            source, ids, self.out, wanted, lambda case, said: print(f"{case}: {said}", flush=True)
        )
        done, before, bad = len(outcome.records), len(outcome.before), len(outcome.failed)
        print(f"{done} prepared ({before} of them before), {bad} left out: {self.out / 'report.html'}")
        return 1 if bad else 0
