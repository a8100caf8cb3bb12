"""A reader's work on one case: what is shown, the prompts behind it, and the ways back and forth.

Every request carries all prompts and the label map as the reader sees it, edits of the Segment Editor
included. So no click can lose an edit, and a server that was started again goes on from what is seen. What
the reader changes while a request is on its way is kept over the answer.

A request is made in three steps: `ask` (beside the scene), `send` (in any thread), `take` (beside the scene).
Arrays are (K, J, I) uint8 label values; voxels are (i, j, k).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import labelmap
from .client import Client, Reply, ServerError

__all__ = ["BACKGROUND", "Case", "Drawn", "Prompts", "Request", "Session"]

BACKGROUND = "background"


@dataclass(frozen=True)
class Case:
    """What a case is, and which model is for it."""

    name: str
    """Its id."""
    sequences: tuple[str, ...]
    """Those that it has."""
    reference: str
    """The one on whose grid the segmentation lies."""
    model: str
    """Whose labels these are."""
    tool: str
    """The same model, following clicks; `model` where there is no such tool."""
    labels: tuple[str, ...]
    """Names by value, value 1 first."""
    colors: Mapping[str, tuple[int, int, int]]
    """By label, sRGB 0 to 255."""
    warnings: tuple[str, ...] = ()
    """What is wrong with its images."""
    reaches: bool = False
    """Whether the answer to a prompt can be changed by its reach."""

    @property
    def image(self) -> str:
        """Id of the image on which the segmentation lies."""
        return f"{self.name}/{self.reference}"

    @property
    def follows(self) -> bool:
        """Whether the model can be corrected by clicks."""
        return self.tool != self.model

    @classmethod
    def of(cls, name: str, facts: Mapping[str, Any], info: Mapping[str, Any]) -> Case:
        """From what the server says of a case and of its models.

        Raises:
            ServerError: no model of this server is for it.
        """
        models = [model for model in facts.get("models", ()) if model in info.get("models", {})]
        if not models:
            raise ServerError(f"no model of this server is for {name}: its page says which series it has")
        model = models[0]
        about, tool = info["models"][model], f"{model}_clicks"
        values = about["labels"]
        labels = tuple(sorted(values, key=values.__getitem__))
        colors = about.get("colors", {})
        return cls(
            name=name,
            sequences=tuple(facts["sequences"]),
            reference=str(facts["sequence"]),
            model=model,
            tool=tool if tool in info["models"] else model,
            labels=labels,
            colors={label: tuple(colors.get(label, (255, 0, 0))) for label in labels},
            warnings=tuple(str(one["text"]) for one in facts.get("warnings", ())),
            reaches=bool(info["models"].get(tool, {}).get("reaches")),
        )


@dataclass(frozen=True)
class Drawn:
    """One prompt: a click, or a stroke."""

    label: str
    """A label, or BACKGROUND: here is nothing."""
    voxels: tuple[tuple[int, int, int], ...] = ()
    """The voxel of a click; empty for a stroke."""
    runs: tuple[tuple[int, int, int, int], ...] = ()
    """The voxels of a stroke, runs along I."""
    outline: bool = False
    """The stroke is all that a lasso, or a closed scribble, encloses."""
    reach: float = field(default=0.0, compare=False)
    """How far the answer goes, -1 less to 1 more; prompts are told apart without it, as the server does."""


@dataclass(frozen=True)
class Prompts:
    """What the reader has asked for."""

    drawn: tuple[Drawn, ...] = ()
    """Clicks and strokes, in the order in which they came."""
    box: tuple[int, ...] | None = None
    """i1, i2, j1, j2, k1, k2, between which labels may be; None: anywhere."""

    def flipped(self, along: tuple[bool, bool, bool], size: Sequence[int]) -> Prompts:
        """The same in the voxels of an image of `size` that runs against this one along some of I, J, K."""

        def turn(voxel: Sequence[int], length: int = 1) -> tuple[int, ...]:
            first = (length, 1, 1)
            turned = zip(voxel, along, size, first)
            return tuple(n - at - many if against else at for at, against, n, many in turned)

        drawn = tuple(
            replace(
                one,
                voxels=tuple(turn(voxel) for voxel in one.voxels),
                runs=tuple((*turn(run[:3], run[3]), run[3]) for run in one.runs),
            )
            for one in self.drawn
        )
        ends = None if self.box is None else zip(turn(self.box[::2]), turn(self.box[1::2]))
        return Prompts(drawn, None if ends is None else tuple(end for pair in ends for end in pair))

    def fields(self, labels: Sequence[str]) -> dict[str, object]:
        """As the server reads them: every label's clicks, the strokes, the box."""
        points: dict[str, list] = {name: [] for name in (*labels, BACKGROUND)}
        for one in self.drawn:
            points[one.label] += [list(voxel) for voxel in one.voxels]
        strokes = [
            {"label": one.label, "runs": [*map(list, one.runs)], "outline": one.outline}
            | ({"reach": one.reach} if one.reach else {})
            for one in self.drawn
            if one.runs
        ]
        reaches = [
            {"label": one.label, "voxel": list(voxel), "reach": one.reach}
            for one in self.drawn
            for voxel in one.voxels
            if one.reach
        ]
        box = {} if self.box is None else {"roi": list(self.box)}
        return {**points, "scribbles": strokes, **({"reaches": reaches} if reaches else {}), **box}


@dataclass(frozen=True)
class Request:
    """One request on its way."""

    prompts: Prompts
    """With the new ones."""
    shown: np.ndarray | None
    """The label map when it was asked; None: nothing is shown yet."""
    what: str = "segment"
    """'segment', 'undo', 'redo' or 'start_over'."""
    forget: Prompts | None = None
    """What has to be sent before, so that the server takes a prompt that was undone for a new one."""


@dataclass
class Session:
    """The work on one case.

    Args:
        client: where it is done.
        case: which.
        matrix: of the displayed image, voxel indices to RAS mm.
        shape: of the displayed image, (K, J, I).
    """

    client: Client
    case: Case
    matrix: np.ndarray
    shape: tuple[int, int, int]
    prompts: Prompts = field(default_factory=Prompts)
    answered: np.ndarray | None = None
    """The label map as it was last answered."""
    automatic: np.ndarray | None = None
    """The model's own, where it was seen."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the server told with it."""
    trust: Mapping[str, Any] | None = None
    """What the model said of its own result: places to check; kept while the reader works on it."""
    edit: np.ndarray | None = None
    """The reader's edit that was undone last and can be done again."""
    trail: dict[int, Prompts] = field(default_factory=dict)
    """By the number of steps that the server remembers: the prompts then."""
    stored: np.ndarray | None = None
    """Matrix of the image as the server has it; None: not known yet."""
    along: tuple[bool, bool, bool] = (False, False, False)
    """Along which of I, J, K the server's voxels run against those that are shown."""
    stale: frozenset[Drawn] = frozenset()
    """Prompts that were undone, which the server holds undone until a request without them."""

    # asking

    def ask(self, shown: np.ndarray | None, *new: Drawn) -> Request:
        """A request with further prompts.

        Args:
            shown: the label map that the reader sees.
            new: what was clicked or drawn.
        """
        prompts = replace(self.prompts, drawn=tuple(dict.fromkeys((*self.prompts.drawn, *new))))
        forget = self.prompts if self.stale & set(new) else None
        return Request(prompts, shown, forget=forget)

    def ask_box(self, shown: np.ndarray | None, box: tuple[int, ...] | None) -> Request:
        """A request with another box, or none."""
        return Request(replace(self.prompts, box=box), shown)

    def ask_reach(self, shown: np.ndarray, by: float) -> Request:
        """A request in which the last click or stroke reaches farther, or less far where `by` is negative.

        Raises:
            ServerError: there is none, the reader has edited since, or it can go no further.
        """
        *before, last = self.prompts.drawn or (None,)
        if last is None:
            raise ServerError("there is no click or stroke whose reach could be changed")
        if self.answered is None or not np.array_equal(shown, self.answered):
            raise ServerError("you have edited the segmentation since the last click: undo the edit first")
        reach = min(1.0, max(-1.0, last.reach + by))
        if reach == last.reach:
            raise ServerError(
                f"the last click or stroke reaches {'more' if by > 0 else 'less'} at most like this"
            )
        return Request(replace(self.prompts, drawn=(*before, replace(last, reach=reach))), shown)

    def ask_step(self, what: str, shown: np.ndarray) -> Request:
        """A request for 'undo', 'redo' or 'start_over'."""
        return Request(Prompts() if what == "start_over" else self.prompts, shown, what)

    def undo_edit(self, shown: np.ndarray) -> np.ndarray | None:
        """What is shown after the reader's own edit since the last answer is taken back; None: there is no
        such edit, so that undo is the server's.
        """
        if self.answered is None or np.array_equal(shown, self.answered):
            return None
        self.edit = shown
        return self.answered

    def redo_edit(self, shown: np.ndarray) -> np.ndarray | None:
        """The edit that was taken back last; None: there is none, so that redo is the server's."""
        edit, self.edit = self.edit, None
        return edit if edit is not None and np.array_equal(shown, self.answered) else None

    # sending

    def send(self, request: Request) -> Reply:
        """The server's answer; touches nothing of this session.

        Raises:
            ServerError: it refuses.
        """
        case = self.case
        if request.what in ("undo", "redo"):
            return self.client.step(request.what, case.tool, case.image)
        if not case.follows:
            return self.client.segment(case.tool, case.image, {}, None)
        if request.what == "start_over":
            return self._start_over(request)
        label = None if request.shown is None else self.file(request.shown)
        if request.forget is not None:
            self.client.segment(case.tool, case.image, self._fields(request.forget), label)
        return self.client.segment(case.tool, case.image, self._fields(request.prompts), label)

    def _start_over(self, request: Request) -> Reply:
        """The automatic segmentation; what was shown becomes a step before, so that undo brings it back."""
        case = self.case
        if request.shown is not None:
            label = self.file(request.shown)
            self.client.segment(case.tool, case.image, self._fields(self.prompts), label)
        return self.client.step("start_over", case.tool, case.image)

    def _fields(self, prompts: Prompts) -> dict[str, object]:
        names = [{"name": name} for name in self.case.labels]
        own = prompts.flipped(self.along, self.shape[::-1])
        return {**own.fields(self.case.labels), "label_info": names}

    def file(self, shown: np.ndarray) -> bytes:
        """What is shown as a file, on the server's own voxels."""
        matrix = self.matrix if self.stored is None else self.stored
        return labelmap.write(labelmap.flipped(shown, self.along), matrix)

    def placed(self, content: bytes, ending: str) -> np.ndarray:
        """A label map of the server on the voxels that are shown.

        Raises:
            ServerError: it lies elsewhere.
        """
        array, matrix = labelmap.read(content, ending)
        along = labelmap.flips(self.shape, matrix, self.matrix) if array.shape == self.shape else None
        if along is None:
            raise ServerError("the answer lies elsewhere than the image that is shown: open the case again")
        self.stored, self.along = matrix, along
        return np.ascontiguousarray(labelmap.flipped(array, along))

    # answers

    def take(self, request: Request, reply: Reply, shown: np.ndarray | None) -> np.ndarray:
        """What is to be shown: the answer, and over it what the reader changed since the request.

        Raises:
            ServerError: the answer lies elsewhere than the image.
        """
        array = self.placed(reply.file, ".nrrd")
        self._note(request, reply.facts)
        self.answered, self.facts, self.edit = array, reply.facts, None
        self.trust = reply.facts.get("trust") or self.trust
        untouched = not self.prompts.drawn and not reply.facts.get("steps")
        if request.what == "start_over" or (self.automatic is None and untouched):
            self.automatic = array
        if request.shown is None or shown is None or np.array_equal(shown, request.shown):
            return array
        return np.where(shown != request.shown, shown, array)

    def began_with(self, array: np.ndarray) -> None:
        """A label that was saved before is shown; what is asked next is asked of it."""
        self.answered = array

    def volumes(self, shown: np.ndarray) -> dict[str, float]:
        """Ml of each label."""
        counts = np.bincount(shown.ravel(), minlength=len(self.case.labels) + 1)
        ml = abs(np.linalg.det(self.matrix[:3, :3])) / 1000
        return {name: float(counts[value] * ml) for value, name in enumerate(self.case.labels, 1)}

    def unchanged(self, shown: np.ndarray) -> bool:
        """Whether the label map is the model's own, so that saving it confirms it."""
        return self.automatic is not None and np.array_equal(shown, self.automatic)

    def _note(self, request: Request, facts: Mapping[str, Any]) -> None:
        """The prompts that are in effect after an answer, by the number of the server's steps."""
        steps, before = int(facts.get("steps") or 0), self.prompts
        if request.what in ("undo", "redo"):
            known = [number for number in self.trail if number <= steps]
            self.prompts = self.trail[max(known)] if known else before
            gone = set(before.drawn) - set(self.prompts.drawn)
            self.stale = (self.stale | gone) - set(self.prompts.drawn)
            return
        self.prompts = request.prompts
        if request.what == "segment":
            self.stale = frozenset()
        last = int(self.facts.get("steps") or 0)
        if steps < last:  # the server gave up old steps: their numbers say nothing any more
            self.trail = {}
        self.trail = {number: one for number, one in self.trail.items() if number <= last}
        self.trail[steps] = self.prompts
