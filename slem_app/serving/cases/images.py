"""The image of a case as one 3D file, which is what clients can open: the source itself where it is one, else
a copy made once.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import shutil
import uuid
from pathlib import Path

from slem_app.errors import BadSetting, BadVolume, StorageFailed
from slem_app.files import sync, writer
from slem_app.formats.image import write_image
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.upload_grouping import NIFTI
from slem_app.store.labels import file_name
from slem_app.studies import Series
from slem_app.volumes.read import read
from slem_app.volumes.size import check_sizes

__all__ = ["image_file", "image_name", "keep_upload"]


def image_name(case: Case) -> str:
    """The file name that a client gives the image: says case and sequence, no path, ends as the file does."""
    plain = _served_as_is(case.series) and case.series.paths[0].suffix == ".nii"
    return f"{file_name(case.id)}_{case.image}{'.nii' if plain else '.nii.gz'}"


def image_file(case: Case, root: Path) -> Path:
    """One 3D file with the image of the case's sequence.

    Args:
        case: what was asked for.
        root: where copies may be kept.

    Raises:
        BadVolume, BadGrid: the series cannot be read.
        StorageFailed: a copy is needed and the disk refused it.
    """
    series = case.series
    state = series.state
    if _served_as_is(series):
        return series.paths[0]
    digest = hashlib.sha256(repr((series.paths, series.channel, state)).encode()).hexdigest()[:12]
    copy = root / "images" / file_name(case.id) / f"{case.image}-{digest}.nii.gz"
    if not copy.is_file():
        volume = read(series)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"cannot make {copy.parent}: {error.strerror or error}; set another folder with `--conf "
                f"store DIR`"
            ) from error
        for old in copy.parent.glob(f"{case.image}-*"):
            old.unlink(missing_ok=True)
        write_image(volume.array, volume.grid, copy)
    return copy


def keep_upload(cases: Cases, image_id: str, path: Path) -> None:
    """Keep an uploaded image as a case of its own.

    The same image again under the same name changes nothing.

    Raises:
        BadSetting: a name that cannot be an id, or that is taken by another image.
        BadVolume: not a 3D NIfTI image.
        TooLarge: it would take more memory than it may.
        StorageFailed: the disk refused.
    """
    if not re.fullmatch(r"[^/\\\x00-\x1f.-][^/\\\x00-\x1f]{0,149}", image_id):
        raise BadSetting(
            f"{image_id[:200]!r} cannot be the id of an image: at most 150 characters, no slash or "
            f"backslash, and neither a dot nor a hyphen at the start"
        )
    ending = next((end for end in NIFTI if path.name.endswith(end)), None)
    if ending is None:
        raise BadVolume(
            f"image {image_id!r} came as {path.name.partition('.')[2] or 'a file without ending'}: send "
            f".nii.gz or .nii"
        )
    check_sizes([path], cases.largest)
    read(Series(id=image_id, paths=(path,), format="nifti", name=image_id))
    known = cases.uploaded(image_id)
    if known is not None and filecmp.cmp(known, path, shallow=False):
        return
    if known is not None or cases.has(image_id):
        raise BadSetting(
            f"there is another image with the id {image_id!r}: rename the volume and send it again; "
            f"nothing was replaced"
        )
    place = cases.uploads / file_name(image_id)
    new = cases.uploads / f".new-{writer()}-{uuid.uuid4().hex[:8]}"
    try:
        new.mkdir(parents=True)
        shutil.copyfile(path, new / f"{file_name(image_id)}{ending}")
        sync(new / f"{file_name(image_id)}{ending}")
        os.rename(new, place)
        sync(cases.uploads)
    except OSError as error:
        raise StorageFailed(
            f"cannot keep {image_id!r}: {error.strerror or error}; set another folder with `--conf store DIR`"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    cases.refresh()


def _served_as_is(series: Series) -> bool:
    return series.format == "nifti" and series.channel is None and series.paths[0].name.endswith(NIFTI)
