"""What a client asks of a model, and what it gets: one typed value each.

A request is built once, where it comes in (`serving.http.infer_request`), and is valid from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path

from slem_app.errors import BadSetting
from slem_app.predict import Prediction
from slem_app.prompts import Mask, Prompts
from slem_app.result_warning import ResultWarning
from slem_app.serving.models.task_kind import TaskKind
from slem_app.store.record import DRAFT
from slem_app.trust import NOTHING, Trust

__all__ = ["PRIOR", "InferAnswer", "InferFacts", "InferRequest", "Reply", "options"]

PRIOR = "prior"
"""What `start_from` may be, beside nothing."""
EXTENSIONS = (".nrrd", ".nii.gz", ".nii")


def options(kind: TaskKind, sequences: Sequence[str]) -> dict[str, list[str]]:
    """What clients let their users choose for a model, the default first."""
    chosen = {"sequence": ["auto", *sequences]}
    return {**chosen, "start_from": ["auto", PRIOR]} if kind == TaskKind.CLICKS else chosen


@dataclass(frozen=True)
class Reply:
    """The file in which the client wants the label map."""

    extension: str = ".nrrd"
    """File type."""
    compress: bool = True
    """Compressed NRRD; OHIF reads only uncompressed ones."""
    crop: bool = False
    """Cut to the box of the labels, for clients that put it in place by the file's affine."""

    def __post_init__(self) -> None:
        if self.extension not in EXTENSIONS:
            raise BadSetting(f"result_extension {self.extension!r} is unknown: use {', '.join(EXTENSIONS)}")


@dataclass(frozen=True)
class InferRequest:
    """One request for a segmentation."""

    model: str
    """Under which clients know the model."""
    image: str = ""
    """Any id of a case; empty where a volume came."""
    _: KW_ONLY
    volume: Path | None = None
    """A volume that the client has sent, with the request or in a session: a file, or a folder."""
    session: str = ""
    """The session whose volume it is; empty where there is none."""
    client_id: str = ""
    """The reader, as the client names them; empty where it names nobody."""
    sequence: str | None = None
    """What a volume that came alone is; None: its name tells."""
    reply: Reply | None = field(default_factory=Reply)
    """The file that is wanted; None: none, the label map itself is used."""
    save_label: bool = False
    """Keep the result as a label of the case."""
    check_here: bool = False
    """The file has one more label, `check here`, over the places where the result is likely wrong; never in
    what is kept.
    """
    label_tag: str = DRAFT
    """Under which it is kept."""
    points: Mapping[str, object] = field(default_factory=dict)
    """Lists of voxels (i, j, k) of the displayed image, by label name, or under 'foreground' and
    'background'. Whether they lie in the image is seen when that is known.
    """
    label: str | None = None
    """The label that 'foreground' means."""
    box: object = None
    """[i1, i2, j1, j2, k1, k2], voxels of the displayed image between which labels may be; None: anywhere."""
    label_file: Path | None = None
    """A label map that the client has sent: a segmentation as the reader edited it, or scribbles."""
    segments: tuple[str, ...] | None = None
    """What the values of that file mean, value 1 first; None: the client does not say."""
    painted_label: str = ""
    """The label that painted foreground means."""
    scribbles: object = None
    """[{"label": name, "runs": [[i, j, k, n], ...]}, ...]: painted voxels of the displayed image, n of them
    along I from (i, j, k) on; None: the client lists none.
    """
    reaches: object = None
    """[{"label": name, "voxel": [i, j, k], "reach": r}, ...]: how far the answers to clicks among the points
    go, -1 less to 1 more; None: as they come.
    """
    prompts: Prompts | None = None
    """All prompts that count, in order, on the displayed image; None: the fields above and below say them."""
    undo: bool = False
    """Take the last step back instead."""
    redo: bool = False
    """Do the step again that was taken back last."""
    start_over: bool = False
    """Forget what was before."""
    start_from: str = ""
    """What to begin with in place of the model's own result: 'prior', the label of the patient's earlier
    visit; empty: the model's.
    """
    start: Mask | None = None
    """That segmentation, once it is known; nothing that a client can send."""
    repeats_points: bool = False
    """The client is OHIF, which sends points again that were placed on another image (`stale_points`)."""


@dataclass(frozen=True)
class InferFacts:
    """What the client is told beside the label map; its fields are the JSON's."""

    label_names: Mapping[str, int]
    """Value by the label's name."""
    case: str
    """Case id."""
    sequence: str
    """The one on whose grid the label map lies."""
    used: tuple[str, ...]
    """Sequences that the network saw."""
    missing: tuple[str, ...]
    """Sequences that it did without."""
    volumes_ml: Mapping[str, float]
    """Volume of each label and region, ml."""
    notes: tuple[str, ...]
    """What the reader should know."""
    warnings: tuple[ResultWarning, ...]
    """Why the result may be wrong."""
    not_assessable: tuple[str, ...]
    """Labels of which nothing can be said without the missing sequences."""
    preparation: Mapping[str, object]
    """What was done to the sequences (`PreparationReport.table`)."""
    model_version: str
    """Version of the model."""
    trust: Trust = NOTHING
    """Where the result may be wrong, and how good it probably is, as the model says itself."""
    prompts: int | None = None
    """Clicks and scribbles that count by now; None: the model follows none."""
    steps: int | None = None
    """Steps that can be taken back."""
    redo_steps: int | None = None
    """Steps that were taken back and can be done again."""
    latencies: Mapping[str, float] = field(default_factory=dict)
    """Seconds by step."""

    def to_json(self) -> dict[str, object]:
        """As the client gets it."""
        told = {one.name: getattr(self, one.name) for one in fields(self)}
        told["warnings"] = [one.table() for one in self.warnings]
        told["trust"] = self.trust.table() or None
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in told.items()
            if value is not None
        }


@dataclass(frozen=True, eq=False)
class InferAnswer:
    """What a request gets."""

    prediction: Prediction
    """The label map on the grid of the requested image; of scribbles, their label alone, as value 1."""
    facts: InferFacts
    """What the client is told beside it."""
    file: Path | None = None
    """The label map as the file that was wanted; whoever sends it removes it."""
    saved: str | None = None
    """Id of the case where the result was kept as a label."""
    tag: str = DRAFT
    """Under which."""
