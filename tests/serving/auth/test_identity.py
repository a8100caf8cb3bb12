"""How readers are told apart, and what browsers are sent."""

import http.client
from collections.abc import Callable, Iterator

import pytest
import requests
from fastapi import FastAPI
from fastapi.responses import Response

from slem_app.serving.auth.identity import COOKIE, client_of, reader_of
from slem_app.serving.http.application import complete

LABELS = b"NRRD" + bytes(100_000)


app = FastAPI()


@app.get("/info/")
async def info() -> dict:
    return {}


@app.get("/who")
async def who(client_id: str = "") -> str:
    return reader_of(client_id)


@app.get("/what")
async def what(client_id: str = "", client: str = "") -> str:
    return client_of(client, client_id)


@app.post("/infer/model")
async def infer() -> Response:
    return Response(LABELS, media_type="application/octet-stream")


@pytest.fixture(scope="module")
def url(serve: Callable) -> Iterator[str]:
    complete(app)
    with serve(app) as address:
        yield address


@pytest.fixture
def browser() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_a_browser_keeps_the_name_that_it_is_given(url: str, browser: requests.Session) -> None:
    browser.get(f"{url}/info/", timeout=30)
    mine = browser.cookies[COOKIE]
    assert browser.get(f"{url}/who", timeout=30).json() == f"@{mine}"
    assert "set-cookie" not in browser.get(f"{url}/info/", timeout=30).headers
    with requests.Session() as another:
        another.get(f"{url}/info/", timeout=30)
        assert another.get(f"{url}/who", timeout=30).json() not in ("@", "@127.0.0.1", f"@{mine}")


def test_a_client_without_cookies_is_its_id_and_its_machine(url: str, browser: requests.Session) -> None:
    assert browser.get(f"{url}/who", params={"client_id": "ann"}, timeout=30).json() == "ann@127.0.0.1"
    assert COOKIE not in browser.cookies


@pytest.mark.parametrize("cookie", ["x", "../../etc", "0" * 33, '"'])
def test_a_cookie_that_is_none_of_ours_counts_for_nothing(
    url: str, browser: requests.Session, cookie: str
) -> None:
    assert (
        browser.get(f"{url}/who", headers={"cookie": f"{COOKIE}={cookie}"}, timeout=30).json() == "@127.0.0.1"
    )


def test_raw_label_maps_travel_compressed_to_those_who_can_read_it(
    url: str, browser: requests.Session
) -> None:
    packed = browser.post(f"{url}/infer/model?output=image", headers={"accept-encoding": "gzip"}, timeout=30)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == LABELS
    assert int(packed.headers["content-length"]) < 2000
    for address, encoding in (("output=image", "identity"), ("", "gzip")):
        answer = browser.post(
            f"{url}/infer/model?{address}", headers={"accept-encoding": encoding}, timeout=30
        )
        assert "content-encoding" not in answer.headers
        assert answer.content == LABELS


def test_a_client_is_known_by_what_it_says_or_by_its_headers(url: str) -> None:
    assert requests.get(f"{url}/what", params={"client": "my own"}, timeout=10).json() == "my own"
    assert (
        requests.get(
            f"{url}/what", headers={"Referer": f"{url}/ohif/monai-label?StudyInstanceUIDs=1"}, timeout=10
        ).json()
        == "OHIF"
    )
    assert requests.get(f"{url}/what", timeout=10).json().startswith("python-requests/")
    plain = http.client.HTTPConnection(url.removeprefix("http://"))  # as Slicer's plugin asks
    for client_id, told in (("eva", b'"3D Slicer"'), ("", b'""')):
        plain.request("GET", f"/what?client_id={client_id}")
        assert plain.getresponse().read() == told
    plain.close()


def test_a_long_id_is_not_remembered_whole_and_stays_apart_from_others() -> None:
    names = [reader_of("x" * 10**6 + end) for end in ("a", "b", "a")]
    assert names[0] == names[2] != names[1]
    assert max(map(len, names)) < 300
    assert reader_of("x" * 200) == f"{'x' * 200}@"
