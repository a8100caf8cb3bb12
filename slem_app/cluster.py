"""Processes of a Ray cluster that each hold one object, whose methods are called from here. The only place
that imports Ray.

A process that is lost ends each of its calls with `WorkerLost`; whoever called starts another one. Nothing is
tried again here, since only the caller knows what a call has done.

Ray asks its own machines for a token. Whoever has it runs code as the user of the cluster's processes.
"""

from __future__ import annotations

import importlib
import logging
import os
from concurrent.futures import Future
from typing import Any, Protocol, cast

from slem_app.errors import BadSetting, WorkerLost

__all__ = ["AUTO", "LOCAL", "Cluster", "Member", "Members", "RayMember"]

AUTO, LOCAL = "auto", "local"
"""The cluster that runs on this machine, or one of this process's own; always one of this process's own."""
STORE = 2**30  # bytes in which a cluster of this process's own hands arrays over


class Member(Protocol):
    """One process and its object."""

    @property
    def ready(self) -> Future[None]:
        """Done when `begin` is; fails as that does, or as any call."""

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method; the future fails as the method does, or with `WorkerLost`."""

    def stop(self) -> None:
        """End the process, whatever it has in hand."""


class Members(Protocol):
    """What starts processes."""

    def share(self, value: Any) -> Any:
        """What to give to `start` in place of something large that many processes need."""

    def start(self, kind: type, *args: Any, threads: int, gpu: bool) -> Member:
        """Start a process that makes a `kind` of the arguments and calls its `begin`; then it does as many
        calls at once as it has threads. A GPU is its alone.
        """


class Cluster:
    """A Ray cluster.

    Args:
        address: HOST:PORT, or as Ray has it; or `AUTO`, or `LOCAL`.

    Raises:
        BadSetting: Ray is not installed, or no cluster answers there.
    """

    def __init__(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers of each start
        try:
            self.ray = importlib.import_module("ray")
        except ImportError as error:
            raise BadSetting(
                "--cluster needs Ray: pip install 'slem-label[cluster]' on each of its machines"
            ) from error
        more: dict[str, Any] = {"address": None if address == AUTO else address}
        if address == LOCAL:
            more |= {"object_store_memory": STORE, "include_dashboard": False}
        try:
            self.ray.init(log_to_driver=False, logging_level=logging.WARNING, **more)
        except Exception as error:  # Ray raises many kinds, also Exception itself
            raise BadSetting(
                f"no Ray cluster can be used at {address!r}: {error}; start one with `ray start --head`, or "
                f"use --cluster {LOCAL}"
            ) from error

    @property
    def size(self) -> int:
        """Its GPUs; where it has none, its machines."""
        gpus = int(self.ray.cluster_resources().get("GPU", 0))
        return gpus or max(1, sum(1 for node in self.ray.nodes() if node["Alive"]))

    @property
    def has_gpus(self) -> bool:
        """Whether any of its machines has one."""
        return self.ray.cluster_resources().get("GPU", 0) > 0

    def share(self, value: Any) -> Any:
        """As `Members.share`."""
        return self.ray.put(value)

    def start(self, kind: type, *args: Any, threads: int, gpu: bool) -> RayMember:
        """As `Members.start`."""
        actor = self.ray.remote(kind).options(
            num_cpus=1, num_gpus=int(gpu), max_concurrency=threads, max_restarts=0
        )
        return RayMember(self.ray, actor.remote(*args))

    def close(self) -> None:
        """Leave it; one of this process's own ends."""
        self.ray.shutdown()


class RayMember:
    """A process of Ray's.

    Args:
        ray: the package.
        actor: the handle of its object.
    """

    def __init__(self, ray: Any, actor: Any) -> None:
        self.ray, self.actor = ray, actor
        self.ready: Future[None] = self.call("begin")

    def call(self, method: str, *args: Any) -> Future[Any]:
        """As `Member.call`."""
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()

        def done(theirs: Future[Any]) -> None:
            error = theirs.exception()
            if error is None:
                answer.set_result(theirs.result())
            else:
                answer.set_exception(self._own(error))

        try:
            getattr(self.actor, method).remote(*args).future().add_done_callback(done)
        except self.ray.exceptions.RayError as error:  # it was known to be lost
            answer.set_exception(self._own(error))
        return answer

    def stop(self) -> None:
        """As `Member.stop`."""
        self.ray.kill(self.actor)

    def _own(self, error: BaseException) -> BaseException:
        """What the method raised, or `WorkerLost`."""
        known = self.ray.exceptions
        if isinstance(error, known.RayTaskError):
            return cast(BaseException, error.cause)
        if isinstance(error, known.RayError):
            return WorkerLost(f"a process of the cluster was lost: {str(error).splitlines()[0]}")
        return error
