"""Bodies in JSON are read strictly before any route sees them.

MONAI Label's own routes would read them with Python's reader, and what they keep is shared.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers

from slem_app.errors import SlemError
from slem_app.serving.auth.identity import ASGIApp, Receive, Scope, Send
from slem_app.serving.error_replies import answer
from slem_app.strict_json import LARGEST, parse

__all__ = ["StrictJsonMiddleware"]

OTHERS = ("multipart/", "application/dicom", "application/octet-stream", "application/x-www-form-urlencoded")
"""Kinds of bodies that no route takes for JSON."""


class StrictJsonMiddleware:
    """Refuses a body that is JSON, or that would be taken for it, and that `strict_json` does not read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] in ("GET", "HEAD", "OPTIONS")
            or not _may_be_json(scope)
        ):
            await self.app(scope, receive, send)
            return
        messages, body = [], bytearray()
        while True:
            message = await receive()
            messages.append(message)
            body += message.get("body", b"")
            if len(body) > LARGEST or not message.get("more_body", False):
                break
        if body.strip():
            try:
                parse(bytes(body), "the body of the request")
            except SlemError as error:
                await answer(error)(scope, receive, send)
                return
        waiting = iter(messages)

        async def again() -> MutableMapping[str, Any]:
            return next(waiting, None) or await receive()

        await self.app(scope, again, send)


def _may_be_json(scope: Scope) -> bool:
    kind = Headers(scope=scope).get("content-type", "").strip().lower()
    if kind.startswith("application/dicom+json"):
        return True
    return not kind.startswith(OTHERS)
