"""The way to the PACS: queries, headers and bodies arrive as they are, nothing else is reached, and its
failures are told.
"""

import asyncio
import base64
import gc
import gzip
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
import requests
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from slem_app.serving.dicom.proxy import CONNECTIONS, proxy_router
from slem_app.serving.http.application import complete
from slem_app.studies.pacs import Pacs

MIB = 2**20
BLOCK = bytes(range(256)) * 1024  # a quarter of a MiB


class Everything:
    """Stands for the served studies where all may be seen; what may not is in `test_served`."""

    def check(self, study: str) -> None: ...

    def listed(self, found: list, study: str = "") -> list:
        return found

    def check_stored(self, content: bytes, study: str = "") -> None: ...


class Seen:
    """A DICOMweb server that tells what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bodies: list[str] = []
        self.app = FastAPI()
        self.app.get("/dicom-web/studies/1.2.3/large")(self.large)
        self.app.get("/dicom-web/studies/1.2.3/late")(self.late)
        self.app.get("/dicom-web/studies/1.2.3/broken")(self.broken)
        self.app.get("/dicom-web/studies/1.2.3/elsewhere")(
            lambda: RedirectResponse("http://127.0.0.1:9/secret")
        )
        self.app.get("/dicom-web/studies/1.2.3/locked")(
            lambda: Response(status_code=401, headers={"WWW-Authenticate": "Basic"})
        )
        self.app.get("/dicom-web/studies/1.2.3/missing")(
            lambda: Response("no such study", status_code=404, media_type="text/plain")
        )
        self.app.get("/dicom-web/studies/1.2.3/metadata")(self.metadata)
        self.app.get("/dicom-web/studies/1.2.3/pixels")(
            lambda: Response(b'"BulkDataURI": "http://pacs/studies/1"', media_type="multipart/related")
        )
        self.app.get("/{path:path}")(self.get)
        self.app.post("/dicom-web/studies")(self.store)

    def get(self, request: Request) -> Response:
        self.requests.append(request)
        if "range" in request.headers:
            return Response(
                b"45",
                status_code=206,
                headers={
                    "Content-Range": "bytes 4-5/10",
                    "ETag": '"x"',
                    "Set-Cookie": "pacs=1",
                    "Server": "secret",
                },
            )
        return Response(b"[]", media_type="application/dicom+json")

    async def store(self, request: Request) -> Response:
        digest, size = hashlib.sha256(), 0
        async for piece in request.stream():
            digest.update(piece)
            size += len(piece)
        self.requests.append(request)
        self.bodies.append(f"{size} {digest.hexdigest()}")
        return Response(b"{}", media_type="application/dicom+json")

    def large(self) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(4 * 200):
                yield BLOCK

        return StreamingResponse(pieces(), media_type="multipart/related")

    def metadata(self, request: Request) -> Response:
        """Addresses as a PACS writes them that knows itself under another name; compressed for whoever takes
        that.
        """
        where = "http://pacs.inside/dicom-web/studies/1.2.3"
        text = json.dumps(
            [
                {
                    "00081190": {"vr": "UR", "Value": [where]},
                    "7FE00010": {"vr": "OW", "BulkDataURI": f"{where}/bulk/1?offset=5"},
                }
            ]
        ).encode()
        if "gzip" not in request.headers["accept-encoding"]:
            return Response(text, media_type="application/dicom+json")
        return Response(
            gzip.compress(text),
            headers={"Content-Encoding": "gzip"},
            media_type="application/dicom+json; charset=utf-8",
        )

    async def late(self) -> Response:
        await asyncio.sleep(5)
        return Response()

    def broken(self) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield BLOCK
            raise ConnectionAbortedError("as asked")

        return StreamingResponse(pieces(), headers={"Content-Length": str(4 * len(BLOCK))})


@pytest.fixture(scope="module")
def pacs() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def url(pacs: Seen, serve: Callable) -> Iterator[str]:
    with serve(pacs.app) as address:
        app = FastAPI()
        app.include_router(
            proxy_router(
                Pacs(f"{address}/dicom-web", user="slem", password="pacs password", timeout=1.0), Everything()
            )
        )
        complete(app)
        with serve(app) as proxy:
            yield f"{proxy}/proxy/dicom"


def ask(method: str, url: str, **fields: object) -> requests.Response:
    with requests.Session() as session:
        request = requests.Request(method, url, **fields).prepare()
        request.url = url  # as it is, without tidying
        return session.send(request, timeout=30)


@pytest.mark.parametrize("root", ["qido/", "wado/", ""])
def test_query_and_headers_arrive_as_they_were_sent(url: str, pacs: Seen, root: str) -> None:
    query = (
        "StudyInstanceUID=1.2.3&PatientName=M%C3%BCller%5E*&includefield=00080060&includefield=all&x=a+b%2Fc"
    )
    headers = {
        "Accept": 'multipart/related; type="image/jls", application/dicom+json',
        "Cookie": "slem_login=secret",
        "Authorization": "bearer secret",
    }
    answer = ask(
        "GET", f"{url}/{root}studies/1.2.3/series?{query}", headers={**headers, "Connection": "close"}
    )
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (
        200,
        b"[]",
        "application/dicom+json",
    )
    asked = pacs.requests[-1]
    assert asked.url.path == "/dicom-web/studies/1.2.3/series"
    assert asked.scope["query_string"].decode() == query
    assert asked.headers["accept"] == "application/dicom+json"  # what is found is looked through
    assert "secret" not in str(asked.headers)
    assert (
        base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
        == "slem:pacs password"
    )


def test_ranges_are_passed_and_nothing_of_the_pacs_itself(url: str, pacs: Seen) -> None:
    answer = ask(
        "GET",
        f"{url}/wado/studies/1.2.3/series/1.2/instances/1/frames/1,2",
        headers={"Range": "bytes=4-5", "Connection": "close"},
    )
    assert pacs.requests[-1].headers["range"] == "bytes=4-5"
    assert pacs.requests[-1].url.path.endswith("/frames/1,2")
    assert (answer.status_code, answer.content, answer.headers["content-range"], answer.headers["etag"]) == (
        206,
        b"45",
        "bytes 4-5/10",
        '"x"',
    )
    assert "set-cookie" not in answer.headers
    assert "secret" not in str(answer.headers)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_addresses_of_the_pacs_lead_through_this_server(url: str, pacs: Seen, encoding: str) -> None:
    answer = ask(
        "GET",
        f"{url}/qido/studies/1.2.3/metadata",
        headers={"Accept-Encoding": encoding, "Connection": "close"},
    )
    [one] = answer.json()
    assert one == {
        "00081190": {"vr": "UR", "Value": [f"{url}/wado/studies/1.2.3"]},
        "7FE00010": {"vr": "OW", "BulkDataURI": f"{url}/wado/studies/1.2.3/bulk/1?offset=5"},
    }
    assert ask("GET", one["7FE00010"]["BulkDataURI"], headers={"Connection": "close"}).ok
    assert (pacs.requests[-1].url.path, pacs.requests[-1].url.query) == (
        "/dicom-web/studies/1.2.3/bulk/1",
        "offset=5",
    )


def test_pixels_are_not_read_for_addresses(url: str) -> None:
    assert (
        ask("GET", f"{url}/wado/studies/1.2.3/pixels", headers={"Connection": "close"}).text
        == '"BulkDataURI": "http://pacs/studies/1"'
    )


def test_large_answers_stream(url: str) -> None:
    before, size, first = psutil.Process().memory_info().rss, 0, 0.0
    start = time.monotonic()
    with requests.get(
        f"{url}/wado/studies/1.2.3/large", stream=True, timeout=60, headers={"Connection": "close"}
    ) as answer:
        for piece in answer.iter_content(MIB):
            first = first or time.monotonic() - start
            size += len(piece)
    assert size == 200 * MIB
    assert first < (time.monotonic() - start) / 2
    # both servers and the client are this process
    assert psutil.Process().memory_info().rss - before < 100 * MIB


def test_readers_who_go_away_keep_no_connection_to_the_pacs(url: str) -> None:
    with collecting_nothing():
        for _ in range(CONNECTIONS + 4):
            with requests.get(
                f"{url}/wado/studies/1.2.3/large", stream=True, timeout=60, headers={"Connection": "close"}
            ) as answer:
                assert answer.raw.read(1000)
        assert ask("GET", f"{url}/qido/studies", headers={"Connection": "close"}).json() == []


@contextmanager
def collecting_nothing() -> Iterator[None]:
    """What Python's collector would close in the end, somebody must close before."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_what_is_stored_arrives_as_it_was_sent(url: str, pacs: Seen) -> None:
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + BLOCK * 40 + b"\r\n--x--\r\n"
    answer = ask(
        "POST",
        f"{url}/stow/studies",
        data=body,
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'},
    )
    assert answer.status_code == 200
    assert pacs.bodies[-1] == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    assert pacs.requests[-1].headers["content-type"].endswith("boundary=x")


@pytest.mark.parametrize(
    "path",
    [
        "wado/../../admin",
        "wado/studies/../../admin",
        "wado/studies/..%2f..%2fadmin",
        "wado/studies/%2e%2e/%2e%2e/admin",
        "wado/studies/1.2/",
        "wado/studies//1.2",
        "wado/studies/1.2\\..",
        "wado/http://example.org/",
        "wado/studies@example.org/1",
        "wado/studies/1.2%3fx=1",
        "wado/studies/1.2%23",
        "wado/system",
        "patients",
        "wado/studies/a%0d%0aHost:x",
    ],
)
def test_nothing_but_dicomweb_of_that_server_is_reached(url: str, pacs: Seen, path: str) -> None:
    before = len(pacs.requests)
    assert ask("GET", f"{url}/{path}", headers={"Connection": "close"}).status_code == 404
    assert len(pacs.requests) == before


@pytest.mark.parametrize(
    ("path", "kind"),
    [("stow/studies", "text/html"), ("stow/studies", ""), ("stow/series/1.2", "application/dicom")],
)
def test_only_dicom_is_stored(url: str, pacs: Seen, path: str, kind: str) -> None:
    before = len(pacs.requests)
    assert (
        ask(
            "POST", f"{url}/{path}", data=b"x", headers={"Content-Type": kind, "Connection": "close"}
        ).status_code
        == 400
    )
    assert len(pacs.requests) == before


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("late", "did not answer in time"),
        ("elsewhere", "answered with 307: it refuses this server, or redirects it, which the server"),
        ("locked", "answered with 401"),
    ],
)
def test_what_the_pacs_does_wrong_is_told(url: str, what: str, text: str) -> None:
    answer = ask("GET", f"{url}/wado/studies/1.2.3/{what}", headers={"Connection": "close"})
    assert (answer.status_code, answer.json()["error"]) == (502, "PacsFailed")
    assert text in answer.json()["detail"]
    assert "www-authenticate" not in answer.headers


def test_what_the_pacs_does_not_have_is_its_own_answer(url: str) -> None:
    answer = ask("GET", f"{url}/wado/studies/1.2.3/missing", headers={"Connection": "close"})
    assert (answer.status_code, answer.text) == (404, "no such study")


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(url: str) -> None:
    with pytest.raises(requests.exceptions.RequestException):
        ask("GET", f"{url}/wado/studies/1.2.3/broken", headers={"Connection": "close"})


def test_a_pacs_that_is_not_there_is_told(serve: Callable) -> None:
    app = FastAPI()
    app.include_router(proxy_router(Pacs("http://127.0.0.1:9/dicom-web", timeout=1.0), Everything()))
    complete(app)
    with serve(app) as address:
        answer = ask("GET", f"{address}/proxy/dicom/qido/studies", headers={"Connection": "close"})
    assert answer.status_code == 502
    assert "cannot be reached (ConnectError)" in answer.json()["detail"]
