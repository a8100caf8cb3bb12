"""A case as it is fetched from the server: its facts, all its images, and the label that counts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .client import Client
from .session import Case

__all__ = ["Opened", "fetch"]


@dataclass(frozen=True)
class Opened:
    """What was fetched of a case."""

    case: Case
    holder: str
    files: Mapping[str, Path]
    label: bytes | None
    """The label that counts, NIfTI; None: nobody has saved one."""
    said: str
    """Whose label that is."""


def fetch(client: Client, name: str, info: Mapping[str, Any], folder: Path) -> Opened:
    """All of a case; takes it into the reader's hands.

    Args:
        client: where it is.
        name: its id.
        info: what the server offers.
        folder: for the images, each case in a folder of its own.

    Raises:
        ServerError: the case cannot be had, or no model is for it.
    """
    case = Case.of(name, client.case(name), info)
    holder = client.take(name)
    place = Path(tempfile.mkdtemp(dir=folder))
    files = {one: client.image(f"{name}/{one}", place) for one in case.sequences}
    counts = [one for one in client.versions(name) if one.get("counts")]
    if not counts:
        return Opened(case, holder, files, None, "")
    who = counts[0].get("user") or counts[0].get("reader") or "somebody"
    said = f"Version {counts[0]['version']} is shown, {counts[0]['state']}, by {who}."
    return Opened(case, holder, files, client.label(case.image, "final"), said)
