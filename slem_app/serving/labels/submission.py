"""What a client says of a label that it submits, as one typed value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from slem_app.errors import BadSetting
from slem_app.serving.cases.label_names import segment_names

__all__ = ["LabelSubmission"]

GONE_BY = ("client_id", "model")  # what the server goes by, and keeps beside the notes


@dataclass(frozen=True)
class LabelSubmission:
    """What comes with a label."""

    said: Mapping[str, str | None] = field(default_factory=dict)
    """`client_id`, the reader, and `model`, whose labels these are, as far as the client names them."""
    client: str = ""
    """The program, as it names itself."""
    segments: tuple[str, ...] | None = None
    """What the values of the file mean, value 1 first; None: the client does not say."""
    seconds: float | None = None
    """What the label cost, as the client counts; None: it does not."""
    clicks: int | None = None
    """The same in clicks and scribbles."""
    notes: Mapping[str, object] = field(default_factory=dict)
    """All else, which is kept with the label; the server goes by nothing of it."""

    @property
    def client_id(self) -> str:
        """The reader, as the client names them; empty where it names nobody."""
        return self.said.get("client_id") or ""

    @property
    def model(self) -> str:
        """The model whose labels these are; empty where none is named."""
        return self.said.get("model") or ""

    @classmethod
    def of(cls, fields: Mapping[str, object]) -> LabelSubmission:
        """From the fields of a request.

        Raises:
            BadLabel: `label_info` is no list of segments.
            BadSetting: `seconds` or `clicks` is not a number from 0 on.
        """
        clicks = _figure("clicks", fields.get("clicks"))
        named = [name for name in GONE_BY if name in fields]
        return cls(
            said={name: None if fields[name] is None else str(fields[name]) for name in named},
            client=str(fields.get("client") or ""),
            segments=segment_names(fields.get("label_info")),
            seconds=_figure("seconds", fields.get("seconds")),
            clicks=None if clicks is None else int(clicks),
            notes={key: value for key, value in fields.items() if key not in GONE_BY},
        )


def _figure(name: str, value: object) -> float | None:
    """A client's own figure of what a label cost; None where it gives none."""
    if value is None:
        return None
    try:
        figure = float(str(value))
    except ValueError:
        figure = -1.0
    if not 0 <= figure < math.inf:
        raise BadSetting(
            f"{name} is {value!r}: a number from 0 on is expected, or nothing, then this server's own "
            f"count is kept"
        )
    return figure
