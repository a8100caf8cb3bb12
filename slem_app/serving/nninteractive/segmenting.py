"""What one client segments: an image, an object, what it has said so far, and what it was shown.

All clicks, scribbles and masks are kept here in their order and given whole with every request to the model's
click tool (`models.interactive`), which does the work and remembers its steps. So to take the last thing back
is to leave it out: the tool finds the earlier result among its steps, or makes it again where they were given
up. Nothing here waits or locks: whoever calls is alone with it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from slem_app.errors import BadPrompt, BadStudy, NotFound, SlemError
from slem_app.prompts import Box, Mask, Prompts
from slem_app.result_warning import ResultWarning
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.models.inference import InferAnswer, InferRequest
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.nninteractive.objects import Entry, SegmentedObject, object_names
from slem_app.serving.nninteractive.opening import OpenedVolume, VolumeOpener
from slem_app.serving.server import Serving
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box

__all__ = ["ConnectionTarget", "ScreenChange", "Segmenting", "click_models"]

logger = logging.getLogger(__name__)

MOST = 300  # clicks and scribbles of one object
BEYOND = "the session has no image: connect again, and send one"


@dataclass(frozen=True)
class ConnectionTarget:
    """What the address says that a client connects to."""

    object: str = ""
    """Name of a region or label; empty: the model's first region."""
    sequence: str = ""
    """What a volume that is no case is; empty: the model's first sequence."""


@dataclass(frozen=True, eq=False)
class ScreenChange:
    """What changed on the client's screen."""

    ran: bool
    """Whether there was anything to do."""
    box: list[list[int]] | None = None
    """[first, end) along each of the client's axes outside which nothing changed; None: nothing did."""
    part: np.ndarray | None = None
    """uint8, the object in that box."""
    warnings: tuple[ResultWarning, ...] = ()
    """Why the result may be wrong."""


@dataclass(frozen=True, eq=False)
class Said:
    """All that a client has said of an object, at one moment."""

    prompts: Prompts = field(default_factory=Prompts)
    """What counts."""
    coming: Prompts = field(default_factory=Prompts)
    """What is to count from the next prediction on."""
    waits: bool = False
    """Something was said since the last one."""
    shows: bool = False
    """The object is shown; before the first prompt it is not."""


@dataclass(frozen=True, eq=False)
class Opened:
    """An image on which something is segmented."""

    volume: OpenedVolume
    """Where it is from."""
    model: str
    """The click tool that segments it."""
    object: SegmentedObject
    """What is segmented."""
    image: Grid
    """Of the image."""


def click_models(serving: Serving) -> dict[str, InteractiveTask]:
    """The click tools of a server, by the name under which clients know them."""
    return {
        name: task
        for name, task in serving.tasks.items()
        if isinstance(task, InteractiveTask) and task.kind is TaskKind.CLICKS
    }


class Segmenting:
    """One client's work.

    Args:
        serving: the server.
        opener: finds out what volumes are.
        target: what its address says.
        client_id: what tells its work from that of others.

    Raises:
        NotFound: no model has such an object, or knows such a sequence.
    """

    def __init__(
        self, serving: Serving, opener: VolumeOpener, target: ConnectionTarget, client_id: str
    ) -> None:
        self.serving, self.opener, self.target, self.client_id = serving, opener, target, client_id
        self.reader = reader_of(client_id)
        self.models = _with_target(serving, target)
        self.opened: Opened | None = None
        self.closed = threading.Event()
        self._forget()

    def _forget(self) -> None:
        self.said, self.before = Said(), list[Said]()
        self.map: np.ndarray | None = None  # (I, J, K) label map that the tool made last
        self.seen: np.ndarray | None = None  # what the client has of the object, its axes
        self.automatic: np.ndarray | None = None

    def recognise(self, array: np.ndarray, spacing: Sequence[float] | None) -> OpenedVolume:
        """Find out what a volume is, which needs no network.

        Args:
            array: (3 axes) values of a volume.
            spacing: mm along them; None: not said.

        Raises:
            SlemError: it cannot be used.
        """
        cards = {name: task.predictor.card for name, task in self.models.items()}
        return self.opener.open(array, spacing, cards, self.target.sequence)

    def begin(self, volume: OpenedVolume) -> None:
        """Begin with an image: segment it automatically, so that the first point is answered at once.

        Raises:
            SlemError: no model here is for it, or it cannot be used.
        """
        self.leave()
        try:
            self.opened = self._begun(volume)
            self._shown(self._infer(Prompts()))
        except SlemError:
            self.leave()
            self.opener.discard(volume)
            raise
        self.automatic = self.map

    def _begun(self, volume: OpenedVolume) -> Opened:
        model = next(iter(self._serving_models(volume)))
        task = self.models[model]
        labels = task.predictor.card.labels
        return Opened(volume, model, SegmentedObject.named(self.target.object, labels), volume.image)

    def _serving_models(self, volume: OpenedVolume) -> tuple[str, ...]:
        """The click tools that are for a volume, the first choice first."""
        fits = tuple(name for name in volume.models if name in self.models)
        if not fits:
            wanted = f" with the object {self.target.object!r}" if self.target.object else ""
            raise BadStudy(
                f"no click tool{wanted} of this server is for {volume.name}: there are "
                f"{', '.join(self.models)}"
            )
        return fits

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Of the image, the client's axes; None without one."""
        if self.opened is None:
            return None
        axes, shape = self.opened.volume.order.axes, self.opened.image.shape
        return triple(shape[axes.index(axis)] for axis in range(3))

    def point(self, index: Sequence[int], positive: bool, run: bool) -> ScreenChange:
        """A point, in the client's voxels."""
        one = self._open()
        place = one.volume.order.index_to_image(triple(index), one.image.shape)
        return self._add(one.object.point(place, positive, self._map(), one.image), run)

    def scribble(self, painted: np.ndarray, positive: bool, run: bool) -> ScreenChange:
        """Painted voxels; (the client's axes) bool."""
        one = self._open()
        if not painted.any():
            raise BadPrompt("the scribble paints no voxel: paint some")
        mask = np.asarray(one.volume.order.to_image(painted))
        return self._add(one.object.scribble(mask, positive, self._map(), one.image), run)

    def outline(self, inside: np.ndarray, positive: bool, run: bool) -> ScreenChange:
        """What a lasso encloses; (the client's axes) bool."""
        one = self._open()
        if not inside.any():
            raise BadPrompt("the lasso encloses no voxel: draw a larger one")
        mask = np.ascontiguousarray(one.volume.order.to_image(inside))
        return self._add(one.object.outline(mask, positive, self._map(), one.image), run)

    def box(self, low: Sequence[int], high: Sequence[int], positive: bool, run: bool) -> ScreenChange:
        """A box between two of the client's voxels, both included: one of several slices limits the object,
        any other is an outline.
        """
        one = self._open()
        shape = one.image.shape
        ends = [one.volume.order.index_to_image(triple(end), shape) for end in (low, high)]
        first, last = np.min(ends, axis=0), np.max(ends, axis=0)
        limits = one.object.box(first.tolist(), last.tolist(), one.image)
        if positive and (last > first).all():
            return self._add((), run, limits)
        first, last = np.maximum(first, 0), np.minimum(last, np.array(shape) - 1)
        inside = np.zeros(shape, dtype=bool)
        inside[tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))] = True
        return self._add(one.object.outline(inside, positive, self._map(), one.image), run)

    def start_from(self, mask: np.ndarray, run: bool) -> ScreenChange:
        """A segmentation in place of all that was said; (the client's axes) bool. It is shown as it is."""
        one = self._open()
        assert self.automatic is not None
        object_map = one.object.label_map(
            np.asarray(one.volume.order.to_image(mask)), self._map() if self.said.shows else self.automatic
        )
        prompts = Prompts(mask=Mask(object_map, one.image))
        self._note(Said(prompts, prompts, shows=True))
        self.map, self.seen = object_map, mask.astype(np.uint8)
        return ScreenChange(run)

    def predict(self) -> ScreenChange:
        """Let what waits count."""
        self._open()
        if not self.said.waits:
            return ScreenChange(False)
        prompts = self.said.coming
        answer = self._infer(prompts)
        self.said = Said(prompts, prompts, shows=True)
        return self._shown(answer)

    def undo(self) -> ScreenChange:
        """Take the last thing back."""
        self._open()
        if not self.before:
            return ScreenChange(False)
        earlier, now = self.before[-1], self.said
        if earlier.prompts is now.prompts and earlier.shows == now.shows:
            self.said = self.before.pop()
            return ScreenChange(True)
        answer = self._infer(earlier.prompts)
        self.said = self.before.pop()
        return self._shown(answer)

    def reset(self) -> None:
        """Forget what was said of the object; the image stays."""
        automatic = self.automatic
        self.serving.memory.forget(self.reader)
        self._forget()
        self.map = self.automatic = automatic

    def leave(self) -> None:
        """Forget the image, too."""
        self.serving.memory.forget(self.reader)
        if self.opened is not None:
            self.opener.discard(self.opened.volume)
        self.opened = None
        self._forget()

    def close(self) -> None:
        """The end."""
        self.closed.set()
        self.leave()

    def _open(self) -> Opened:
        if self.opened is None:
            raise BadPrompt(BEYOND)
        return self.opened

    def _map(self) -> np.ndarray:
        assert self.map is not None  # since `open`
        return self.map

    def _note(self, said: Said) -> None:
        self.before.append(self.said)
        self.said = said

    def _add(self, entries: tuple[Entry, ...], run: bool, box: Box | None = None) -> ScreenChange:
        """Note what was said now, and answer where that is wanted."""
        now = self.said
        prompts = replace(now.coming, entries=(*now.coming.entries, *entries), box=box or now.coming.box)
        if len(prompts.entries) > MOST:
            raise BadPrompt(
                f"an object has at most {MOST} points and scribbles: reset, or go on with a new one"
            )
        if not run:
            self._note(replace(now, coming=prompts, waits=True))
            return ScreenChange(False)
        answer = self._infer(prompts)
        self._note(Said(prompts, prompts, shows=True))
        return self._shown(answer)

    def _infer(self, prompts: Prompts) -> InferAnswer:
        one = self._open()
        self.opener.used(one.volume)
        request = InferRequest(
            model=one.model,
            image=one.volume.image_id,
            volume=one.volume.file,
            client_id=self.client_id,
            sequence=one.volume.sequence,
            reply=None,
            prompts=prompts,
        )
        answer = self.serving.infer(request)
        if self.closed.is_set():  # meanwhile: nothing may be left
            self.serving.memory.forget(self.reader)
        return answer

    def _shown(self, answer: InferAnswer) -> ScreenChange:
        """What of the answer is new to the client."""
        one = self._open()
        self.map = answer.prediction.array
        found = one.object.mask(self.map) if self.said.shows else np.zeros(one.image.shape, dtype=bool)
        now = np.ascontiguousarray(one.volume.order.to_client(found).astype(np.uint8))
        was = np.zeros_like(now) if self.seen is None else self.seen
        self.seen = now
        box = bounding_box(now != was)
        if any(part.stop <= part.start for part in box):
            return ScreenChange(True, warnings=answer.facts.warnings)
        ends = [[int(part.start), int(part.stop)] for part in box]
        return ScreenChange(True, ends, now[box], answer.facts.warnings)


def _with_target(serving: Serving, target: ConnectionTarget) -> dict[str, InteractiveTask]:
    """The click tools that have the target's object and know its sequence."""
    tools = click_models(serving)
    fits = {
        name: task
        for name, task in tools.items()
        if (not target.object or target.object in object_names(task.predictor.card.labels))
        and (not target.sequence or target.sequence in task.predictor.card.sequences)
    }
    if fits:
        return fits
    known = "; ".join(
        f"{name}: {', '.join(object_names(task.predictor.card.labels))} on "
        f"{', '.join(task.predictor.card.sequences)}"
        for name, task in tools.items()
    )
    raise NotFound(
        f"no object {target.object!r}{f' on {target.sequence}' if target.sequence else ''} here: "
        f"{known or 'this server has no model that follows clicks'}"
    )
