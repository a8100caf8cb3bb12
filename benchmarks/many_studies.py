"""Made-up archives of very many studies, small enough to be made in minutes: NIfTI by links to one
phantom, DICOM by writing UIDs of one's own into the files of one phantom.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from slem_app import phantom

__all__ = ["HEAD", "many_dicom", "many_nifti", "settled"]

HEAD = phantom.make(seed=1, shape=(16, 18, 14), spacing=(10.0, 10.0, 10.0))
UID = re.compile(rb"(1\.2\.826\.0\.1\.3680043\.8\.498\.[0-9])[0-9]{6}([0-9]{20,})")


def many_nifti(folder: Path, count: int) -> None:
    """`count` cases of four NIfTI files, p000000, p000001, ...: links to the first one's folder."""
    phantom.write_nifti(HEAD, folder, "p000000", labels=False)
    for number in range(1, count):
        (folder / f"p{number:06}").symlink_to(folder / "p000000")


def many_dicom(folder: Path, count: int, sequences: int = 1, slices: int = 14) -> None:
    """`count` studies of `sequences` folders with `slices` files each."""
    template = folder.with_name(f"{folder.name}-template")
    phantom.write_dicom(HEAD, template, "p000000")
    series = sorted({path.parent for path in template.rglob("*.dcm")})[:sequences]
    files = [
        (place.relative_to(template), path.name, path.read_bytes())
        for place in series
        for path in sorted(place.glob("*.dcm"))[:slices]
    ]
    for number in range(count):
        name = f"p{number:06}"
        for place, file, content in files:
            here = folder / name / Path(*place.parts[1:])
            here.mkdir(parents=True, exist_ok=True)
            (here / file).write_bytes(renumbered(content, number))


def renumbered(content: bytes, number: int) -> bytes:
    """The file with other UIDs of the same length, and another patient."""
    tail = f"{number:06}".encode()
    changed = UID.sub(rb"\g<1>" + tail + rb"\g<2>", content)
    return changed.replace(b"p000000", f"p{number:06}".encode())


def settled(folder: Path) -> None:
    """Have every folder look as if it was filled an hour ago, which a listing may rely on."""
    for here, _, _ in os.walk(folder):
        before = Path(here).stat().st_mtime - 3600
        os.utime(here, (before, before))
