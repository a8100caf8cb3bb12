"""Connections that cost the server something and never end are closed.

Whoever half sends a header, sends a body a byte at a time, does not read an answer, or opens a hundred
connections, keeps nobody else out.

uvicorn closes only connections that idle between two requests; the rest is added to its HTTP protocol here.
Everything happens in the event loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Limits", "limited", "raise_open_files"]

logger = logging.getLogger(__name__)

OPEN_FILES = 65_536  # connections and files that are wanted; the system's limit may be lower
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 10\r\n"
    b"Content-Type: application/json\r\nContent-Length: 81\r\n\r\n"
    b'{"error": "TooMany", "detail": "too many connections are open from your address"}'
)


@dataclass(frozen=True)
class Limits:
    """What one connection may cost."""

    header_seconds: float = 20.0
    """From the first byte of a request, or the opening of a connection, to the end of its header."""
    body_grace: float = 30.0
    """Seconds of a body that may be slower than `body_rate`."""
    body_rate: float = 4096.0
    """Bytes a second, on average, below which a body is too slow; the server's own pauses do not count."""
    send_seconds: float = 120.0
    """For which a client may leave an answer unread."""
    connections: int = 100
    """Open at once from one address."""
    all_connections: int = 2000
    """Open at once in all."""
    exempt: tuple[str, ...] = ()
    """Addresses or networks of proxies, behind which there are many."""

    def is_exempt(self, address: str) -> bool:
        """True for a proxy's address."""
        try:
            own = ipaddress.ip_address(address)
        except ValueError:  # a socket of this machine
            return True
        return any(own in ipaddress.ip_network(one) for one in self.exempt)


class LimitedProtocol(H11Protocol):
    """One connection. `limited` makes the class that a server uses."""

    limits: ClassVar[Limits] = Limits()
    open: ClassVar[Counter[str]] = Counter()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.header_timer: asyncio.TimerHandle | None = None
        self.body_timer: asyncio.TimerHandle | None = None
        self.send_timer: asyncio.TimerHandle | None = None
        self.received = 0  # bytes of this body
        self.waited = 0.0  # seconds for which this body was waited for
        self.counted = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, or say that there are too many."""
        super().connection_made(transport)
        self.counted = self.client[0] if self.client else "unix"
        self.open[self.counted] += 1
        crowded = self.open[self.counted] > self.limits.connections
        if self.open.total() > self.limits.all_connections or (
            crowded and not self.limits.is_exempt(self.counted)
        ):
            logger.warning("too many connections are open from %s", self.counted)
            transport.write(REFUSAL)
            transport.close()
            return
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.open[self.counted] -= 1
        if self.open[self.counted] <= 0:
            del self.open[self.counted]
        for timer in (self.header_timer, self.body_timer, self.send_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a header or a body."""
        if self.transport.is_closing():
            return
        self.received += len(data)
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_header()

    def handle_events(self) -> None:
        """A header may be complete now: of the first request, or of one that came before it was its turn."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_header()
            self.received, self.waited = 0, 0.0
            if self.cycle.more_body and self.body_timer is None:
                self._watch_body(time.monotonic())

    def pause_writing(self) -> None:
        """The client does not read its answer."""
        super().pause_writing()
        if self.send_timer is None:
            self.send_timer = self.loop.call_later(self.limits.send_seconds, self._close, "an answer unread")

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self.send_timer is not None:
            self.send_timer.cancel()
            self.send_timer = None

    def _expect_header(self) -> None:
        if self.header_timer is None:
            seconds = self.limits.header_seconds
            self.header_timer = self.loop.call_later(seconds, self._close, "a header half sent")

    def _stop_header(self) -> None:
        if self.header_timer is not None:
            self.header_timer.cancel()
            self.header_timer = None

    def _watch_body(self, since: float) -> None:
        """Look again and again whether a body still comes."""
        now = time.monotonic()
        if self.transport.is_closing() or not self.cycle.more_body or self.cycle.response_complete:
            self.body_timer = None
            return
        if not self.flow.read_paused:  # else it is this server that does not read
            self.waited += now - since
        if self.received < self.limits.body_rate * (self.waited - self.limits.body_grace):
            self._close("a body half sent")
            return
        step = min(1.0, max(0.05, self.limits.body_grace / 10))
        self.body_timer = self.loop.call_later(step, self._watch_body, now)

    def _close(self, left: str) -> None:
        """End a connection whose client has left something."""
        logger.info("%s has left %s: the connection is closed", self.counted, left)
        self.transport.abort()


def limited(limits: Limits) -> type[LimitedProtocol]:
    """The protocol of a server, for `uvicorn.Config(http=...)`."""
    return type("ServerProtocol", (LimitedProtocol,), {"limits": limits, "open": Counter()})


def raise_open_files() -> int:
    """Let this process have as many open files as the system allows it; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
