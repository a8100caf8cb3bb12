"""The audit log: who did what with which case, one JSON object a line, in a file a month that only the
server's user may read.

    {"time": "2026-11-25T20:15:03Z", "user": "ann", "role": "reader", "from": "10.1.2.3",
     "do": "PUT /datastore/label", "case": "patient-7", "status": 200}

It holds ids of cases, as this server knows them, never a field of a header: a patient's name is in it only
where a folder is called so. Reading is noted once in ten minutes for a user, a route and a case, because a
viewer fetches a study in hundreds of requests; polls and the viewer's own files are not noted.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import parse_qs

from anyio import to_thread

from slem_app.errors import StorageFailed
from slem_app.serving.auth.identity import ASGIApp, Receive, Scope, Send
from slem_app.serving.error_replies import answer
from slem_app.users import User

__all__ = ["AuditLog", "AuditMiddleware", "about"]

logger = logging.getLogger(__name__)

AGAIN = 600.0  # seconds after which the same reading is noted again
REMEMBERED = 10_000
READING = ("GET", "HEAD", "OPTIONS")
SPARE = 2**20  # bytes that the disk must have left before anything is changed
# when they are read
QUIET = re.compile(
    r"/|/info/|/healthz|/readyz|/metrics|/pages/.*|/auth/|/docs|/openapi\.json|/favicon\.ico|/static/.*|/ohif(/.*)?|/train/|/models(/.*)?|/learning(/events)?|/operations",
    re.DOTALL,
)
ROUTE = re.compile(
    r"/(infer|model|activelearning|train|session|scoring|batch/infer|slem/[a-z_]+|datastore(/(image|label)(/info)?|/dataset)?|proxy/dicom|dicom-web|logs|auth|case|next|nninteractive|learning|users(/(add|role|password|remove))?|audit)(?=/|$)"
)
STUDY = re.compile(r"/studies/([0-9.]{1,64})(?=/|$)")
BEAT = re.compile(r"/nninteractive/(.*/)?heartbeat")  # a client says twice a minute that it is still there
OF_CASE = ("image", "id", "label")  # fields of the query
CASES: ContextVar[list[str] | None] = ContextVar("cases", default=None)


def about(case: str) -> None:
    """Note that the request that is being answered is about a case; what it is found out to be counts before
    what was asked for.
    """
    cases = CASES.get()
    if cases is not None and case not in cases:
        cases.append(case)


class AuditLog:
    """The files of the log.

    Args:
        folder: where they are; made with the first line.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder, self.clock = folder, clock
        self.guard = threading.Lock()
        self.noted: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def note(
        self, user: User | None, place: str, do: str, case: str, status: int, once: bool = False
    ) -> None:
        """Add a line.

        Args:
            user: who; None where nobody logs in, or nobody was.
            place: the address that the request came from.
            do: method and route.
            case: id, or empty.
            status: of the answer.
            once: it need not be said again for a while.

        Raises:
            StorageFailed: the disk refused.
        """
        now, key = self.clock(), (user.name if user else "", place, do, case, str(status))
        with self.guard:
            if once and now - self.noted.get(key, -AGAIN) < AGAIN:
                return
            self.noted[key] = now
            self.noted.move_to_end(key)
            while len(self.noted) > REMEMBERED:
                self.noted.popitem(last=False)
            when = time.gmtime(now)
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", when),
                "user": user.name if user else "",
                "role": user.role if user else "",
                "from": place,
            }
            self._append(
                time.strftime("%Y-%m.jsonl", when),
                json.dumps({**line, "do": do, "case": case, "status": status}) + "\n",
            )

    def check(self) -> None:
        """Whether a line can be written now, so that nothing is changed which nobody could look up.

        Raises:
            StorageFailed: it cannot.
        """
        with self.guard:
            self._append(time.strftime("%Y-%m.jsonl", time.gmtime(self.clock())), "")
            if shutil.disk_usage(self.folder).free < SPARE:
                raise StorageFailed(f"the disk of the audit log in {self.folder} is full: nothing is changed")

    def _append(self, name: str, line: str) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                _write_whole(handle, line.encode())
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageFailed(
                f"the audit log in {self.folder} cannot be written: {error.strerror or error}"
            ) from error


def _write_whole(handle: int, line: bytes) -> None:
    """Add a line to a file, all of it or nothing; after one that a crash has torn, on a line of its own."""
    size = os.fstat(handle).st_size
    if size and line and os.pread(handle, 1, size - 1) != b"\n":
        line = b"\n" + line
    try:
        if os.write(handle, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(handle, size)
        raise


class AuditMiddleware:
    """Notes every request once it is answered. Where the log cannot be written, that is said in the server's
    log; cases can still be read, but nothing is changed.
    """

    def __init__(self, app: ASGIApp, log: AuditLog) -> None:
        self.app, self.log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] not in READING:
            try:
                await to_thread.run_sync(self.log.check)
            except StorageFailed as error:
                logger.error("%s", error)
                await answer(error)(scope, receive, send)
                return
        cases: list[str] = []
        token = CASES.set(cases)

        async def noted(message: Scope) -> None:
            if message["type"] == "http.response.start":
                self._note(scope, cases, message["status"])
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            CASES.reset(token)

    def _note(self, scope: Scope, cases: list[str], status: int) -> None:
        method, path = scope["method"], scope["path"]
        reading = method in READING
        if reading and (QUIET.fullmatch(path) or (status == 404 and not cases)):
            return
        if BEAT.fullmatch(path):
            return
        route = ROUTE.match(path)
        name = route[0] if route else "another"
        if whom := scope.get("slem.whom"):
            name = f"{name} {whom}"
        user = getattr(scope.get("slem.login"), "user", None)
        try:
            self.log.note(
                user,
                (scope.get("client") or ("",))[0],
                f"{method} {name}",
                ", ".join(cases) or _asked(scope),
                status,
                once=reading,
            )
        except StorageFailed as error:
            logger.error("%s", error)


def _asked(scope: Scope) -> str:
    """The case that a request names, as it names it."""
    if study := STUDY.search(scope["path"]):
        return study[1]
    fields = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=None)
    return next((fields[name][0][:200] for name in OF_CASE if name in fields), "")
