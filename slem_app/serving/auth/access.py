"""The gate before all routes: who may pass, from where, to do what.

At this machine's own address nobody logs in, unless a setting says so; at any other everybody does. Programs
bring their token in the header `Authorization`, browsers in a cookie that no script can read and that is used
for changes only when a page of this very server asks for them.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from fastapi.datastructures import Headers
from fastapi.responses import JSONResponse, RedirectResponse, Response

from slem_app.errors import BadSetting, NotAllowed, NotLoggedIn, SlemError
from slem_app.serving import error_replies
from slem_app.serving.auth.identity import ASGIApp, Receive, Scope, Send
from slem_app.serving.auth.roles import PUBLIC, role_of
from slem_app.serving.auth.tokens import Login, Logins

__all__ = [
    "COOKIE",
    "Access",
    "AccessMiddleware",
    "listening_at",
    "on_this_machine",
    "open_access",
    "token_of",
]

COOKIE = "slem_login"
METRICS = "/metrics"
METRICS_TOKEN = "SLEM_METRICS_TOKEN"  # environment variable
SAFE = ("GET", "HEAD", "OPTIONS")
OWN_SITES = ("same-origin", "none")  # none: a person typed the address; "same-site" is another port or server
EXPORTS = re.compile(r"/datastore(/.*)?|/model/.*|/slem/labels/file|/case/.*|/logs/.*|/reload")
"""What is read, and yet costs work, or hands out files or the whole list of cases."""
EVERYWHERE = "0.0.0.0"  # where MONAI Label listens if it is not told


@dataclass(frozen=True)
class Access:
    """Who may come in."""

    logins: Logins
    """Of those who log in."""
    required: bool
    """Everybody must log in."""
    local: bool
    """The server is for this machine alone: who reaches it at another address is turned away."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may use this server."""
    metrics_token: str = field(default="", repr=False)
    """With which Prometheus may ask for `/metrics`; empty: as any admin."""

    def check(self, scope: Scope) -> Login | None:
        """The log-in of a request that may pass; None where nobody needs one.

        Raises:
            NotLoggedIn: a log-in is needed.
            NotAllowed: the role is not enough, or a page of another site asks.
        """
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if self.local:
            _check_local(scope, headers)
        token, by_cookie = token_of(headers)
        if by_cookie or not token:
            self._check_site(method, path, headers)
            if method not in SAFE:
                self._check_origin(headers, needed=by_cookie and self.required)
        if not self.required or PUBLIC.fullmatch(path):
            return None
        if path == METRICS and self._is_metrics_token(token):
            return None
        login = self.logins.of(token)
        role = role_of(method, path)
        if not login.user.may(role):
            raise NotAllowed(
                f"{method} {path} requires the role {role}; {login.user.name} is a {login.user.role}"
            )
        return login

    def _is_metrics_token(self, token: str) -> bool:
        known = self.metrics_token.encode()
        return bool(known) and secrets.compare_digest(token.encode(), known)

    def _check_site(self, method: str, path: str, headers: Headers) -> None:
        """A browser says with every request whether a page of this server asks (Fetch Metadata, W3C); nothing
        is said by what is no browser, 3D Slicer among them, and by browsers over plain http from elsewhere.
        """
        foreign = headers.get("sec-fetch-site", "same-origin") not in OWN_SITES
        if not foreign or headers.get("origin") in self.origins:
            return
        if method not in SAFE or EXPORTS.fullmatch(path):
            raise NotAllowed(
                f"a page of another site requested a {'change' if method not in SAFE else 'download'}: only "
                f"pages of this server may do so; open the address directly instead"
            )

    def _check_origin(self, headers: Headers, needed: bool) -> None:
        """A browser says where a page is from that changes something; what is no browser says nothing."""
        origin = headers.get("origin")
        if origin in self.origins and origin is not None:
            return
        if origin is None and (not needed or headers.get("sec-fetch-site") == "same-origin"):
            return
        if origin is None or urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise NotAllowed(
                f"a page of {origin or 'an unknown site'} requested a change: "
                "only pages of this server may do so"
            )


class AccessMiddleware:
    """Lets requests pass that may, and notes whose they are."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        try:
            scope["slem.login"] = self.access.check(scope)
        except SlemError as error:
            await _refusal(scope, error)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def token_of(headers: Headers) -> tuple[str, bool]:
    """The token of a request, empty if it has none, and whether it came as a cookie."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token:
        return token.strip(), False
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return "", False
    return (cookie.value, True) if cookie else ("", False)


def listening_at(arguments: Sequence[str]) -> str:
    """The address at which the command line of this process tells it to listen.

    Example:
        >>> listening_at(["start_server", "--app", "apps/slem", "-i", "10.0.0.1"])
        '10.0.0.1'
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", "-i", default=EVERYWHERE if "start_server" in arguments else "127.0.0.1")
    return parser.parse_known_args(list(arguments))[0].host


def on_this_machine(host: str) -> bool:
    """True for an address that no other machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def open_access(
    logins: Logins, login: str, host: str, origins: Sequence[str] = (), provider: bool = False
) -> Access:
    """Who may come in at `host`.

    Args:
        logins: of those who log in.
        login: 'auto', 'required' or 'off'.
        host: where the server listens.
        origins: other sites whose pages may use it.
        provider: another service says who somebody is, so no user file is needed.

    Raises:
        BadSetting: a log-in is needed, and there is nobody who could.
    """
    local = on_this_machine(host)
    required = login == "required" or (login == "auto" and not local)
    if required and not provider and not logins.users.users():
        why = "a log-in is required" if local else f"at {host} other machines reach this server"
        raise BadSetting(
            f"{why}, and nobody can log in: there is no user in {logins.users.path}. Add one (`slem users "
            f"add NAME --role admin`), "
            "or listen at 127.0.0.1, or set `--conf login off` if something else controls the access"
        )
    return Access(
        logins, required, local and login == "auto", tuple(origins), os.environ.get(METRICS_TOKEN, "")
    )


def _check_local(scope: Scope, headers: Headers) -> None:
    """Nobody logs in here, so neither another machine nor a page under another name (a rebound one) may come
    in.
    """
    server = (scope.get("server") or ("127.0.0.1",))[0]
    if not on_this_machine(server):
        raise NotAllowed(
            f"this server was started for this machine alone, but is reached at {server}: start it with "
            f"--host, so that it asks for a log-in"
        )
    host = (
        headers.get("host", "localhost").rsplit(":", 1)[0]
        if not headers.get("host", "").endswith("]")
        else headers["host"]
    )
    if not on_this_machine(host) and host.lower() != socket.gethostname().lower():
        raise NotAllowed(
            f"this server is not called {host!r}: open it as localhost, or start it with `--conf login "
            f"off` behind a proxy"
        )


def _refusal(scope: Scope, error: SlemError) -> Response:
    """JSON for programs; the log-in page for a person who opens a page."""
    headers = Headers(scope=scope)
    if (
        isinstance(error, NotLoggedIn)
        and scope["method"] == "GET"
        and "text/html" in headers.get("accept", "")
    ):
        query = scope.get("query_string", b"").decode("latin-1")
        wanted = scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(
            f"/auth/login?next={quote(wanted, safe='')}",
            status_code=303,
            headers={"Cache-Control": "no-store"},
        )
    refused: JSONResponse = error_replies.answer(error)
    if isinstance(error, NotLoggedIn):
        refused.headers["WWW-Authenticate"] = "Bearer"
    return refused
