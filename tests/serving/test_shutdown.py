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
