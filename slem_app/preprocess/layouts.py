"""Where preprocessed images and masks go. The names of images are those of exported training sets; what no
layout knows lies beside the set, so that any reader of the layout takes the set as it is.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slem_app import __version__
from slem_app.preprocess.case import PreprocessedCase
from slem_app.store.export.image_names import BidsNames, BratsNames, ImageNames, NnUnetNames
from slem_app.store.export.layouts import write_text

__all__ = ["PREPROCESSED", "PreprocessedLayout"]

NNUNET = "Dataset001_Prepared"


class PreprocessedLayout(ABC):
    """One layout.

    Args:
        out: the folder of all that is written.
        ids: the cases.
        sequences: those that a case may have, in order.
    """

    demands_all = False
    """Every case must have every sequence."""

    def __init__(self, out: Path, ids: Sequence[str], sequences: Sequence[str]) -> None:
        self.out, self.sequences = out, tuple(sequences)
        self.names = self.naming(ids)

    @abstractmethod
    def naming(self, ids: Sequence[str]) -> ImageNames:
        """How images are called."""

    def file(self, case: str) -> str:
        """The case's id as a file name."""
        return self.names.files[case]

    def image(self, case: str, sequence: str, defaced: bool) -> Path:
        """Where an image goes.

        Raises:
            BadStudy: the layout has no name for the sequence.
        """
        return self.names.image(case, sequence)

    def mask(self, case: str) -> Path:
        """Where the brain mask goes."""
        return self.out / "masks" / f"{self.file(case)}.nii.gz"

    def describe(self, done: PreprocessedCase) -> dict[Path, str]:
        """Text files of one case: where they go, and what they hold."""
        return {}

    @abstractmethod
    def finish(self, ids: Sequence[str]) -> None:
        """Write what describes the set of the cases that are done."""


class BratsSet(PreprocessedLayout):
    """OUT/brats/CASE/CASE-t1n.nii.gz ..."""

    def naming(self, ids: Sequence[str]) -> BratsNames:
        return BratsNames(self.out / "brats", ids)

    def finish(self, ids: Sequence[str]) -> None:
        """A reader needs nothing but the names."""


class NnUnetSet(PreprocessedLayout):
    """OUT/Dataset001_Prepared/imagesTr/CASE_0000.nii.gz ...: a channel a sequence."""

    demands_all = True

    def naming(self, ids: Sequence[str]) -> NnUnetNames:
        return NnUnetNames(self.out / NNUNET, ids, self.sequences)

    def finish(self, ids: Sequence[str]) -> None:
        content = {
            "name": NNUNET,
            "description": "Prepared by SLeM Label; labelsTr is still to be made",
            "channel_names": {str(number): name for number, name in enumerate(self.sequences)},
            "labels": {"background": 0},
            "numTraining": len(ids),
            "file_ending": ".nii.gz",
        }
        write_text(self.out / NNUNET / "dataset.json", json.dumps(content, indent=2))


class BidsSet(PreprocessedLayout):
    """OUT/bids/sub-X/anat/sub-X_space-individual_desc-preproc_T1w.nii.gz ..., a data set of derivatives."""

    names: BidsNames

    def naming(self, ids: Sequence[str]) -> BidsNames:
        return BidsNames(self.out / "bids", ids)

    def image(self, case: str, sequence: str, defaced: bool) -> Path:
        made = "defaced" if defaced else "preproc"
        return self.names.derived(case, sequence, f"space-individual_desc-{made}")

    def mask(self, case: str) -> Path:
        name = f"{self.names.entities(case)}_space-individual_desc-brain_mask.nii.gz"
        return self.names.anat(case) / name

    def describe(self, done: PreprocessedCase) -> dict[Path, str]:
        source = done.series[done.reference]
        space = f"the world of the header of {done.reference} ({source}), RAS+ as NIfTI has it"
        stripped = not done.defaced
        said: dict[Path, dict[str, Any]] = {
            self.mask(done.id): {
                "Type": "Brain",
                "SpatialReference": space,
                "Method": done.report.mask or "foreground",
            }
        }
        for name in done.images:
            said[self.image(done.id, name, done.defaced)] = {
                "SkullStripped": stripped,
                "SpatialReference": space,
                "Sources": [done.series[name]],
                "Movedmm": round(done.report.moved.get(name, 0.0), 1),
                "Resolution": str(done.grid),
            }
        return {
            path.with_name(path.name.replace(".nii.gz", ".json")): json.dumps(one, indent=2)
            for path, one in said.items()
        }

    def finish(self, ids: Sequence[str]) -> None:
        content = {
            "Name": "prepared",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "SLeM Label", "Version": __version__}],
            "License": "n/a",
        }
        write_text(self.out / "bids" / "dataset_description.json", json.dumps(content, indent=2))
        rows = {self.names.subject(id): id.partition("_ses-")[0] for id in ids}
        table = "".join(f"{subject}\t{case}\n" for subject, case in rows.items())
        write_text(self.out / "bids" / "participants.tsv", "participant_id\tcase\n" + table)


PREPROCESSED: dict[str, type[PreprocessedLayout]] = {"brats": BratsSet, "bids": BidsSet, "nnunet": NnUnetSet}
"""By name."""
