"""The way through this server to its PACS, for viewers: MONAI Label's `/proxy/dicom/...`, which drops queries and headers and holds whole answers.

Only the configured server is ever asked, below its own address: paths are made of DICOMweb's words and UIDs, redirects are not followed, and neither the
reader's log-in goes there nor the PACS's password comes back. Bodies stream both ways, so a series of any size takes no memory. A connection
that cannot be made is tried once more; an answer that has begun is not, and one that breaks off breaks off for the viewer too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx2
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from slem_app.errors import BadSetting, NotFound, PacsFailed
from slem_app.studies.pacs import Pacs

__all__ = ["proxy_router"]

logger = logging.getLogger(__name__)

CONNECTIONS = 32
UP = ("accept", "accept-charset", "accept-encoding", "content-length", "content-type", "if-modified-since", "if-none-match", "if-range", "range")
DOWN = ("accept-ranges", "cache-control", "content-encoding", "content-length", "content-range", "content-type", "etag", "last-modified", "warning")
FIRST = ("studies", "series", "instances")  # what a path of DICOMweb begins with
PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._,-]{0,127}")  # a word, a UID, or numbers of frames; none is '..'
STORED = ("multipart/related", "application/dicom")


def proxy_router(pacs: Pacs) -> APIRouter:
    """The routes below `/proxy/dicom`."""
    router, way = APIRouter(prefix="/proxy/dicom"), Way(pacs)

    @router.get("/{what}/{path:path}", include_in_schema=False)
    async def get(request: Request, what: str, path: str) -> StreamingResponse:
        # the viewer asks its two roots for the same things, and programs leave them out
        return await way.through(request, path if what in ("qido", "wado", "stow") else f"{what}/{path}")

    @router.get("/{path}", include_in_schema=False)
    async def get_all(request: Request, path: str) -> StreamingResponse:
        return await way.through(request, path)

    @router.post("/wado/{path:path}", include_in_schema=False)  # where the viewer stores what was drawn in it
    @router.post("/stow/{path:path}", include_in_schema=False)
    async def store(request: Request, path: str) -> StreamingResponse:
        kind = request.headers.get("content-type", "")
        if path.partition("/")[0] != "studies" or not kind.lower().startswith(STORED):
            raise BadSetting(f"only DICOM can be stored, at studies or studies/UID, as multipart/related; got {kind.partition(';')[0][:60] or 'no type'!r}")
        return await way.through(request, path)

    return router


class Way:
    """Connections to the PACS, shared by all requests."""

    def __init__(self, pacs: Pacs) -> None:
        self.url = pacs.url
        self.client = httpx2.AsyncClient(
            auth=(pacs.user, pacs.password) if pacs.user else None,
            timeout=httpx2.Timeout(pacs.timeout, connect=min(5.0, pacs.timeout)),
            transport=httpx2.AsyncHTTPTransport(retries=1, limits=httpx2.Limits(max_connections=CONNECTIONS)),
            trust_env=False,  # no proxy and no password of the environment
            follow_redirects=False,
        )

    async def through(self, request: Request, path: str) -> StreamingResponse:
        """The PACS's answer, as it comes.

        Raises:
            NotFound: a path that is none of DICOMweb.
            PacsFailed: no answer, or one that leads elsewhere or refuses this server.
        """
        parts = path.split("/")
        if parts[0] not in FIRST or not all(PART.fullmatch(part) for part in parts):
            raise NotFound(f"{path[:100]!r} is no path of DICOMweb: it begins with {', '.join(FIRST)} and is made of UIDs")
        headers = {name: request.headers[name] for name in UP if name in request.headers and (request.method != "GET" or not name.startswith("content"))}
        query = request.scope.get("query_string", b"")
        url = httpx2.URL(f"{self.url}/{'/'.join(quote(part, safe=',') for part in parts)}").copy_with(query=query or None)
        content = request.stream() if request.method != "GET" else None
        asked = self.client.build_request(request.method, url, headers={"accept-encoding": "identity", **headers}, content=content)
        try:
            answer = await self._send(asked)
        except httpx2.TimeoutException as error:
            raise PacsFailed("the PACS did not answer in time: try again; the setting `pacs_timeout` allows more") from error
        except httpx2.HTTPError as error:
            raise PacsFailed(f"the PACS cannot be reached ({type(error).__name__}): is it running, is its address right?") from error
        if answer.status_code in (401, 403) or (300 <= answer.status_code < 400 and answer.status_code != 304):
            await answer.aclose()
            raise PacsFailed(f"the PACS answered with {answer.status_code}: it refuses this server, or sends it elsewhere, where it does not go")
        kept = {name: answer.headers[name] for name in DOWN if name in answer.headers}
        return StreamingResponse(_pieces(answer), status_code=answer.status_code, headers=kept)

    async def _send(self, asked: httpx2.Request) -> httpx2.Response:
        """The beginning of an answer; asked once more where a connection that was kept open turns out to be closed, as Orthanc's often are."""
        try:
            return await self.client.send(asked, stream=True)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
            if asked.method != "GET":
                raise
            return await self.client.send(asked, stream=True)


async def _pieces(answer: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx2.HTTPError as error:
        logger.warning("the PACS broke off an answer: %s", type(error).__name__)
        raise PacsFailed("the PACS broke off its answer") from error
    finally:
        await answer.aclose()
