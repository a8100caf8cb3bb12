"""Layouts of training sets that other programs read: where the files go, how labels are numbered, what
describes the set.
"""

from __future__ import annotations

import csv
import io
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from slem_app import __version__
from slem_app.errors import BadLabel, BadSetting, BadStudy, StorageFailed
from slem_app.files import atomic_file
from slem_app.labels import codings
from slem_app.store.case_labels import LabelledCase
from slem_app.studies.naming import unique

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
        self.files = dict(
            zip((case.id for case in cases), unique([plain(case.id) for case in cases]), strict=True)
        )
        self.sequences = self.choose(cases)

    def choose(self, cases: Sequence[LabelledCase]) -> tuple[str, ...]:
        """The sequences that every case must have: those that all have.

        Raises:
            BadStudy: there is none.
        """
        names = [name for name in cases[0].images if all(name in case.images for case in cases)]
        if not names:
            raise BadStudy(
                "the labelled cases have no sequence in common, but this layout demands the same "
                "for all: "
                "name fewer cases, or use bids"
            )
        return tuple(names)

    def values(self) -> Mapping[str, int]:
        """Label name -> value in the file."""
        return {name: value for value, name in enumerate(self.labels, 1)}

    @abstractmethod
    def image(self, case: str, sequence: str) -> Path:
        """Where an image goes."""

    @abstractmethod
    def label(self, case: LabelledCase) -> Path:
        """Where the label goes."""

    @abstractmethod
    def finish(self, cases: Sequence[LabelledCase]) -> None:
        """Write what describes the set."""


BRATS = {  # coding -> what stands before the word for the sequence, and the words
    "brats2023": ("-", {"t1n": "t1n", "t1c": "t1c", "t2w": "t2w", "t2f": "t2f"}),
    "brats2018": ("_", {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}),
}
BIDS = {"t1n": "T1w", "t1c": "ce-gadolinium_T1w", "t2w": "T2w", "t2f": "FLAIR"}


class Brats(Layout):
    """CASE/CASE-t1n.nii.gz ... CASE-seg.nii.gz, in the names and values of BraTS 2023, or with `brats2018` in
    those of 2018 to 2021.
    """

    def choose(self, cases: Sequence[LabelledCase]) -> tuple[str, ...]:
        if (self.coding or "brats2023") not in BRATS:
            raise BadSetting(f"coding {self.coding!r} is none of BraTS: use {' or '.join(BRATS)}")
        self.separator, self.words = BRATS[self.coding or "brats2023"]
        return tuple(self.words)

    def values(self) -> Mapping[str, int]:
        named = {name: value for value, name in codings()[self.coding or "brats2023"].values.items() if name}
        if unknown := sorted(set(self.labels) - set(named)):
            raise BadLabel(
                f"BraTS knows no label {', '.join(unknown)}: it has {', '.join(named)}; use nnunet or bids"
            )
        return named

    def image(self, case: str, sequence: str) -> Path:
        return (
            self.folder
            / self.files[case]
            / f"{self.files[case]}{self.separator}{self.words[sequence]}.nii.gz"
        )

    def label(self, case: LabelledCase) -> Path:
        return self.folder / self.files[case.id] / f"{self.files[case.id]}{self.separator}seg.nii.gz"

    def finish(self, cases: Sequence[LabelledCase]) -> None:
        write_text(self.folder / "slem.yaml", yaml.safe_dump({"coding": self.coding or "brats2023"}))
        write_text(self.folder / "labels.csv", origins(cases))


class NnUnet(Layout):
    """imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz and dataset.json, the format of nnU-Net v2; the folder
    is DatasetNNN_NAME.
    """

    FOLDER = re.compile(r"Dataset\d{3}_\w+")

    def __init__(self, folder: Path, cases: Sequence[LabelledCase], coding: str = "") -> None:
        if not self.FOLDER.fullmatch(folder.name):
            raise BadSetting(
                f"nnU-Net wants a folder called like Dataset042_Glioma, got {folder.name!r}: name it so "
                f"with --out"
            )
        super().__init__(folder, cases, coding)

    def image(self, case: str, sequence: str) -> Path:
        return self.folder / "imagesTr" / f"{self.files[case]}_{self.sequences.index(sequence):04d}.nii.gz"

    def label(self, case: LabelledCase) -> Path:
        return self.folder / "labelsTr" / f"{self.files[case.id]}.nii.gz"

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
    ID = re.compile(r"sub-([A-Za-z0-9]+)(?:_ses-([A-Za-z0-9]+))?")

    def choose(self, cases: Sequence[LabelledCase]) -> tuple[str, ...]:
        known = [
            [
                case.id,
                *(
                    found.groups()
                    if (found := self.ID.fullmatch(case.id))
                    else (re.sub("[^A-Za-z0-9]", "", case.id), None)
                ),
            ]
            for case in cases
        ]
        twice = Counter((subject, session) for _, subject, session in known)
        self.names = {id: (subject or "unnamed", session) for id, subject, session in known}
        for number, (id, subject, session) in enumerate(known, 1):
            if twice[subject, session] > 1:  # case ids that differ in punctuation alone
                self.names[id] = (f"{subject}n{number}", session)
        return ()

    def entities(self, case: str) -> str:
        """'sub-X' or 'sub-X_ses-Y'."""
        subject, session = self.names[case]
        return f"sub-{subject}" + (f"_ses-{session}" if session else "")

    def anat(self, case: str, root: Path) -> Path:
        return root.joinpath(*self.entities(case).split("_"), "anat")

    def suffix(self, sequence: str) -> str:
        """How BIDS calls the sequence."""
        if sequence in BIDS:
            return BIDS[sequence]
        if not re.match("t[12]", sequence, re.IGNORECASE):
            raise BadStudy(f"BIDS has no name here for the sequence {sequence}")
        suffix = "T1w" if sequence.lower().startswith("t1") else "T2w"
        return f"acq-{re.sub('[^A-Za-z0-9]', '', sequence)}_{suffix}"

    def image(self, case: str, sequence: str) -> Path:
        return self.anat(case, self.folder) / f"{self.entities(case)}_{self.suffix(sequence)}.nii.gz"

    def label(self, case: LabelledCase) -> Path:
        source = self.suffix(case.sequence).rpartition("_")[0]
        middle = f"_{source}" if source else ""
        return (
            self.anat(case.id, self.folder / "derivatives" / "slem")
            / f"{self.entities(case.id)}{middle}_space-orig_dseg.nii.gz"
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
        subjects = {f"sub-{self.names[case.id][0]}": case.id.partition("_ses-")[0] for case in cases}
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


def plain(case: str) -> str:
    """A case id as a file name that every program takes.

    Example:
        >>> plain("patient 7/b")
        'patient_7_b'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", case).strip("._-") or "case"


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
