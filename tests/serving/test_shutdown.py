"""A server that was told to end ends, whatever its threads do."""

import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest

SERVER = """
import socket, sys, threading
from contextlib import asynccontextmanager
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from slem_app.serving.shutdown import end_by_signal

def busy(request):
    print("busy", flush=True)
    {work}

@asynccontextmanager
async def lifespan(app):
    end_by_signal(1.0)
    print("ready", flush=True)
    yield

with socket.create_server(("127.0.0.1", 0)) as listening:
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(Starlette(routes=[Route("/", busy)], lifespan=lifespan), log_level="error")
    uvicorn.Server(config).run([listening])
"""


@pytest.mark.parametrize("work", ["threading.Event().wait()", "while True: pass"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_whose_thread_never_ends(work: str, number: signal.Signals) -> None:
    code = SERVER.format(work=work)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        port = int(server.stdout.readline())
        assert server.stdout.readline() == "ready\n"
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1.0)
        assert server.stdout.readline() == "busy\n"
        begin = time.monotonic()
        server.send_signal(number)
        _, log = server.communicate(timeout=60)
        assert server.returncode != 0
        assert time.monotonic() - begin < 30  # 1 s, and the machine's own pace
        assert "in busy" in log


STREAMING = """
import asyncio
from starlette.responses import StreamingResponse
from slem_app.serving import shutdown

async def pieces():
    while not shutdown.is_ending():
        yield b"x"
        await asyncio.sleep(0.05)

def busy(request):
    return StreamingResponse(pieces())
"""


def test_a_stream_that_looks_ends_at_once_with_its_server() -> None:
    before, after = SERVER.split("def busy(request):")
    code = (
        before
        + STREAMING
        + after.partition("{work}\n")[2].replace("end_by_signal(1.0)", "end_by_signal(50.0)")
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline())
        assert server.stdout.readline() == "ready\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30.0) as stream:
            assert stream.read(1) == b"x"
            begin = time.monotonic()
            server.send_signal(signal.SIGTERM)
            stream.read()  # to its end
            assert server.wait(timeout=40) is not None
            assert time.monotonic() - begin < 10
