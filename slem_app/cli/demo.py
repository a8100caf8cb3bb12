"""`slem demo`: phantom studies with segmentations, to try the commands on before there is data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from slem_app import phantom
from slem_app.errors import BadSetting

__all__ = ["Demo"]


@dataclass(frozen=True)
class Demo:
    """Write phantom studies of heads with tumours: four sequences and their segmentation, as NIfTI."""

    out: tyro.conf.Positional[Path]
    """Folder of the studies; those that are there already are kept."""
    cases: int = 6
    """How many."""
    shape: tuple[int, int, int] = (160, 192, 144)
    """Voxels along right-left, front-back and up-down, 1 mm each. The head fills it, so less is a smaller head."""

    def run(self) -> None:
        """Write what is missing."""
        if self.cases < 1 or min(self.shape) < 24:
            raise BadSetting(f"--cases must be at least 1 and --shape at least 24 along each axis, got {self.cases} and {self.shape}")
        for number in tqdm(range(1, self.cases + 1), desc="demo studies", unit="case"):
            name = f"demo-{number}"
            if not (self.out / name).exists():
                new = self.out / f".{name}"
                phantom.write_nifti(phantom.make(seed=number, shape=self.shape), new, name)
                (new / name).rename(self.out / name)  # an interrupted run leaves no half a study
                new.rmdir()
        print(f"{self.cases} studies with segmentations in {self.out}")
