"""Where the images of a case go in the public layouts, and what they are called there."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from slem_app.errors import BadSetting, BadStudy
from slem_app.studies.naming import unique

__all__ = ["BRATS", "BidsNames", "BratsNames", "ImageNames", "NnUnetNames", "plain"]

BRATS = {  # coding -> what stands before the word for the sequence, and the words
    "brats2023": ("-", {"t1n": "t1n", "t1c": "t1c", "t2w": "t2w", "t2f": "t2f"}),
    "brats2018": ("_", {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}),
}
BIDS = {"t1n": "T1w", "t1c": "ce-gadolinium_T1w", "t2w": "T2w", "t2f": "FLAIR"}


class ImageNames(ABC):
    """Names of one layout.

    Args:
        folder: of the set.
        ids: its cases.
    """

    def __init__(self, folder: Path, ids: Sequence[str]) -> None:
        self.folder = folder
        self.files = dict(zip(ids, unique([plain(id) for id in ids]), strict=True))

    @abstractmethod
    def image(self, case: str, sequence: str) -> Path:
        """Where an image goes.

        Raises:
            BadStudy: the layout has no name for the sequence.
        """


class BratsNames(ImageNames):
    """CASE/CASE-t1n.nii.gz ..., as BraTS 2023 has it, or with `brats2018` as 2018 to 2021 had it.

    Raises:
        BadSetting: another coding.
    """

    def __init__(self, folder: Path, ids: Sequence[str], coding: str = "") -> None:
        super().__init__(folder, ids)
        self.coding = coding or "brats2023"
        if self.coding not in BRATS:
            raise BadSetting(f"coding {coding!r} is not one of BraTS: use {' or '.join(BRATS)}")
        self.separator, self.words = BRATS[self.coding]

    def file(self, case: str, word: str) -> Path:
        """A file of the case."""
        name = self.files[case]
        return self.folder / name / f"{name}{self.separator}{word}.nii.gz"

    def image(self, case: str, sequence: str) -> Path:
        if sequence not in self.words:
            raise BadStudy(f"BraTS has no name for the sequence {sequence}: use nnunet or bids")
        return self.file(case, self.words[sequence])


class NnUnetNames(ImageNames):
    """imagesTr/CASE_0000.nii.gz, the format of nnU-Net v2; the folder is DatasetNNN_NAME.

    Args:
        sequences: in the order of the channels.

    Raises:
        BadSetting: a folder of another name.
    """

    FOLDER = re.compile(r"Dataset\d{3}_\w+")

    def __init__(self, folder: Path, ids: Sequence[str], sequences: Sequence[str]) -> None:
        if not self.FOLDER.fullmatch(folder.name):
            raise BadSetting(
                f"nnU-Net needs a folder name like Dataset042_Glioma, got {folder.name!r}: choose one "
                f"with --out"
            )
        super().__init__(folder, ids)
        self.sequences = tuple(sequences)

    def image(self, case: str, sequence: str) -> Path:
        return self.folder / "imagesTr" / f"{self.files[case]}_{self.sequences.index(sequence):04d}.nii.gz"


class BidsNames(ImageNames):
    """sub-X/anat/sub-X_T1w.nii.gz, with a session where the case's id has one."""

    ID = re.compile(r"sub-([A-Za-z0-9]+)(?:_ses-([A-Za-z0-9]+))?")

    def __init__(self, folder: Path, ids: Sequence[str]) -> None:
        super().__init__(folder, ids)
        known = []
        for id in ids:
            found = self.ID.fullmatch(id)
            known.append((id, *(found.groups() if found else (re.sub("[^A-Za-z0-9]", "", id), None))))
        twice = Counter((subject, session) for _, subject, session in known)
        self.names = {id: (subject or "unnamed", session) for id, subject, session in known}
        for number, (id, subject, session) in enumerate(known, 1):
            if twice[subject, session] > 1:  # case ids that differ in punctuation alone
                self.names[id] = (f"{subject}n{number}", session)

    def subject(self, case: str) -> str:
        """'sub-X'."""
        return f"sub-{self.names[case][0]}"

    def entities(self, case: str) -> str:
        """'sub-X' or 'sub-X_ses-Y'."""
        session = self.names[case][1]
        return self.subject(case) + (f"_ses-{session}" if session else "")

    def anat(self, case: str, root: Path | None = None) -> Path:
        """The case's folder, below that of the set or another one."""
        return (root or self.folder).joinpath(*self.entities(case).split("_"), "anat")

    def suffix(self, sequence: str) -> str:
        """How BIDS calls the sequence."""
        if sequence in BIDS:
            return BIDS[sequence]
        if not re.match("t[12]", sequence, re.IGNORECASE):
            raise BadStudy(f"BIDS has no name here for the sequence {sequence}")
        suffix = "T1w" if sequence.lower().startswith("t1") else "T2w"
        return f"acq-{re.sub('[^A-Za-z0-9]', '', sequence)}_{suffix}"

    def image(self, case: str, sequence: str) -> Path:
        return self.anat(case) / f"{self.entities(case)}_{self.suffix(sequence)}.nii.gz"

    def derived(self, case: str, sequence: str, entities: str) -> Path:
        """Where an image goes that was made of one.

        Args:
            case: its case.
            sequence: what it was made of.
            entities: what it became, e.g. 'space-individual_desc-preproc'.
        """
        before, _, suffix = self.suffix(sequence).rpartition("_")
        middle = "_".join(part for part in (before, entities) if part)
        return self.anat(case) / f"{self.entities(case)}_{middle}_{suffix}.nii.gz"


def plain(case: str) -> str:
    """A case id as a file name that every program takes.

    Example:
        >>> plain("patient 7/b")
        'patient_7_b'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", case).strip("._-") or "case"
