"""Headers by which browsers keep other sites out of what this server shows: on every answer, errors too.

A page may load scripts, styles and pictures of this server alone, nobody may show it in a frame of theirs,
and no answer stays in a cache on disk, for it may hold images and names. The viewer's own files hold neither:
they may be kept, and are asked for again only to see whether they have changed.

Sources: Content Security Policy Level 3 (W3C), Fetch (WHATWG) for `Cross-Origin-Resource-Policy`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders

from slem_app.serving.auth.identity import ASGIApp, Receive, Scope, Send

__all__ = [
    "API_POLICY",
    "PAGE_POLICY",
    "WORKER_POLICY",
    "SecurityHeadersMiddleware",
    "script_hashes",
    "viewer_policy",
]

NOBODY = {"frame-ancestors": "'none'", "base-uri": "'none'", "object-src": "'none'"}
INLINE = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)


def _policy(parts: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in {**parts, **NOBODY}.items())


API_POLICY = _policy({"default-src": "'none'", "form-action": "'none'"})
"""Of answers that are no pages: were one opened as a page, it could load nothing."""

PAGE_POLICY = _policy(
    {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
    }
)
"""Of this server's own pages: their scripts are files; Swagger writes styles into its elements."""

WORKER_POLICY = _policy(
    {
        "default-src": "'none'",
        "script-src": "'self' 'unsafe-eval' blob:",
        "worker-src": "'self' blob:",
        "connect-src": "'self' data: blob:",
    }
)
"""Of the viewer's scripts: a worker does not have its page's policy but that of its own script, and OHIF's
workers load the decoders (HTML Standard, "run a worker"; CSP Level 3, section 4.2.2).
"""

EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # for browsers that do not know frame-ancestors
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
KEPT = ("/ohif/", "/ohif-slem/", "/ohif-save.js", "/static/", "/pages/", "/favicon.ico")
"""Files without patients' data."""


def viewer_policy(page: str) -> str:
    """The policy of OHIF's start page.

    OHIF decodes images with WebAssembly in workers, some of which it makes from blobs, draws into images from
    blobs and writes styles into its elements. It reads a DICOM segmentation with dcmjs, whose arrays
    (ndarray) compile their loops from text: without 'unsafe-eval' it loads none.

    Args:
        page: its HTML; scripts that stand in it are allowed by their hash, and no others.
    """
    scripts = " ".join(script_hashes(page))
    return _policy(
        {
            "default-src": "'self'",
            "script-src": f"'self' 'unsafe-eval' blob: {scripts}".strip(),
            "worker-src": "'self' blob:",
            "style-src": "'self' 'unsafe-inline'",
            "img-src": "'self' data: blob:",
            "font-src": "'self' data:",
            "connect-src": "'self' data: blob:",
            "form-action": "'self'",
        }
    )


def script_hashes(page: str) -> list[str]:
    """The scripts that stand in a page, as a policy names them."""
    digests = (hashlib.sha256(script.encode()).digest() for script in INLINE.findall(page))
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


class SecurityHeadersMiddleware:
    """Adds the headers to every answer; what a route says itself stays.

    Args:
        app: the application.
        encrypted: the server is reached by https alone, which browsers then remember for a year.
    """

    def __init__(self, app: ASGIApp, encrypted: bool = False) -> None:
        self.app, self.encrypted = app, encrypted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answer(message: Scope) -> None:
            if message["type"] == "http.response.start":
                self._complete(MutableHeaders(scope=message), scope["path"])
            await send(message)

        await self.app(scope, receive, answer)

    def _complete(self, headers: MutableHeaders, path: str) -> None:
        for name, value in EVERYWHERE.items():
            headers.setdefault(name, value)
        headers.setdefault("content-security-policy", API_POLICY)
        headers.setdefault("cache-control", "no-cache" if path.startswith(KEPT) else "no-store")
        if self.encrypted:
            headers.setdefault("strict-transport-security", "max-age=31536000")
