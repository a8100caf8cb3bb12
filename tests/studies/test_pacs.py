"""A PACS is asked at its own address alone, wherever its answers point to."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from slem_app.errors import PacsFailed
from slem_app.studies.pacs import Pacs


@pytest.fixture
def pair() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that sends everybody on to another one, and what that one was asked."""
    asked: list[str] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None: ...

    class Sending(Other):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{other.server_port}/secret")
            self.send_header("Content-Length", "0")
            self.end_headers()

    other, sending = HTTPServer(("127.0.0.1", 0), Other), HTTPServer(("127.0.0.1", 0), Sending)
    threads = [threading.Thread(target=server.serve_forever) for server in (other, sending)]
    for thread in threads:
        thread.start()
    yield f"http://127.0.0.1:{sending.server_port}/dicom-web", asked
    for server, thread in zip((other, sending), threads):
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_redirect_is_not_followed(pair: tuple[str, list[str]]) -> None:
    url, asked = pair
    pacs = Pacs(url, attempts=1, timeout=10.0)
    with pytest.raises(PacsFailed, match="gives no usable answer to its studies"):
        pacs.studies(once=True)
    pacs.client._session.close()
    assert asked == []
