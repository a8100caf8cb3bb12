"""What a volume is that a client sends: a case of this server, with all its sequences, or a stranger's.

Of a stranger's volume the client says neither how the head lies nor what the sequence is. Its axes are taken
as ITK reads an axial image, [slices upward, rows to posterior, columns to left]; the setting
`nninteractive_axes` says otherwise. The sequence is in the address, or assumed with a warning.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slem_app.errors import BadVolume, NotFound
from slem_app.formats.image import write_image
from slem_app.serving.cases.axis_order import AxisOrder
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.known_volumes import KnownVolumes
from slem_app.serving.cases.models_for_case import fitting
from slem_app.serving.cases.sessions import UploadSessions
from slem_app.types import Grid
from slem_app.weights import Card

__all__ = ["OpenedVolume", "VolumeOpener"]

logger = logging.getLogger(__name__)

WORLD = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}


@dataclass(frozen=True, eq=False)
class OpenedVolume:
    """A volume, and how the model gets it."""

    name: str
    """For messages."""
    models: tuple[str, ...]
    """The models that are for it, the first choice first."""
    image: Grid
    """Of the image."""
    order: AxisOrder
    """How the client's axes lie on it."""
    image_id: str = ""
    """Of a case."""
    session: str = ""
    """Of any other: the upload that holds it."""
    file: Path | None = None
    """Its file."""
    sequence: str | None = None
    """What it is, where somebody says so."""


class VolumeOpener:
    """Opens the volumes of clients.

    Args:
        cases: of the server.
        known: recognises them.
        sessions: where the volumes of strangers are kept.
        axes: how these lie, three of the letters L or R, P or A, I or S: the side to which each axis runs.
        seconds: without a request after which such a volume is removed, should nobody discard it.
    """

    def __init__(
        self, cases: Cases, known: KnownVolumes, sessions: UploadSessions, axes: str, seconds: int
    ) -> None:
        self.cases, self.known, self.sessions = cases, known, sessions
        self.axes, self.seconds = axes, seconds

    def open(
        self,
        array: np.ndarray,
        spacing: Sequence[float] | None,
        cards: Mapping[str, Card],
        sequence: str = "",
    ) -> OpenedVolume:
        """Find out what a volume is.

        Args:
            array: (3 axes) values.
            spacing: mm along them; None: not said.
            cards: of the models, by name.
            sequence: what it is if it is no case; empty: nobody says.

        Raises:
            BadVolume: NaN in it, or every voxel the same.
            StorageFailed: the disk refused.
        """
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadVolume("the image holds NaN or infinite values: replace them with the background value")
        if array.min() == array.max():
            raise BadVolume(f"the image is empty: every voxel has the value {array.flat[0]:g}")
        found = self.known.find(array)
        if found is None:
            return self._stranger(array, spacing, tuple(cards), sequence)
        case = self.cases.find(f"{found.case}/{found.sequence}")
        logger.info("a client's volume is %s/%s", found.case, found.sequence)
        fits = fitting(case.grouping, cards)
        image_id = f"{found.case}/{found.sequence}"
        return OpenedVolume(f"case {found.case}", fits, case.series.grid, found.order, image_id)

    def discard(self, volume: OpenedVolume) -> None:
        """Take away what was kept of a volume."""
        if volume.session:
            self.sessions.remove_session(volume.session)

    def used(self, volume: OpenedVolume) -> None:
        """Note that a volume is in use.

        Raises:
            NotFound: it is gone.
        """
        if volume.session and self.sessions.get_session(volume.session) is None:
            raise NotFound("the image of this session was removed: send it again")

    def _stranger(
        self, array: np.ndarray, spacing: Sequence[float] | None, models: tuple[str, ...], sequence: str
    ) -> OpenedVolume:
        affine = np.zeros((4, 4))
        affine[3, 3] = 1.0
        for axis, letter in enumerate(self.axes):
            world, sign = WORLD[letter]
            affine[world, axis] = sign * (1.0 if spacing is None else spacing[axis])
        grid = Grid((array.shape[0], array.shape[1], array.shape[2]), affine)
        with tempfile.TemporaryDirectory(prefix="slem-nninteractive-") as folder:
            file = write_image(array.astype(np.float32), grid, Path(folder) / "volume.nii")
            session = self.sessions.add_session(file, self.seconds)
        return OpenedVolume(
            "the volume that was sent, which is none of this server's cases",
            models,
            grid,
            AxisOrder(),
            session=session.name,
            file=Path(session.image),
            sequence=sequence or None,
        )
