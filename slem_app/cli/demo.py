"""`slem demo`: phantom studies with segmentations, to try the commands on before there is data."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from slem_app.errors import BadSetting

__all__ = ["Demo"]


@dataclass(frozen=True)
class Demo:
    """Write phantom studies and their segmentations: heads with tumours, abdomens in the folders of CHAOS, or
    prostates.
    """

    out: tyro.conf.Positional[Path]
    """Folder for the studies; existing ones are kept."""
    cases: int = 6
    """Number of studies."""
    body: Literal["head", "abdomen", "prostate"] = "head"
    """head: four sequences as NIfTI; abdomen: OUT/MR/1/T1DUAL/... as DICOM and PNG; prostate: T2, ADC and
    diffusion as NIfTI.
    """
    dicom: bool = False
    """Heads in DICOM, as a scanner would send them: each sequence a series, oblique, on its own grid, with a
    localizer and an ADC map; without segmentations, because a scanner has none.
    """
    shape: tuple[int, int, int] = (160, 192, 144)
    """For a head: voxels along right-left, front-back and up-down, 1 mm each. The head fills the image, so
    fewer voxels make a smaller head.
    """
    coarse: float = 1.0
    """For a trunk: how many times larger its voxels are than usual (3 x 3 x 6 mm in an abdomen, 1 x 1 x 3 mm
    in a pelvis).
    """

    def run(self) -> None:
        """Write what is missing."""
        from tqdm import tqdm

        if self.cases < 1 or min(self.shape) < 24 or not 1 <= self.coarse <= 8:
            given = f"{self.cases}, {self.shape} and {self.coarse:g}"
            raise BadSetting(
                "--cases must be at least 1, --shape at least 24 along each axis and --coarse 1 to 8, got "
                f"{given}"
            )
        if self.dicom and self.body != "head":
            raise BadSetting(f"--dicom works only for heads, got --body {self.body}: omit one of them")
        for number in tqdm(range(1, self.cases + 1), desc="demo studies", unit="case"):
            name = str(number) if self.body == "abdomen" else f"demo-{number}"
            place = self.out / "MR" / name if self.body == "abdomen" else self.out / name
            if not place.exists():
                new = self.out / f".{name}"
                shutil.rmtree(new, ignore_errors=True)  # of a run that was interrupted
                case = self.write(number, new, name)
                place.parent.mkdir(parents=True, exist_ok=True)
                case.rename(place)  # an interrupted run leaves no half a study
                shutil.rmtree(new)
        print(f"{self.cases} studies {'in DICOM' if self.dicom else 'with segmentations'} in {self.out}")

    def write(self, seed: int, folder: Path, name: str) -> Path:
        """One study; returns the case's folder."""
        from slem_app import phantom

        if self.dicom:
            head = phantom.make(seed=seed, shape=self.shape, oblique=True, own_grids=True)
            return phantom.write_dicom(head, folder, name, extras=True)
        if self.body == "head":
            return phantom.write_nifti(phantom.make(seed=seed, shape=self.shape), folder, name)
        if self.body == "abdomen":
            return phantom.write_chaos(
                phantom.make_abdomen(seed, (3.0 * self.coarse, 3.0 * self.coarse, 6.0 * self.coarse)),
                folder,
                name,
            )
        return phantom.write_nifti(
            phantom.make_pelvis(seed, (self.coarse, self.coarse, 3.0 * self.coarse)),
            folder,
            name,
            layout="nifti",
        )
