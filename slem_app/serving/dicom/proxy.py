"""The way through this server to its PACS, for viewers: MONAI Label's `/proxy/dicom/...`, which drops queries
and headers and holds whole answers.

Only the configured server is ever asked, below its own address: paths are made of DICOMweb's words and UIDs,
redirects are not followed, and neither the reader's log-in goes there nor the PACS's password comes back.
Bodies stream both ways, so a series of any size takes no memory; in those of the DICOM JSON model addresses
of the PACS become addresses of this server (`addresses`). A connection that cannot be made is tried once
more; an answer that has begun is not, and one that breaks off breaks off for the viewer too.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx2
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from slem_app.errors import BadSetting, NotFound, PacsFailed
from slem_app.serving.dicom.rewrite import FIRST, KINDS, Addresses, dicomweb_path
from slem_app.serving.dicom.served import ServedStudies
from slem_app.serving.dicom.stow_body import StowBody, received
from slem_app.serving.streams import Stream
from slem_app.studies.pacs import Pacs

__all__ = ["proxy_router"]

logger = logging.getLogger(__name__)

PREFIX = "/proxy/dicom"
CONNECTIONS = 32
UP = (
    "accept",
    "accept-charset",
    "accept-encoding",
    "content-length",
    "content-type",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "range",
)
DOWN = (
    "accept-ranges",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "warning",
)
LEVELS = ("studies", "series", "instances")  # what is searched for
LISTING = 64 * 2**20  # bytes of what a search has found
STORED = ("multipart/related", "application/dicom")


def proxy_router(pacs: Pacs, served: ServedStudies) -> APIRouter:
    """The routes below `/proxy/dicom`.

    Args:
        pacs: what is asked.
        served: which of its studies may be seen.
    """
    router, way = APIRouter(prefix=PREFIX), PacsConnection(pacs, served)
    one_at_a_time = asyncio.Semaphore(1)  # the header of an instance is in memory while it is checked

    @router.get("/{what}/{path:path}", include_in_schema=False)
    async def get(request: Request, what: str, path: str) -> Stream:
        # the viewer asks its two roots for the same things, and programs leave them out
        return await way.through(request, path if what in ("qido", "wado", "stow") else f"{what}/{path}")

    @router.get("/{path}", include_in_schema=False)
    async def get_all(request: Request, path: str) -> Stream:
        return await way.through(request, path)

    @router.post("/wado/{path:path}", include_in_schema=False)  # where the viewer stores what was drawn in it
    @router.post("/stow/{path:path}", include_in_schema=False)
    async def store(request: Request, path: str) -> Stream:
        kind = request.headers.get("content-type", "")
        if path.partition("/")[0] != "studies" or not kind.lower().startswith(STORED):
            raise BadSetting(
                f"only DICOM can be stored, at studies or studies/UID, as multipart/related; got "
                f"{kind.partition(';')[0][:60] or 'no type'!r}"
            )
        study = path.removeprefix("studies").strip("/")
        async with received(request) as body:
            async with one_at_a_time:
                for part in await run_in_threadpool(body.instances):
                    await run_in_threadpool(served.check_stored, part, study)
            return await way.through(request, path, body)

    return router


class PacsConnection:
    """Connections to the PACS, shared by all requests."""

    def __init__(self, pacs: Pacs, served: ServedStudies) -> None:
        self.url, self.served = pacs.url, served
        self.client = httpx2.AsyncClient(
            auth=(pacs.user, pacs.password) if pacs.user else None,
            timeout=httpx2.Timeout(pacs.timeout, connect=min(5.0, pacs.timeout)),
            transport=httpx2.AsyncHTTPTransport(retries=1, limits=httpx2.Limits(max_connections=CONNECTIONS)),
            trust_env=False,  # no proxy and no password of the environment
            follow_redirects=False,
        )

    async def through(self, request: Request, path: str, body: StowBody | None = None) -> Stream:
        """The PACS's answer: as it comes, but of searches only what is of served studies.

        Args:
            request: what a viewer asks.
            path: of DICOMweb, below the PACS's address.
            body: what it stores.

        Raises:
            NotFound: a path that is none of DICOMweb, or of a study that is not served.
            PacsFailed: no answer, or one that leads elsewhere or refuses this server.
        """
        if not dicomweb_path(path):
            raise NotFound(
                f"{path[:100]!r} is not a DICOMweb path: such a path begins with {', '.join(FIRST)} and is "
                "made of UIDs"
            )
        study, search = _asked(path)
        if study:
            await run_in_threadpool(self.served.check, study)
        asked = self._request(request, path, search and request.method == "GET", body)
        try:
            answer = await self._send(asked)
        except httpx2.TimeoutException as error:
            raise PacsFailed(
                "the PACS did not answer in time: try again; the setting `pacs_timeout` allows more"
            ) from error
        except httpx2.HTTPError as error:
            raise PacsFailed(
                f"the PACS cannot be reached ({type(error).__name__}): is it running, and is "
                "its address correct?"
            ) from error
        if answer.status_code in (401, 403) or (
            300 <= answer.status_code < 400 and answer.status_code != 304
        ):
            await answer.aclose()
            raise PacsFailed(
                f"the PACS answered with {answer.status_code}: it refuses this server, or redirects it, "
                f"which the server does not follow"
            )
        kept = {name: answer.headers[name] for name in DOWN if name in answer.headers}
        if search and request.method == "GET" and answer.status_code == 200:
            return await self._listed(request, answer, study)
        if not _has_addresses(answer):
            return Stream(_pieces(answer.aiter_raw()), answer, status_code=answer.status_code, headers=kept)
        for name in ("content-length", "content-encoding", "accept-ranges"):  # of what the PACS has sent
            kept.pop(name, None)
        changed = Addresses(self.url, f"{str(request.base_url).rstrip('/')}{PREFIX}/wado").change(
            answer.aiter_bytes()
        )
        return Stream(_pieces(changed), answer, status_code=answer.status_code, headers=kept)

    def _request(self, request: Request, path: str, search: bool, body: StowBody | None) -> httpx2.Request:
        """What the PACS is asked; of a search the whole answer as JSON."""
        headers = {
            name: request.headers[name]
            for name in UP
            if name in request.headers and (request.method != "GET" or not name.startswith("content"))
        }
        query = request.scope.get("query_string", b"")
        url = httpx2.URL(
            f"{self.url}/{'/'.join(quote(part, safe=',') for part in path.split('/'))}"
        ).copy_with(query=query or None)
        if search:
            headers = {name: value for name, value in headers.items() if "range" not in name}
            headers["accept"] = KINDS[0]
        if body is not None:
            headers["content-length"] = str(body.size)
        return self.client.build_request(
            request.method,
            url,
            headers={"accept-encoding": "identity", **headers},
            content=body.pieces() if body is not None else None,
        )

    async def _listed(self, request: Request, answer: httpx2.Response, study: str) -> Stream:
        """What a search has found, of served studies."""
        body = bytearray()
        try:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > LISTING:
                    raise PacsFailed("the PACS returns too much at once: narrow the search, or use `limit`")
            found = await run_in_threadpool(json.loads, bytes(body) or b"[]")
            mine = await run_in_threadpool(self.served.listed, found, study)
        except (httpx2.HTTPError, ValueError, TypeError, AttributeError) as error:
            raise PacsFailed("the PACS gives no usable answer to a search: check its log") from error
        finally:
            await answer.aclose()
        changed = Addresses(self.url, f"{str(request.base_url).rstrip('/')}{PREFIX}/wado").change(
            _whole(json.dumps(mine).encode())
        )
        return Stream(changed, media_type=KINDS[0])

    async def _send(self, asked: httpx2.Request) -> httpx2.Response:
        """The beginning of an answer; asked once more where a connection that was kept open turns out to be
        closed, as Orthanc's often are.
        """
        try:
            return await self.client.send(asked, stream=True)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
            if asked.method != "GET":
                raise
            return await self.client.send(asked, stream=True)


def _asked(path: str) -> tuple[str, bool]:
    """The study that a path is of, '' for a search among all; and whether it is a search (QIDO-RS).

    Raises:
        NotFound: a path that does not tell.
    """
    parts = path.split("/")
    if parts[0] == "studies":
        return (parts[1] if len(parts) > 1 else ""), parts[-1] in LEVELS
    if parts[0] in LEVELS and len(parts) == 1:
        return "", True
    raise NotFound(f"{path[:100]!r} does not name a study: use a path below studies/UID")


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _has_addresses(answer: httpx2.Response) -> bool:
    """Whether an answer is in the DICOM JSON model, whole, and can be read here."""
    kind, packed = (
        answer.headers.get(name, "").partition(";")[0].strip().lower()
        for name in ("content-type", "content-encoding")
    )
    return kind in KINDS and answer.status_code != 206 and packed in ("", "identity", "gzip", "deflate")


async def _pieces(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body, piece by piece."""
    try:
        async for piece in body:
            yield piece
    except httpx2.HTTPError as error:
        logger.warning("the PACS broke off an answer: %s", type(error).__name__)
        raise PacsFailed("the PACS interrupted its answer") from error
