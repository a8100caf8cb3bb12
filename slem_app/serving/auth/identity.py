"""Who asks: told apart so that two readers of one case do not share their corrections.

3D Slicer names its reader in `client_id`, but every installation is called 'user-xyz' until somebody changes
that; OHIF names nobody. So a reader is the client's id together with the user who is logged in, or else the
browser, known by a cookie that `/` and `/info/` hand out, or else the machine that the request comes from.
Behind a tunnel all readers are one machine: then their ids must differ.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from http.cookies import CookieError, SimpleCookie
from typing import Any

from fastapi.datastructures import Headers

__all__ = ["ASGIApp", "ReaderMiddleware", "Receive", "Scope", "Send", "client_of", "reader_of", "user_of"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "slem_reader"
LONGEST = 200  # characters of a client's id
WHERE: ContextVar[str] = ContextVar("where", default="")
USER: ContextVar[str] = ContextVar("user", default="")
AGENT: ContextVar[str | None] = ContextVar("agent", default=None)
VIEWER = "OHIF"
SLICER = "3D Slicer"


def reader_of(client_id: Any) -> str:
    """The reader of the request that is being answered; 'id@place'.

    An id that is too long to be remembered many times is cut short; its digest keeps it apart from others.
    """
    name = str(client_id or "")
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}~{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()}"
    return f"{name}@{WHERE.get()}"


def user_of() -> str:
    """The user who is logged in; empty where nobody has to be."""
    return USER.get()


def client_of(client: str, client_id: str) -> str:
    """What program sent the request that is being answered: what it says in the field `client`, else what its
    headers tell; empty: not known.

    3D Slicer's plugin names its reader and sends no User-Agent, which hardly any other program does.
    """
    if client:
        return client
    agent = AGENT.get()
    return SLICER if agent == "" and client_id else (agent or "")


class ReaderMiddleware:
    """Notes where a request comes from, and gives a browser its cookie."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        login = scope.get("slem.login")
        known = login.user.name if login else _cookie(headers.get("cookie", ""))
        token = WHERE.set(known or (scope.get("client") or ("",))[0])
        user = USER.set(login.user.name if login else "")
        agent = AGENT.set(
            VIEWER
            if "/ohif/" in headers.get("referer", "")
            else headers.get("user-agent", "").partition(" ")[0]
        )

        async def answer(message: Scope) -> None:
            if (
                message["type"] == "http.response.start"
                and not known
                and scope["path"].rstrip("/") in ("", "/info")
            ):
                given = f"{COOKIE}={uuid.uuid4().hex}; Path=/; HttpOnly; SameSite=Strict"
                message = {**message, "headers": [*message["headers"], (b"set-cookie", given.encode())]}
            await send(message)

        try:
            await self.app(scope, receive, answer)
        finally:
            WHERE.reset(token)
            USER.reset(user)
            AGENT.reset(agent)


def _cookie(header: str) -> str:
    try:
        cookie = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie and re.fullmatch(r"[0-9a-f]{32}", cookie.value) else ""
