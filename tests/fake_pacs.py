"""A DICOMweb server over a folder that can be told to misbehave: slow, cut, wrong, without a series, gone."""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from slem_app.serving import error_replies
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.dicom import qido_wado as dicomweb
from slem_app.store.dicom_results import DicomResults

Fault = Callable[[Callable, dict, Callable, Callable], Any]


class FakePacs:
    """The server, its address, what it was asked, and how it misbehaves."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.cases = Cases(folder, store / "uploads")
        self.asked: list[str] = []
        self.faults: list[tuple[re.Pattern, Fault, int]] = []
        self.app = FastAPI()
        self.dicom_results = DicomResults(store / "dicom")
        dicomweb.install(self.app, self.cases, self.dicom_results)
        error_replies.install(self.app)
        self.url = ""

    def fail(self, path: str, fault: Fault, times: int = 1000) -> None:
        """From now on, answer requests whose method and path match with a fault, a number of times."""
        self.faults.append((re.compile(path), fault, times))

    def mend(self) -> None:
        self.faults.clear()

    def count(self, path: str) -> int:
        """How often something was asked for."""
        return sum(bool(re.search(path, one)) for one in self.asked)

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        what = f"{scope['method']} {scope['path']}"
        self.asked.append(what)
        for k, (pattern, fault, times) in enumerate(self.faults):
            if pattern.search(what) and times > 0:
                self.faults[k] = (pattern, fault, times - 1)
                return await fault(self.app, scope, receive, send)
        return await self.app(scope, receive, send)


def status(code: int) -> Fault:
    """Answer with a status alone."""

    async def fault(app: Callable, scope: dict, receive: Callable, send: Callable) -> None:
        await send({"type": "http.response.start", "status": code, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return fault


def late(seconds: float) -> Fault:
    """Answer rightly, but late."""

    async def fault(app: Callable, scope: dict, receive: Callable, send: Callable) -> None:
        await asyncio.sleep(seconds)
        await app(scope, receive, send)

    return fault


def cut(share: float = 0.5, announced: bool = True) -> Fault:
    """Send a part of the answer and close the connection; not `announced`: as if that were all."""

    async def fault(app: Callable, scope: dict, receive: Callable, send: Callable) -> None:
        messages: list[dict] = []

        async def keep(message: dict) -> None:
            messages.append(message)

        await app(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        kept = body[: int(share * len(body))]
        headers = [pair for pair in messages[0]["headers"] if announced or pair[0] != b"content-length"]
        await send(
            messages[0]
            | {"headers": headers + ([] if announced else [(b"content-length", b"%d" % len(kept))])}
        )
        await send({"type": "http.response.body", "body": kept, "more_body": announced})
        if announced:
            raise ConnectionAbortedError("as asked")

    return fault


def instead(path: str) -> Fault:
    """Answer as if something else had been asked for."""

    async def fault(app: Callable, scope: dict, receive: Callable, send: Callable) -> None:
        await app(scope | {"path": path, "raw_path": path.encode()}, receive, send)

    return fault


@contextmanager
def running(pacs: FakePacs, port: int = 0) -> Iterator[FakePacs]:
    """The server, answering; on the same port again when it is started a second time."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        server = uvicorn.Server(
            uvicorn.Config(pacs, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        pacs.url = f"http://127.0.0.1:{listening.getsockname()[1]}/dicom-web"
        yield pacs
        server.should_exit = True
        thread.join()
