"""A series as DICOMweb hands it out: of files, or of an image that is no DICOM (`formats.virtual_dicom`).

Of the second kind listings tell what headers tell; voxels are read when metadata or pixels of an instance are
asked for, by one thread for all who wait, and kept for a while.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from slem_app.errors import NotFound
from slem_app.formats.sixteen_bits import SixteenBits
from slem_app.formats.virtual_dicom import EXPLICIT, VirtualSeries
from slem_app.serving.cases.lock_by_name import LockByName
from slem_app.serving.models.byte_cache import ByteCache
from slem_app.studies import Series
from slem_app.studies.dicom_json import Attributes, Instance, read_instance
from slem_app.volumes.read import read_stored

__all__ = ["FileSeries", "HeaderCache", "ImageSeries", "ServedInstance", "ServedSeries", "VoxelCache"]

READERS = 16  # requests that may wait for the voxels of one series
HEADERS = 256 * 2**20  # bytes of headers, as JSON
VOXELS = 256 * 2**20  # bytes of images in 16 bits: some three cases of four sequences of 1 mm


class ServedInstance(Protocol):
    """One instance."""

    @property
    def uid(self) -> str:
        """SOPInstanceUID."""

    @property
    def attributes(self) -> Attributes:
        """What a search tells of it, at least."""

    @property
    def json(self) -> str:
        """All its metadata as text."""

    def frames(self, numbers: Sequence[int]) -> tuple[list[bytes | memoryview], str]:
        """Frames, counted from 1, and their transfer syntax."""

    def content(self) -> bytes:
        """The whole as a file."""


class ServedSeries(ABC):
    """One SeriesInstanceUID of a study."""

    @property
    @abstractmethod
    def modality(self) -> str:
        """Modality."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many instances it has."""

    @property
    @abstractmethod
    def attributes(self) -> Attributes:
        """Of its first instance."""

    @abstractmethod
    def instances(self) -> Sequence[ServedInstance]:
        """All, slice by slice."""


@dataclass(frozen=True)
class Held:
    """A series with the headers of its files."""

    instances: tuple[Instance, ...]
    """In the order of the slices."""
    nbytes: int
    """About what they take."""


class HeaderCache:
    """Headers of files, the latest."""

    def __init__(self) -> None:
        self.held: ByteCache[Held] = ByteCache(HEADERS, lambda held: held.nbytes)

    def read(self, group: Sequence[Series]) -> tuple[Instance, ...]:
        """The instances of a series.

        Raises:
            BadVolume: a file that is not readable.
        """
        key, state = tuple(one.id for one in group), tuple(one.state for one in group)
        held = self.held.get(key, state)
        if held is None:
            instances = tuple(read_instance(path) for path in _paths(group))
            # objects take about ten times their text
            held = Held(instances, 10 * sum(len(one.json) for one in instances))
            self.held.put(key, state, held)
        return held.instances


@dataclass(frozen=True)
class FileSeries(ServedSeries):
    """A series of files, which may hold several images."""

    group: tuple[Series, ...]
    """Its images, or the segmentation."""
    headers: HeaderCache
    """Where headers are kept."""

    @property
    def modality(self) -> str:
        return str(self.group[0].header.get("Modality", "OT"))

    @property
    def count(self) -> int:
        return len(_paths(self.group))

    @property
    def attributes(self) -> Attributes:
        return read_instance(self.group[0].paths[0]).attributes

    def instances(self) -> tuple[Instance, ...]:
        return self.headers.read(self.group)


def _paths(group: Sequence[Series]) -> list[Path]:
    return list(dict.fromkeys(path for series in group for path in series.paths))


class VoxelCache:
    """Images in 16 bits and their metadata, the latest."""

    def __init__(self) -> None:
        self.voxels: ByteCache[SixteenBits] = ByteCache(VOXELS, lambda held: held.nbytes)
        self.metadata: ByteCache[tuple[str, ...]] = ByteCache(HEADERS, lambda held: sum(map(len, held)))
        self.reading = LockByName(READERS, "series")

    def read(self, virtual: VirtualSeries) -> SixteenBits:
        """(slices, rows, columns) of an image.

        Raises:
            BadVolume, BadGrid, NotFound: it cannot be read.
        """
        with self.reading.hold(virtual.uid):
            state = virtual.series.state
            voxels = self.voxels.get(virtual.uid, state)
            if voxels is None:
                array, slope, intercept = read_stored(virtual.series)
                voxels = SixteenBits.of(array, slope, intercept)
                slices = np.ascontiguousarray(virtual.layout.arrange(voxels.array))
                voxels = replace(voxels, array=slices)
                self.voxels.put(virtual.uid, state, voxels)
            return voxels

    def texts(self, virtual: VirtualSeries) -> tuple[str, ...]:
        """The metadata of each slice, as JSON.

        Raises:
            As `read`.
        """
        state = virtual.series.state
        texts = self.metadata.get(virtual.uid, state)
        if texts is None:
            every = virtual.described(self.read(virtual))
            texts = tuple(json.dumps(one, allow_nan=False, separators=(",", ":")) for one in every)
            self.metadata.put(virtual.uid, state, texts)
        return texts


@dataclass(frozen=True)
class ImageInstance:
    """A slice of an image that is no DICOM."""

    virtual: VirtualSeries
    """Of which image."""
    k: int
    """Which slice."""
    uid: str
    """SOPInstanceUID."""
    attributes: Attributes
    """What the image's header tells."""
    cache: VoxelCache
    """Where voxels are kept."""

    @property
    def json(self) -> str:
        """All metadata, for which the voxels are read: their slope and window are part of it."""
        return self.cache.texts(self.virtual)[self.k]

    def frames(self, numbers: Sequence[int]) -> tuple[list[bytes | memoryview], str]:
        """The pixels of the slice, which is its only frame.

        Raises:
            NotFound: another frame.
            BadVolume, BadGrid: the image cannot be read.
        """
        if set(numbers) != {1}:
            raise NotFound(
                f"instance {self.uid} has 1 frame, counted from 1; asked for "
                f"{', '.join(map(str, numbers))[:100]}"
            )
        return [self.cache.read(self.virtual).array[self.k].tobytes()], EXPLICIT

    def content(self) -> bytes:
        """The slice as a DICOM file."""
        return self.virtual.file(self.k, self.cache.read(self.virtual))


@dataclass(frozen=True)
class ImageSeries(ServedSeries):
    """An image that is no DICOM."""

    virtual: VirtualSeries
    """The image."""
    cache: VoxelCache
    """Where voxels are kept."""

    @property
    def modality(self) -> str:
        return str(self.virtual.common.Modality)

    @property
    def count(self) -> int:
        return self.virtual.layout.grid.shape[2]

    @property
    def attributes(self) -> Attributes:
        return self.virtual.attributes[0]

    def instances(self) -> list[ImageInstance]:
        virtual = self.virtual
        return [
            ImageInstance(virtual, k, uid, virtual.attributes[k], self.cache)
            for k, uid in enumerate(virtual.instance_uids)
        ]
