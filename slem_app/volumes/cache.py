"""Prepared cases on disk for training: memory-mapped, so memory does not grow with their number.

One folder a case: images.npy (float16), regions.npy (uint8, 255 = wholly inside), meta.json. A folder is
written beside its place and renamed, so a half-written case is never read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slem_app.errors import BadVolume, NotFound, StorageFailed
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared

__all__ = ["CachedCase", "CaseCache", "fingerprint"]


@dataclass(frozen=True, eq=False)
class CachedCase:
    """One case, its arrays memory-mapped."""

    id: str
    """Case name."""
    images: np.ndarray
    """(M, I, J, K) float16."""
    present: np.ndarray
    """(M,) bool."""
    regions: np.ndarray | None
    """(R, I, J, K) uint8, 0..255 = share of the voxel inside the region; None where there is no truth."""
    grid: Grid
    """The network's grid."""
    anchors: tuple[np.ndarray, ...]
    """For each region (n, 3) voxels inside it, for sampling patches; n may be 0."""


def fingerprint(*parts: object, files: Sequence[Path] = ()) -> str:
    """A short hash of settings and of the files' names, sizes and times; another one means: prepare again."""
    seen = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr((parts, seen)).encode()).hexdigest()[:16]


class CaseCache:
    """A folder of prepared cases."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def ids(self) -> tuple[str, ...]:
        """Cases that are there, sorted."""
        return tuple(
            sorted(
                p.parent.name for p in self.folder.glob("*/meta.json") if not p.parent.name.startswith(".")
            )
        )

    def has(self, case_id: str, key: str) -> bool:
        """True when the case is there and was made from what `key` stands for."""
        try:
            return json.loads((self.folder / case_id / "meta.json").read_text()).get("key") == key
        except (
            FileNotFoundError,
            ValueError,
        ):  # not there, or spoilt by a power failure: to be prepared again
            return False

    def add(self, case_id: str, prepared: Prepared, regions: np.ndarray | None, key: str) -> None:
        """Write one case, in place of an older one.

        Args:
            case_id: name of the case.
            prepared: its images.
            regions: (R, I, J, K) float in 0..1 on the prepared grid, or None.
            key: fingerprint of what it was made from.

        Raises:
            StorageFailed: the disk refused; an older form of the case is still there.
        """
        new = self.folder / f".{case_id}.{os.getpid()}"
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            self._write(new, prepared, regions, key)
            self._put(new, self.folder / case_id)
        except OSError as error:
            reason = error.strerror or error
            raise StorageFailed(
                f"case {case_id!r} could not be written to the cache {self.folder}: {reason}: free space on "
                "the disk"
            ) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def evict(self, keep: Collection[str], most: int) -> tuple[str, ...]:
        """Remove cases until the cache takes at most `most` bytes, those prepared longest ago first; returns
        their names.

        Cases of `keep` stay, whatever they take.
        """
        sizes = {case: sum(f.stat().st_size for f in (self.folder / case).iterdir()) for case in self.ids()}
        spare = sorted(
            set(sizes) - set(keep), key=lambda case: (self.folder / case / "meta.json").stat().st_mtime_ns
        )
        gone = []
        while spare and sum(sizes.values()) > most:
            gone.append(spare.pop(0))
            del sizes[gone[-1]]
            shutil.rmtree(self.folder / gone[-1], ignore_errors=True)
        return tuple(gone)

    @staticmethod
    def _write(new: Path, prepared: Prepared, regions: np.ndarray | None, key: str) -> None:
        np.save(
            new / "images.npy",
            np.where(prepared.present[:, None, None, None], prepared.images, 0).astype(np.float16),
        )
        anchors = []
        if regions is not None:
            np.save(new / "regions.npy", np.round(regions * 255).astype(np.uint8))
            anchors = [_anchors(region >= 0.5) for region in regions]
        meta = {
            "key": key,
            "sequences": list(prepared.sequences),
            "present": prepared.present.tolist(),
            "affine": prepared.grid.affine.tolist(),
            "anchors": [a.tolist() for a in anchors],
        }
        (new / "meta.json").write_text(json.dumps(meta))

    @staticmethod
    def _put(new: Path, place: Path) -> None:
        """Rename into place; where another process was faster, with the same case, its folder stays."""
        old = new.with_name(f"{new.name}.old")
        with contextlib.suppress(FileNotFoundError):
            place.rename(old)
        try:
            new.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)

    def load(self, case_id: str) -> CachedCase:
        """Map one case into memory.

        Raises:
            NotFound: no such case.
            BadVolume: its files are damaged.
        """
        folder = self.folder / case_id
        truth = folder / "regions.npy"
        try:
            meta = json.loads((folder / "meta.json").read_text())
            images = np.load(folder / "images.npy", mmap_mode="r")
            regions = np.load(truth, mmap_mode="r") if truth.exists() else None
        except FileNotFoundError as error:
            raise NotFound(
                f"case {case_id!r} is not in the cache {self.folder.name}: prepare it first"
            ) from error
        except (ValueError, EOFError) as error:
            raise BadVolume(
                f"case {case_id!r} in the cache {self.folder.name} is damaged ({error}): delete its folder, "
                "and it is prepared again"
            ) from error
        return CachedCase(
            id=case_id,
            images=images,
            present=np.array(meta["present"]),
            regions=regions,
            grid=Grid(images.shape[1:], np.array(meta["affine"])),
            anchors=tuple(np.array(a, dtype=np.int32).reshape(-1, 3) for a in meta["anchors"]),
        )


def _anchors(mask: np.ndarray, most: int = 512) -> np.ndarray:
    """Up to `most` voxels of a mask, evenly spread over its list: (n, 3)."""
    voxels = np.argwhere(mask)
    return voxels[np.linspace(0, len(voxels) - 1, min(most, len(voxels))).astype(int)]
