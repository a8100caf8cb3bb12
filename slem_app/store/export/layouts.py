"""Layouts of training sets that other programs read: where the files go, how labels are numbered, what
describes the set.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from slem_app import __version__
from slem_app.errors import BadLabel, BadStudy, StorageFailed
from slem_app.files import atomic_file
from slem_app.labels import codings
from slem_app.store.case_labels import LabelledCase
from slem_app.store.export.image_names import BRATS, BidsNames, BratsNames, ImageNames, NnUnetNames

__all__ = ["LAYOUTS", "Bids", "Brats", "Layout", "NnUnet", "made"]


class Layout(ABC):
    """Where files go and how labels are numbered.

    Args:
        folder: of the training set.
        cases: those that are to be written.
        coding: how labels are numbered; empty: the layout's own.
    """

    one_grid = True
    """All files of a case must have the same grid."""

    def __init__(self, folder: Path, cases: Sequence[LabelledCase], coding: str = "") -> None:
        self.folder, self.coding = folder, coding
        self.labels = common_labels(cases)
        self.sequences = self.choose(cases)
        self.names = self.naming([case.id for case in cases])

    @abstractmethod
    def naming(self, ids: Sequence[str]) -> ImageNames:
        """How files are called; `choose` has been asked before.

        Raises:
            BadSetting: a coding that the layout does not know, or a folder that it does not allow.
        """

    def choose(self, cases: Sequence[LabelledCase]) -> tuple[str, ...]:
        """The sequences that every case must have: those that all have.

        Raises:
            BadStudy: there is none.
        """
        names = [name for name in cases[0].images if all(name in case.images for case in cases)]
        if not names:
            raise BadStudy(
                "the labelled cases have no sequence in common, but this layout demands the same for all: "
                "name fewer cases, or use bids"
            )
        return tuple(names)

    def values(self) -> Mapping[str, int]:
        """Label name -> value in the file."""
        return {name: value for value, name in enumerate(self.labels, 1)}

    def image(self, case: str, sequence: str) -> Path:
        """Where an image goes."""
        return self.names.image(case, sequence)

    @abstractmethod
    def label(self, case: LabelledCase) -> Path:
        """Where the label goes."""

    @abstractmethod
    def finish(self, cases: Sequence[LabelledCase]) -> None:
        """Write what describes the set."""


class Brats(Layout):
    """CASE/CASE-t1n.nii.gz ... CASE-seg.nii.gz, in the names and values of BraTS 2023, or with `brats2018` in
    those of 2018 to 2021.
    """

    names: BratsNames

    def naming(self, ids: Sequence[str]) -> BratsNames:
        return BratsNames(self.folder, ids, self.coding)

    def choose(self, cases: Sequence[LabelledCase]) -> tuple[str, ...]:
        return tuple(BRATS["brats2023"][1])  # every year has the same four

    def values(self) -> Mapping[str, int]:
        named = {name: value for value, name in codings()[self.coding or "brats2023"].values.items() if name}
        if unknown := sorted(set(self.labels) - set(named)):
            raise BadLabel(
                f"BraTS knows no label {', '.join(unknown)}: it has {', '.join(named)}; use nnunet or bids"
            )
        return named

    def label(self, case: LabelledCase) -> Path:
        return self.names.file(case.id, "seg")

    def finish(self, cases: Sequence[LabelledCase]) -> None:
        write_text(self.folder / "slem.yaml", yaml.safe_dump({"coding": self.coding or "brats2023"}))
        write_text(self.folder / "labels.csv", origins(cases))


class NnUnet(Layout):
    """imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz and dataset.json, the format of nnU-Net v2; the folder
    is DatasetNNN_NAME.
    """

    def naming(self, ids: Sequence[str]) -> NnUnetNames:
        return NnUnetNames(self.folder, ids, self.sequences)

    def label(self, case: LabelledCase) -> Path:
        return self.folder / "labelsTr" / f"{self.names.files[case.id]}.nii.gz"

    def finish(self, cases: Sequence[LabelledCase]) -> None:
        content = {
            "name": self.folder.name,
            "description": "Exported by SLeM Label",
            "channel_names": {str(number): name for number, name in enumerate(self.sequences)},
            "labels": {"background": 0, **self.values()},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
        }
        write_text(self.folder / "dataset.json", json.dumps(content, indent=2))
        write_text(self.folder / "slem.yaml", "coding: own\n")
        write_text(self.folder / "labels.csv", origins(cases))


class Bids(Layout):
    """sub-X/anat/sub-X_T1w.nii.gz with the labels as dseg in derivatives/slem; every image stays on its own
    grid.
    """

    one_grid = False
    names: BidsNames

    def naming(self, ids: Sequence[str]) -> BidsNames:
        return BidsNames(self.folder, ids)

    def choose(self, cases: Sequence[LabelledCase]) -> tuple[str, ...]:
        return ()

    def label(self, case: LabelledCase) -> Path:
        source = self.names.suffix(case.sequence).rpartition("_")[0]
        middle = f"_{source}" if source else ""
        return (
            self.names.anat(case.id, self.folder / "derivatives" / "slem")
            / f"{self.names.entities(case.id)}{middle}_space-orig_dseg.nii.gz"
        )

    def finish(self, cases: Sequence[LabelledCase]) -> None:
        derived = self.folder / "derivatives" / "slem"
        for case in cases:
            record = case.version.record
            source = self.image(case.id, case.sequence).relative_to(self.folder)
            sidecar = {
                "Description": "Labels that a reader saved as final",
                "Manual": not record.automatic,
                "SpatialReference": f"bids:raw:{source}",
                "Sources": [f"bids:raw:{source}"],
                "Labels": dict(self.values()),
                "Reader": record.who,
                "Saved": record.ts,
                "Model": f"{record.model} {record.model_version}".strip(),
                "Case": case.id,
            }
            write_text(
                self.label(case).with_name(self.label(case).name.replace(".nii.gz", ".json")),
                json.dumps(sidecar, indent=2),
            )
        table = [
            ["index", "name"],
            ["0", "background"],
            *([str(value), name] for name, value in self.values().items()),
        ]
        write_text(derived / "dseg.tsv", "".join("\t".join(row) + "\n" for row in table))
        links = {"raw": "../.."}
        shared = {"BIDSVersion": "1.9.0", "License": "n/a"}
        write_text(
            self.folder / "dataset_description.json",
            json.dumps({"Name": self.folder.name, "DatasetType": "raw", **shared}, indent=2),
        )
        derivative = {
            "Name": "slem",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "SLeM Label", "Version": __version__}],
            "DatasetLinks": links,
            **shared,
        }
        write_text(derived / "dataset_description.json", json.dumps(derivative, indent=2))
        subjects = {self.names.subject(case.id): case.id.partition("_ses-")[0] for case in cases}
        write_text(
            self.folder / "participants.tsv",
            "participant_id\tcase\n" + "".join(f"{subject}\t{case}\n" for subject, case in subjects.items()),
        )
        write_text(
            self.folder / "README",
            "Exported by SLeM Label: images as they were, labels in derivatives/slem.\n",
        )
        write_text(self.folder / "slem.yaml", "coding: own\n")
        write_text(self.folder / ".bidsignore", "slem.yaml\n")


LAYOUTS: dict[str, type[Layout]] = {"brats": Brats, "nnunet": NnUnet, "bids": Bids}
"""By name."""


def common_labels(cases: Sequence[LabelledCase]) -> tuple[str, ...]:
    """The label names that most cases have."""
    return Counter(case.names for case in cases).most_common(1)[0][0]


def origins(cases: Sequence[LabelledCase]) -> str:
    """Who made each label, as CSV."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["case", "version", "reader", "client", "model", "model_version", "saved", "seconds", "clicks"]
    )
    for case in cases:
        one = case.version.record
        rows.writerow(
            [
                case.id,
                case.version.number,
                one.who,
                one.client,
                one.model,
                one.model_version,
                f"{one.ts:.0f}",
                one.seconds,
                one.clicks,
            ]
        )
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all, into a folder that is made."""
    with atomic_file(made(path)) as file:
        file.write(text.encode("utf-8"))


def made(path: Path) -> Path:
    """The path, its folder being there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"cannot make {path.parent}: {error.strerror or error}; choose another folder with --out"
        ) from error
    return path
