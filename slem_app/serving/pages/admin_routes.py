"""Pages for admins: who may log in, and the audit log. Where nobody logs in they say so.

- GET  /users                                       the users
- POST /users/add, /role, /password, /remove        change them; lead back
- GET  /audit                                       ?user=ann&case=A&do=PUT&before=2026-11:4096
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from slem_app.errors import BadSetting, NotAllowed
from slem_app.serving.auth.access import Access
from slem_app.serving.auth.audit import AuditLog
from slem_app.serving.auth.audit_reading import AuditQuery, read_audit
from slem_app.serving.few_at_once import FewAtOnce
from slem_app.serving.pages.render import PageRoute, page
from slem_app.users import ROLES, UserFile

__all__ = ["admin_router"]

CHANGES = 16  # of users that may wait; each hashes a password, which takes a core and 64 MiB
LOOKS = 16  # at the audit log that may wait; each reads up to 32 MiB
Name = Annotated[str, Form(max_length=64)]
Role = Annotated[str, Form(max_length=20)]
Secret = Annotated[str, Form(max_length=2048)]
Text = Annotated[str, Query(max_length=200)]


def admin_router(access: Access, log: AuditLog, provider: bool = False) -> APIRouter:
    """The pages.

    Args:
        access: who may come in.
        log: the audit log.
        provider: another service says who somebody is, too.
    """
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    _users_routes(router, access, provider)
    _audit_route(router, access, log)
    return router


def _users_routes(router: APIRouter, access: Access, provider: bool) -> None:
    users, changes = access.logins.users, FewAtOnce(1, CHANGES, "changes of users")

    async def change(request: Request, name: str, work: Callable[[UserFile], None]) -> Response:
        request.scope["slem.whom"] = name  # for the audit log
        _check_admin(access)
        await changes.run(lambda: work(users))
        return RedirectResponse("/users", status_code=303)

    @router.get("/users")
    def shown(request: Request) -> Response:
        return page(
            request,
            "users",
            required=access.required,
            users=tuple(users.users().values()) if access.required else (),
            seen=access.logins.last_seen(),
            me=_me(request),
            roles=ROLES,
            provider=provider,
        )

    @router.post("/users/add")
    async def add(request: Request, name: Name, role: Role, password: Secret, again: Secret) -> Response:
        return await change(request, name, lambda file: file.add(name, _same(password, again), role))

    @router.post("/users/role")
    async def role(request: Request, name: Name, role: Role) -> Response:
        _check_other(request, name, "gives themselves another role")
        return await change(request, name, lambda file: file.change_role(name, role))

    @router.post("/users/password")
    async def password(request: Request, name: Name, password: Secret, again: Secret) -> Response:
        return await change(request, name, lambda file: file.change_password(name, _same(password, again)))

    @router.post("/users/remove")
    async def remove(request: Request, name: Name) -> Response:
        _check_other(request, name, "takes themselves out")
        return await change(request, name, lambda file: file.remove(name))


def _audit_route(router: APIRouter, access: Access, log: AuditLog) -> None:
    looks = FewAtOnce(1, LOOKS, "the audit log")

    @router.get("/audit")
    async def audit(
        request: Request, user: Text = "", case: Text = "", do: Text = "", before: Text = ""
    ) -> Response:
        query = AuditQuery(user.strip(), case.strip(), do.strip(), before)
        found = await looks.run(lambda: read_audit(log.folder, query))
        return page(request, "audit", query=query, found=found, required=access.required)


def _me(request: Request) -> str:
    login = request.scope.get("slem.login")
    return login.user.name if login else ""


def _check_admin(access: Access) -> None:
    """Nobody changes users where nobody is known."""
    if not access.required:
        raise NotAllowed(
            "nobody logs in to this server, so nobody may change its users here: use `slem users`"
        )


def _check_other(request: Request, name: str, what: str) -> None:
    """An admin who locks themselves out may be the last one."""
    if name == _me(request):
        raise BadSetting(f"nobody {what}: ask another admin, or use `slem users` on the server's machine")


def _same(password: str, again: str) -> str:
    if password != again:
        raise BadSetting("the two passwords differ: nothing was changed")
    return password
