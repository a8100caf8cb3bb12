"""Requests and answers as MONAI Label's Python interface passes them: dictionaries, and paths in
place of ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slem_app.errors import NotFound
from slem_app.serving.http.infer_request import parse_infer
from slem_app.serving.http.learning_requests import parse_batch, parse_next_case
from slem_app.serving.http.received_files import is_sent
from slem_app.serving.models.inference import InferAnswer, InferRequest
from slem_app.serving.server import Serving

__all__ = ["batch_infer", "infer", "infer_request", "infer_result", "next_sample_request"]


def infer(serving: Serving, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request.

    Raises:
        SlemError: as `Serving.infer`.
    """
    task = serving.task(str(request.get("model") or ""))
    parsed = infer_request(request, task.predictor.card.labels.names)
    volume = parsed.volume
    if volume is not None and not (serving.sessions.folder_of(str(volume)) or is_sent(volume)):
        raise NotFound(f"no case {str(volume)!r}: paths on the server are not ids")
    return infer_result(serving.infer(parsed))


def infer_request(request: Mapping[str, Any], names: tuple[str, ...]) -> InferRequest:
    """A request, its paths told from its ids.

    Args:
        request: `model`, `image` (an id, or the path of a volume), `label` (a name, or the path of a label
            file) and the client's parameters.
        names: labels of the model.

    Raises:
        NotFound: a path where nothing is, or of a label file that did not come with the request.
        BadSetting, BadPrompt, BadLabel: a field that cannot be read.
    """
    image, label = (Path(str(request.get(name) or "")) for name in ("image", "label"))
    parsed = parse_infer(str(request.get("model") or ""), "", request, names)
    if image.is_absolute():
        if not image.exists():
            raise NotFound(f"no case {str(image)!r}: paths on the server are not ids")
        parsed = replace(parsed, image="", volume=image)
    if label.is_absolute():
        if not is_sent(label) or not label.is_file():
            raise NotFound(
                f"no label file {str(label)!r}: send it with the request; paths on the server "
                "are not accepted"
            )
        parsed = replace(parsed, label=None, label_file=label)
    return parsed


def infer_result(answer: InferAnswer) -> dict[str, Any]:
    """An answer in MONAI Label's words."""
    file = str(answer.file)
    return {"label": answer.saved or file, "tag": answer.tag, "file": file, "params": answer.facts.to_json()}


def batch_infer(serving: Serving, request: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Make drafts and wait for them.

    Raises:
        SlemError: as `Batches.start`.
    """
    return serving.batches.result(str(request.get("model")), parse_batch(request))


def next_sample_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request for the next case, its strategy checked.

    Raises:
        NotFound: no such strategy.
        BadSetting: a field that cannot be read.
    """
    return {**request, "strategy": parse_next_case(request).strategy}
