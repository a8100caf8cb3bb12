"""Which case a volume is of that a client sends without saying so: by a checksum of its voxels.

The checksum is CRC-32 of the voxels as their file stores them. A .nii.gz says it without being unpacked: its
last bytes hold the checksum of header and voxels together (RFC 1952, section 2.3.1), from which that of the
header is taken away. Any other series is read once. What is known is kept in one SQLite file with the time
and size of each file. A checksum only proposes: the voxels themselves decide, and they also tell how the
client's axes lie. A search takes the time that it may; what it has not reached is found by a later one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import isal_zlib

from slem_app.errors import SlemError
from slem_app.serving.cases.axis_order import AxisOrder, axis_orders
from slem_app.serving.cases.catalogue import Cases
from slem_app.studies import Series
from slem_app.studies.nifti_header import NiftiHeader
from slem_app.volumes.read import read

__all__ = ["KnownVolume", "KnownVolumes", "Storage"]

logger = logging.getLogger(__name__)

SECONDS = 60.0
TRAILER = 8  # bytes at the end of a gzip file: checksum and size
USUAL = 2  # axis orders that are tried first
TABLE = """
CREATE TABLE IF NOT EXISTS volumes
    (name TEXT PRIMARY KEY, state TEXT, shape TEXT, storage TEXT, crc INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_crc ON volumes (crc);
"""


@dataclass(frozen=True)
class Storage:
    """How a file stores voxels; a value is stored * slope + inter."""

    dtype: str
    """NumPy's name with the byte order, e.g. '<i2'."""
    slope: float = 1.0
    """See above."""
    inter: float = 0.0
    """See above."""

    def stored(self, values: np.ndarray) -> np.ndarray | None:
        """Values as they would be stored; None where they cannot have been."""
        dtype, plain = np.dtype(self.dtype), self.slope == 1.0 and self.inter == 0.0
        if not plain:
            values = (values.astype(np.float64) - self.inter) / self.slope
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            whole = np.rint(values)
            if whole.min() < limits.min or whole.max() > limits.max or (plain and (whole != values).any()):
                return None
            return whole.astype(dtype)
        with np.errstate(over="ignore"):
            return values.astype(dtype)


@dataclass(frozen=True)
class KnownVolume:
    """A volume that was recognised."""

    case: str
    """Case id."""
    sequence: str
    """Which of its sequences it is."""
    order: AxisOrder
    """How the client's axes lie on the image's."""


class KnownVolumes:
    """The volumes of a server's cases.

    Args:
        cases: those.
        path: the file in which checksums are kept.
        seconds: that one search may take.
    """

    def __init__(self, cases: Cases, path: Path, seconds: float = SECONDS) -> None:
        self.cases, self.path, self.seconds = cases, path, seconds
        self.guard = threading.Lock()

    def find(self, array: np.ndarray) -> KnownVolume | None:
        """The case and sequence that an array is of; None where it is of none that was reached in time.

        Args:
            array: (3 axes in any order) finite values.
        """
        with self.guard, closing(self._open()) as base:
            search = _Search(self.cases, base, array)
            found = search.among_known()
            return found or search.among_others(time.monotonic() + self.seconds)

    def _open(self) -> sqlite3.Connection:
        """The file, or a base in memory where there can be none: it is a cache."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            base = sqlite3.connect(self.path, isolation_level=None, timeout=30.0)
            base.executescript(TABLE)
            return base
        except (sqlite3.Error, OSError) as error:
            logger.warning("checksums of volumes are not kept: %s: %s", self.path.name, error)
            base = sqlite3.connect(":memory:", isolation_level=None)
            base.executescript(TABLE)
            return base


class _Search:
    """One search."""

    def __init__(self, cases: Cases, base: sqlite3.Connection, array: np.ndarray) -> None:
        self.cases, self.base, self.array = cases, base, array
        self.shape = json.dumps(sorted(array.shape))
        self.sums: dict[tuple[Storage, bool], dict[int, list[AxisOrder]]] = {}
        self.seen: set[str] = set()

    def among_known(self) -> KnownVolume | None:
        """One whose checksum is kept."""
        kinds = self.base.execute("SELECT DISTINCT storage FROM volumes WHERE shape = ?", (self.shape,))
        storages = [Storage(*json.loads(text)) for (text,) in kinds.fetchall()]
        for usual in (True, False):
            for storage in storages:
                for crc, orders in self._sums(storage, usual).items():
                    rows = self.base.execute(
                        "SELECT name FROM volumes WHERE crc = ? AND shape = ? AND storage = ?",
                        (crc, self.shape, _text(storage)),
                    )
                    for (name,) in rows.fetchall():
                        case, sequence = json.loads(name)
                        if found := self._verified(case, sequence, orders):
                            return found
        return None

    def among_others(self, end: float) -> KnownVolume | None:
        """One whose checksum is not kept yet, or is out of date; those opened lately first."""
        fresh: list[tuple[str, str, Storage, int]] = []
        for case, sequence, series in self._series(end):
            name, state = json.dumps([case, sequence]), _state(series)
            row = self.base.execute("SELECT state FROM volumes WHERE name = ?", (name,)).fetchone()
            if row is not None and row[0] == state:
                continue
            try:
                storage, crc = checksum(series)
            except SlemError as error:
                logger.info("%s/%s has no checksum: %s", case, sequence, error)
                continue
            values = (name, state, self.shape, _text(storage), crc)
            self.base.execute("INSERT OR REPLACE INTO volumes VALUES (?, ?, ?, ?, ?)", values)
            fresh.append((case, sequence, storage, crc))
            if found := self._match(case, sequence, storage, crc, usual=True):
                return found
        for case, sequence, storage, crc in fresh:
            if found := self._match(case, sequence, storage, crc, usual=False):
                return found
        return None

    def _match(self, case: str, sequence: str, storage: Storage, crc: int, usual: bool) -> KnownVolume | None:
        orders = self._sums(storage, usual).get(crc)
        return self._verified(case, sequence, orders) if orders else None

    def _series(self, end: float) -> Iterator[tuple[str, str, Series]]:
        """The series of the array's shape. Of a PACS, whose images would all be fetched, only those of cases
        that were opened lately.
        """
        lately = [case for case in self.cases.ids() if self.cases.opened(case) is not None]
        rest = () if self.cases.pacs is not None else tuple(set(self.cases.ids()) - set(lately))
        for count, case in enumerate((*lately, *sorted(rest))):
            if time.monotonic() > end:
                logger.warning("%d cases were not compared with a volume: no time left", len(rest) - count)
                return
            try:
                sequences = self.cases.grouping(case).sequences
                of_shape = [
                    (case, name, one)
                    for name, one in sequences.items()
                    if json.dumps(sorted(one.grid.shape)) == self.shape
                ]
            except SlemError:  # another case's trouble
                continue
            yield from of_shape

    def _sums(self, storage: Storage, usual: bool) -> dict[int, list[AxisOrder]]:
        """Checksum -> axis orders of the array that have it, of the usual ones or all others."""
        kept = self.sums.get((storage, usual))
        if kept is None:
            kept = self.sums[storage, usual] = {}
            stored = storage.stored(self.array)
            if stored is None:
                return kept
            orders = list(axis_orders())
            for order in orders[:USUAL] if usual else orders[USUAL:]:
                kept.setdefault(_crc(order.to_image(stored)), []).append(order)
        return kept

    def _verified(self, case: str, sequence: str, orders: list[AxisOrder]) -> KnownVolume | None:
        """The volume, if it is the array voxel by voxel."""
        try:
            series = self.cases.grouping(case).sequences.get(sequence)
            if series is None:
                return None
            image = read(series).array
        except SlemError:
            return None
        for order in orders:
            turned = order.to_image(self.array)
            if turned.shape == image.shape and np.allclose(turned, image, rtol=1e-5, atol=0.0):
                return KnownVolume(case, sequence, order)
        return None


def checksum(series: Series) -> tuple[Storage, int]:
    """How a series is stored, and the checksum of its voxels (I fastest) as stored.

    Raises:
        SlemError: it cannot be read.
    """
    if series.format == "nifti" and series.channel is None:
        header = NiftiHeader.read(series.paths[0])
        crc = _from_trailer(header)
        if crc is not None and len(header.shape) == 3:
            return Storage(header.dtype.str, header.slope, header.inter), crc
    return Storage("<f4"), _crc(read(series).array.astype("<f4", copy=False))


def _from_trailer(header: NiftiHeader) -> int | None:
    """The checksum of the voxels from the end of the file; None where it does not say that."""
    if not header.packed:
        return None
    with header.path.open("rb") as file:
        file.seek(-TRAILER, 2)
        end = file.read(TRAILER)
        file.seek(0)
        before = b""
        for piece in header.content(file):
            before += piece[: header.offset - len(before)]
            if len(before) == header.offset:
                break
    whole, size = int.from_bytes(end[:4], "little"), int.from_bytes(end[4:], "little")
    if size != (header.offset + header.nbytes) % 2**32:  # several members, or bytes that are no voxels
        return None
    return int(isal_zlib.crc32_combine(isal_zlib.crc32(before), whole, header.nbytes))


def _crc(array: np.ndarray) -> int:
    return int(isal_zlib.crc32(np.ascontiguousarray(array.T).reshape(-1).view(np.uint8)))


def _state(series: Series) -> str:
    return hashlib.sha256(repr((series.paths, series.channel, series.state)).encode()).hexdigest()


def _text(storage: Storage) -> str:
    return json.dumps([storage.dtype, storage.slope, storage.inter])
