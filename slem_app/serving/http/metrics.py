"""What Prometheus is told of a server: requests, the queue, seconds by step, cases, labels, rounds, caches
and memory.

No figure is told by case, reader or address: names would be in it, and there would be no end of them.
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily

from slem_app.errors import SlemError
from slem_app.rounds.job import rounds
from slem_app.serving.auth.identity import ASGIApp, Receive, Scope, Send
from slem_app.serving.models.queue import Kind, RequestQueue
from slem_app.serving.server import Serving
from slem_app.store.record import DRAFT, FINAL

__all__ = ["Metrics", "MetricsMiddleware"]

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH")
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)  # upper ends of the histograms' classes
OTHER = "other"  # methods, routes and tags that are not the server's own
FRESH = 60.0  # seconds after which labels are counted again though this server has saved none


class Metrics:
    """The figures of one server.

    Args:
        serving: whose they are.
        queue: the queue in front of its network.
    """

    def __init__(self, serving: Serving, queue: RequestQueue) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "slem_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "slem_request_seconds",
            "Until an answer began.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.steps = Histogram(
            "slem_step_seconds",
            "Steps of segmentations and clicks.",
            ["model", "step"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.registry.register(_State(serving, queue))
        ProcessCollector(registry=self.registry)
        serving.timed = self.segmented

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        method = method if method in METHODS else OTHER
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)

    def segmented(self, model: str, latencies: Mapping[str, float]) -> None:
        """Note what the steps of a request have taken."""
        for step, seconds in latencies.items():
            self.steps.labels(model, step).observe(float(seconds))


def _kinds(tags: Iterable[str]) -> set[str]:
    """The tags that the server gives; those that clients have invented are one."""
    return {tag if tag in (FINAL, DRAFT) else OTHER for tag in tags}


class MetricsMiddleware:
    """Counts requests, by the routes that this server has: what strangers ask for besides is one row."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin = time.perf_counter()

        async def answer(message: Scope) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", None) or OTHER
                seconds = time.perf_counter() - begin
                self.metrics.answered(scope["method"], route, message["status"], seconds)
            await send(message)

        await self.app(scope, receive, answer)


class _State:
    """What is looked up when Prometheus asks."""

    def __init__(self, serving: Serving, queue: RequestQueue) -> None:
        self.serving, self.queue = serving, queue
        self.counted: tuple[int, float, dict[str, int]] | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All of it."""
        serving = self.serving
        queue = GaugeMetricFamily("slem_queue", "Requests that wait for the network.", labels=["kind"])
        for kind in Kind:
            queue.add_metric([kind.name.lower()], self.queue.count(kind))
        yield queue
        yield GaugeMetricFamily("slem_network_busy", "1 while the network computes.", float(self.queue.busy))
        yield GaugeMetricFamily("slem_cases", "Cases that can be opened.", len(serving.cases.known()))
        labels = GaugeMetricFamily("slem_labelled_cases", "Cases that have a label.", labels=["tag"])
        for tag, count in self._labels().items():
            labels.add_metric([tag], count)
        yield labels
        yield from self._reviews()
        yield self._rounds()
        yield self._caches()

    def _labels(self) -> dict[str, int]:
        """Tag -> cases; counting reads the store's folders, so it is done after a save, or once a minute."""
        store, now = self.serving.datastore.store, time.monotonic()
        if self.counted and self.counted[0] == store.changes and now - self.counted[1] < FRESH:
            return self.counted[2]
        changes = store.changes
        counts = dict(Counts(kind for case in store.cases() for kind in _kinds(store.tags(case))))
        self.counted = (changes, now, counts)
        return counts

    def _reviews(self) -> Iterator[GaugeMetricFamily]:
        states = self.serving.datastore.overview.states().values()
        told = GaugeMetricFamily("slem_label_states", "Cases by the state of their label.", labels=["state"])
        for name, count in Counts(state.name for state in states).items():
            told.add_metric([name], count)
        yield told
        confirmed = sum(state.done and state.confirmed for state in states)
        text = "Cases whose label is a model's result that a reader only confirmed."
        yield GaugeMetricFamily("slem_confirmed_cases", text, confirmed)

    def _rounds(self) -> GaugeMetricFamily:
        told = GaugeMetricFamily("slem_rounds", "Learning rounds that are kept.", labels=["status"])
        counts: Counts[str] = Counts()
        for folder in rounds(self.serving.trainings.root):
            try:
                counts[folder.status().status] += 1
            except SlemError:  # a status that cannot be read
                counts["UNKNOWN"] += 1
        for status, count in counts.items():
            told.add_metric([status], count)
        return told

    def _caches(self) -> GaugeMetricFamily:
        told = GaugeMetricFamily("slem_cache_bytes", "Memory that caches hold.", labels=["cache"])
        serving = self.serving
        for name, cache in (
            ("volumes", serving.computing.caches.prepared),
            ("corrections", serving.memory),
            ("starts", serving.computing.caches.starts),
            ("automatic", serving.computing.caches.results),
            ("results", serving.last_results.shown),
        ):
            told.add_metric([name], cache.used)
        return told
