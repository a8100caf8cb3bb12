"""The files of a DICOM study that a phantom was written as."""

from pathlib import Path

SEQUENCES = ["t1n", "t1c", "t2w", "t2f"]


def folder_of(case: Path, sequence: str) -> Path:
    return next(case.glob(f"*_{sequence}"))


def files_of(case: Path, sequence: str) -> list[Path]:
    return sorted(folder_of(case, sequence).iterdir())
