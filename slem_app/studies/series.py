"""A series: one image of a study as it lies on disk. A study: the series of one case.

Nothing is read when they are made: `header` and `grid` read headers, once, when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from slem_app.errors import BadVolume, NotFound
from slem_app.studies import dicom_header, dicom_slices, nifti_header
from slem_app.types import Grid

__all__ = ["Origin", "Series", "Study"]


class Origin(Protocol):
    """Where the files of a series come from, if they do not lie here all the time."""

    @property
    def state(self) -> Hashable:
        """Changes when the series does."""

    def here(self) -> AbstractContextManager[object]:
        """While it lasts, all files of the series are where its `paths` say."""


@dataclass(frozen=True)
class Series:
    """One 3D image: a NIfTI file, a channel of a 4D NIfTI file, the files of a DICOM series, or a stack of
    PNG files drawn on one.

    Example:
        >>> Series("t1ce", (Path("case_t1ce.nii.gz"),), "nifti", "t1ce").format
        'nifti'
    """

    id: str
    """Unique in its study: a suffix ('t1ce', '0000'), a file name without its ending, or the
    SeriesInstanceUID.
    """
    paths: tuple[Path, ...]
    """The NIfTI file, the DICOM files in the order of the grid's K axis, or the PNG files in the order of
    their names.
    """
    format: str
    """'nifti', 'dicom' or 'png'."""
    name: str
    """What the rules of grouping read: file name, suffix, channel name or SeriesDescription."""
    channel: int | None = None
    """Index on the fourth axis of a 4D NIfTI file; None for a 3D file."""
    on: Series | None = None
    """PNG only: the DICOM series that the files are drawn on, one a slice."""
    origin: Origin | None = field(default=None, compare=False, repr=False)
    """Where the files are fetched from when they are needed; None: they lie at `paths`."""

    @classmethod
    def described(
        cls,
        id: str,
        name: str,
        header: Mapping[str, Any],
        paths: tuple[Path, ...] = (),
        slices: tuple[dicom_header.Header, ...] = (),
        origin: Origin | None = None,
    ) -> Series:
        """A DICOM series whose headers have been read already, from files or from a PACS.

        Of the slices only their order and their grid are kept, or what is wrong with them, so that a server
        can hold thousands of series.
        """
        series = cls(id, paths, "dicom", name, origin=origin)
        known: dict[str, Any] = {"header": dict(header)}
        if slices:
            known["frames"] = tuple((part["path"], part["frame"]) for part in slices)
            try:
                known["grid"] = dicom_slices.grid(slices, str(series))
            except BadVolume as error:
                known["trouble"] = str(error)
        vars(series).update(known)
        return series

    def __str__(self) -> str:
        return f"series {self.name!r} ({self.id})"

    def _slices(self) -> tuple[dicom_header.Header, ...]:
        """One header a DICOM slice, along the K axis of the grid."""
        return dicom_slices.in_order([part for path in self.paths for part in dicom_header.read_slices(path)])

    @cached_property
    def frames(self) -> tuple[tuple[Path, int], ...]:
        """DICOM only: (file, frame in the file) of every slice along the K axis of the grid.

        Raises:
            BadVolume: a file that is not DICOM.
        """
        return (
            tuple((part["path"], part["frame"]) for part in self._slices()) if self.format == "dicom" else ()
        )

    @cached_property
    def header(self) -> Mapping[str, Any]:
        """Header fields by their DICOM keywords, times in ms; of a NIfTI file those of the JSON file beside
        it, if there is one.

        NumberOfSlices and NumberOfOrientations are counted over the files.

        Raises:
            BadVolume: a file that is not DICOM.
        """
        if self.format == "dicom":
            return dicom_slices.summary(self._slices())
        if self.on is not None:
            return {}
        return nifti_header.sidecar(self.paths[0])

    @cached_property
    def grid(self) -> Grid:
        """Shape and affine, from headers alone.

        Raises:
            BadVolume: truncated, not an image, 4D without a channel, slices that make no volume.
        """
        if not self.paths:
            raise BadVolume(f"series {self.id!r} has no files here: only its header is known")
        if "trouble" in vars(self):
            raise BadVolume(vars(self)["trouble"])
        if self.format == "dicom":
            return dicom_slices.grid(self._slices(), str(self))
        if self.on is not None:
            return self.on.grid
        return nifti_header.grid(self.paths[0], self.channel)

    @contextmanager
    def files(self) -> Iterator[tuple[Path, ...]]:
        """The files, fetched first where they are elsewhere; they stay as long as this lasts.

        Raises:
            NotFound: a file is gone.
            PacsFailed: the PACS does not hand them out.
        """
        if self.origin is not None:
            with self.origin.here():
                yield self.paths
            return
        for path in self.paths:
            if not Path(path).exists():
                raise NotFound(f"{self.id}: the file {Path(path).name} is gone")
        yield self.paths

    @property
    def state(self) -> Hashable:
        """Changes when a file of the series does: times and sizes, or what the PACS says of it.

        Raises:
            NotFound: a file is gone.
        """
        if self.origin is not None:
            return self.origin.state
        try:
            return tuple((stat.st_mtime_ns, stat.st_size) for stat in (path.stat() for path in self.paths))
        except FileNotFoundError as error:
            raise NotFound(f"series {self.id}: the file {Path(error.filename).name} is gone") from error


@dataclass(frozen=True)
class Study:
    """One case: its images, and the label map that came with it."""

    id: str
    """Unique in its source; a plain name, never a path."""
    layout: str
    """Naming scheme of the files, e.g. 'brats2018'; with the label values it decides their coding."""
    root: Path
    """Folder of the case's files."""
    series: tuple[Series, ...]
    """Every image of the case, in the order of their ids."""
    label: Series | None = None
    """The reference segmentation, if there is exactly one."""
    coding: str | None = None
    """How the label's values are coded, if the user has declared it; see `labels.decide_coding`."""
    rules: Path | None = None
    """The rules file of grouping that the studies folder declares."""
    parts: tuple[Study, ...] = ()
    """Some of the series with a segmentation of their own, each as a study: those that were taken in another
    breath-hold.
    """
    by_hand: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Sequence -> id of the series that a person chose to be it; empty id: none is to be."""

    def find(self, id: str) -> Series | None:
        """The series called `id`, or None."""
        return next((series for series in self.series if series.id == id), None)
