"""Templates to answers. A page loads its style and its pictures from this server, and every text that comes
from data is escaped. None runs a script but that of learning, while a round runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from slem_app.errors import SlemError
from slem_app.serving.auth.roles import role_of
from slem_app.serving.error_replies import told

__all__ = ["FOLLOWING", "FOLLOWS", "POLICY", "STYLE", "PageRoute", "colour", "page"]

STYLE = Path(__file__).parent / "assets" / "pages.css"
FOLLOWING = Path(__file__).parent / "assets" / "learning.js"
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)
FOLLOWS = f"{POLICY}; script-src 'self'; connect-src 'self'"
"""Of the one page that runs a script, and only while there is something to follow."""
MENU = (
    ("/", "Worklist"),
    ("/models", "Models"),
    ("/learning", "Learning"),
    ("/operations", "Operations"),
    ("/users", "Users"),
    ("/audit", "Audit"),
)


def _clock(seconds: float) -> str:
    """Seconds since 1970 as people read them; empty for 0."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds)) if seconds else ""


def _date(dicom: str) -> str:
    """A DICOM date (PS3.5, DA) as people read it."""
    return f"{dicom[:4]}-{dicom[4:6]}-{dicom[6:]}" if len(dicom) == 8 and dicom.isdigit() else dicom


def _size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"


def colour(rgb: Sequence[int]) -> str:
    """A colour, sRGB 0-255, as HTML has it.

    Example:
        >>> colour((255, 0, 16))
        '#ff0010'
    """
    return "#" + "".join(f"{part:02x}" for part in rgb)


TEMPLATES = Environment(
    loader=PackageLoader("slem_app.serving.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {"clock": _clock, "date": _date, "size": _size, "colour": colour}


def page(
    request: Request, template: str, status: int = 200, policy: str = POLICY, **values: Any
) -> HTMLResponse:
    """A page of this server.

    Args:
        request: what it answers.
        template: its file's name without the ending.
        status: of the answer.
        policy: what it may load.
        values: what the template shows.
    """
    login = request.scope.get("slem.login")
    menu = [(path, name) for path, name in MENU if login is None or login.user.may(role_of("GET", path))]
    text = TEMPLATES.get_template(f"{template}.html").render(
        menu=menu, here=request.url.path, user=login.user if login else None, **values
    )
    return HTMLResponse(text, status_code=status, headers={"Content-Security-Policy": policy})


class PageRoute(APIRoute):
    """A route whose errors are pages, too."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The handler, with errors of ours shown."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except SlemError as error:
                return page(request, "error", error.status, text=told(str(error)))

        return handle
