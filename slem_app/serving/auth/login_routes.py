"""Logging in and out: MONAI Label's `/auth/` routes, which 3D Slicer's dialog asks, and a page
for browsers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Form, Request
from fastapi.datastructures import Headers
from fastapi.responses import JSONResponse, RedirectResponse, Response

from slem_app.errors import NotLoggedIn, SlemError
from slem_app.serving.auth.access import COOKIE, Access, token_of
from slem_app.serving.auth.pages import logged_in_page, login_page
from slem_app.serving.auth.tokens import Logins

if TYPE_CHECKING:
    from slem_app.serving.auth.oidc import Provider

__all__ = ["auth_router"]

HASHING = 2  # passwords that are looked at together; each takes a core and 64 MiB
START = "/"  # where a browser goes that wanted nothing else
Text = Annotated[str, Form(max_length=2048)]
Given = Annotated[str, Form(min_length=1, max_length=2048)]


def auth_router(access: Access, provider: Provider | None = None) -> APIRouter:
    """The routes.

    Args:
        access: who may come in.
        provider: another service that says who somebody is.
    """
    router, desk = APIRouter(prefix="/auth", tags=["Auth"]), LoginService(access.logins, provider)
    _for_programs(router, access, desk)
    _for_browsers(router, access, desk)
    if provider is not None:
        _by_provider(router, access.logins, provider)
    return router


class LoginService:
    """Where names and passwords are looked at, in threads, a few at a time."""

    def __init__(self, logins: Logins, provider: Provider | None) -> None:
        self.logins, self.provider = logins, provider
        self.hashing = CapacityLimiter(HASHING)

    async def log_in(self, request: Request, name: str, password: str) -> str:
        """A new token; errors are those of `Logins.log_in` and `Provider.check`."""
        if self.provider is not None and self.provider.passwords and name not in self.logins.users.users():
            token = self.logins.begin(await self.provider.check(name, password))
        else:
            place = request.client.host if request.client else ""
            token = await to_thread.run_sync(self.logins.log_in, name, password, place, limiter=self.hashing)
        request.scope["slem.login"] = self.logins.of(token)  # for the audit log
        return token


def _for_programs(router: APIRouter, access: Access, desk: LoginService) -> None:
    """MONAI Label's routes."""

    @router.get("/", summary="Check If Auth is Enabled")
    async def enabled() -> dict[str, Any]:
        return {
            "enabled": access.required,
            "client_id": "slem-label",
            "realm": desk.provider.issuer if desk.provider else "",
        }

    @router.post("/token", summary="Fetch new access code/token")
    async def token(request: Request, username: Given, password: Given) -> dict[str, Any]:
        if not access.required:
            return {"access_token": None, "token_type": None}
        made = await desk.log_in(request, username, password)
        return {"access_token": made, "token_type": "bearer", "expires_in": int(access.logins.hours * 3600)}

    @router.get("/token/valid", summary="Check If current token is Valid")
    async def valid(request: Request) -> dict[str, Any]:
        login = request.scope.get("slem.login")
        # the name that MONAI Label gives to nobody
        name, roles = (login.user.name, [login.user.role]) if login else ("admin", ["admin"])
        return {"username": name, "email": None, "name": name, "roles": roles}


def _for_browsers(router: APIRouter, access: Access, desk: LoginService) -> None:
    """The page, its form, and the way out."""
    logins, other = access.logins, desk.provider is not None

    @router.get("/login", include_in_schema=False)
    async def page(request: Request, next: str = START) -> Response:
        if not access.required:
            return RedirectResponse(_within(next), status_code=303)
        try:
            return logged_in_page(logins.of(token_of(Headers(scope=request.scope))[0]).user)
        except NotLoggedIn:
            return login_page(_within(next), other)

    @router.post("/login", include_in_schema=False)
    async def form(request: Request, username: Given, password: Given, next: Text = START) -> Response:
        try:
            made = await desk.log_in(request, username, password)
        except SlemError as error:
            return login_page(_within(next), other, str(error), error.status)
        return _with_cookie(request, _within(next), made, logins.hours)

    @router.post("/logout", include_in_schema=False)
    async def log_out(request: Request) -> Response:
        logins.log_out(token_of(Headers(scope=request.scope))[0])
        person = "text/html" in request.headers.get("accept", "")
        answer = RedirectResponse("/auth/login", status_code=303) if person else JSONResponse({})
        answer.delete_cookie(COOKIE, path="/")
        return answer


def _by_provider(router: APIRouter, logins: Logins, provider: Provider) -> None:
    """To another service and back."""

    @router.get("/oidc/begin", include_in_schema=False)
    async def begin(request: Request, next: str = START) -> Response:
        return await provider.begin(request, _within(next))

    @router.get("/oidc/end", include_in_schema=False)
    async def end(request: Request) -> Response:
        user, wanted = await provider.end(request)
        made = logins.begin(user)
        request.scope["slem.login"] = logins.of(made)
        return _with_cookie(request, _within(wanted), made, logins.hours)


def _with_cookie(request: Request, wanted: str, token: str, hours: float) -> Response:
    """On to the wanted page, with the log-in as a cookie that no script can read and that is never sent in
    the clear where it came encrypted.
    """
    answer = RedirectResponse(wanted, status_code=303)
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(hours * 3600),
        path="/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


def _within(wanted: str) -> str:
    """An address of this server, never of another."""
    plain = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if plain and not wanted.startswith("/auth/") else START
