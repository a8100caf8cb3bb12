"""Slow, half-open and many connections: each ends, and none is in another's way."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
import requests
import uvicorn

from slem_app.serving.http.connections import Limits, limited
from tests.waiting import wait_until

FAST = Limits(
    header_seconds=0.6, body_grace=0.6, body_rate=2000.0, send_seconds=0.6, connections=20, all_connections=60
)


async def application(scope: dict, receive: Callable, send: Callable) -> None:
    """Reads the body; answers with how much that was, or with 64 MiB."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64 if scope["path"] == "/much" else 0):
        await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
    await send({"type": "http.response.body", "body": str(size).encode()})


@contextmanager
def serving(limits: Limits, **options: object) -> Iterator[tuple[int, type]]:
    """The port of a server with such limits, and its protocol."""
    protocol = limited(limits)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            **options,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1], protocol
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(FAST) as (port, _):
        yield port


def ended(connection: socket.socket, seconds: float = 10.0) -> float:
    """Seconds until the server closes a connection."""
    begin = time.monotonic()
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - begin


def connect(port: int, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(sent)
    return connection


def trickle(connection: socket.socket, pause: float) -> None:
    """Send a byte again and again."""
    while True:
        time.sleep(pause)
        try:
            connection.sendall(b"a")
        except OSError:
            return


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Half",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n12",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nX-Half",
    ],
    ids=["nothing", "header", "body", "chunks", "second header"],
)
@pytest.mark.parametrize("slowly", [False, True], ids=["silent", "byte by byte"])
def test_a_request_that_does_not_come_to_its_end_is_ended(port: int, sent: bytes, slowly: bool) -> None:
    with connect(port, sent) as connection:
        if slowly:
            threading.Thread(target=trickle, args=(connection, 0.1), daemon=True).start()
        assert ended(connection) < 8


def test_an_answer_that_nobody_reads_is_given_up(port: int) -> None:
    with connect(port, b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        time.sleep(3)
        connection.settimeout(10)
        assert read(connection) < 60 * 2**20


def read(connection: socket.socket) -> int:
    """Read to the end, however it comes; how many bytes there were."""
    size = 0
    with suppress(ConnectionError):
        while more := connection.recv(2**20):
            size += len(more)
    return size


def test_a_body_that_comes_at_a_fair_rate_and_a_connection_that_is_used_again_live_on(port: int) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(12):
            time.sleep(0.15)
            yield bytes(1000)

    with requests.Session() as web:
        assert web.post(f"http://127.0.0.1:{port}/", data=body(), timeout=30).text == "12000"
        time.sleep(1)  # longer than a header may take
        assert web.get(f"http://127.0.0.1:{port}/", timeout=30).text == "0"
        assert len(web.get(f"http://127.0.0.1:{port}/much", timeout=30).content) == 64 * 2**20 + 1


def test_one_address_has_so_many_connections_and_others_are_answered() -> None:
    with serving(FAST) as (port, protocol), ExitStack() as held:
        for _ in range(20):
            held.enter_context(connect(port, b"GET / HTTP/1.1\r\nX-Half"))
        wait_until(lambda: protocol.open["127.0.0.1"] == 20, 5, 0.01)
        refused = connect(port)
        answer = refused.recv(1000)
        assert answer.startswith(b"HTTP/1.1 503")
        assert answer.endswith(b'are open from your address"}')
        refused.close()
        other = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
        other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert other.recv(1000).startswith(b"HTTP/1.1 200")
        other.close()
        wait_until(lambda: not protocol.open, 10)  # the half-open ones have been ended
        assert requests.get(f"http://127.0.0.1:{port}/", headers={"Connection": "close"}, timeout=10).ok


def test_a_proxy_may_have_many() -> None:
    limits = Limits(connections=2, exempt=("127.0.0.0/24",), header_seconds=5)
    with serving(limits) as (port, protocol), ExitStack() as held:
        for _ in range(10):
            held.enter_context(connect(port))
        wait_until(lambda: protocol.open["127.0.0.1"] == 10, 5, 0.01)
