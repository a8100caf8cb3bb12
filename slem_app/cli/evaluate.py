"""`slem evaluate`: a model against labelled studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from slem_app.errors import BadStudy

if TYPE_CHECKING:
    from slem_app.evaluate.evaluate import Evaluation

__all__ = ["Evaluate"]


@dataclass(frozen=True)
class Evaluate:
    """Compare a model with the ground truth of labelled studies: Dice, RAVD, ASSD and MSSD of each region.

    Only cases that the model was not trained on tell how good it is.
    """

    data: Path
    """Folder of studies with segmentations."""
    model: str
    """Name of a model, or its folder."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """CSV file with a row for each case and region."""
    cases: tuple[str, ...] = ()
    """Cases to evaluate. Default: all."""
    coding: str = ""
    """Label coding of the segmentations, if it cannot be determined (see `slem inspect`)."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ... or auto."""

    def run(self) -> None:
        """Predict, compare, report."""
        from tqdm import tqdm

        from slem_app.evaluate.evaluate import evaluate
        from slem_app.predict import Predictor
        from slem_app.studies import open_source
        from slem_app.weights import load_model

        source = open_source(self.data, self.coding or None)
        cases = self.cases or source.ids()
        with tqdm(total=len(cases), desc="evaluating", unit="case") as bar:
            found = evaluate(
                Predictor(load_model(self.model), self.device), source, cases, lambda _: bar.update()
            )
        report(found, self.out)


def report(found: Evaluation, out: Path | None) -> None:
    """Print the means and what was left out; write the rows.

    Raises:
        BadStudy: nothing could be compared.
        StorageFailed: the disk refused.
    """
    from slem_app.files import atomic_file

    for case, reason in found.skipped.items():
        print(f"left out {case}: {reason}")
    if not found.rows:
        raise BadStudy("no case with a usable segmentation: nothing was compared")
    print(found.table())
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as file:
            file.write(found.csv().encode())
        print(f"all rows: {out}")
