"""Where a server computes: in its own process, or in those of a cluster."""

from __future__ import annotations

import atexit
from collections.abc import Callable

import torch

from slem_app.cluster import Cluster
from slem_app.devices import read_device
from slem_app.predict import Predictor
from slem_app.selection import LabelMap, Measures
from slem_app.serving.cases.case import Case
from slem_app.serving.models.byte_cache import ByteCache
from slem_app.serving.models.cluster_compute import ClusterCompute, Processes
from slem_app.serving.models.compute import Caches, Compute, LocalCompute, Start
from slem_app.serving.models.compute_process import ProcessSettings
from slem_app.serving.settings import Settings

__all__ = ["Computing"]

WAITING = (
    16  # requests for each process of a cluster that may be under way: a thread of the server waits for each
)


class Computing:
    """What computes for the models of a server.

    Args:
        settings: the server's.

    Raises:
        BadSetting: an unknown device, or a cluster that cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.register = settings.register
        self.caches = Caches.of_size(settings.cache_mb, settings.memory_mb)
        self.processes: Processes | None = None
        self.threads = 1
        if settings.threads:
            torch.set_num_threads(settings.threads)
        if not settings.cluster:
            self.device = read_device(settings.device)
            return
        self.device = torch.device("cpu")  # the cluster's processes have the GPUs
        cluster = Cluster(settings.cluster)
        atexit.register(cluster.close)
        gpu = cluster.has_gpus and settings.device != "cpu"
        size = settings.cluster_processes or cluster.size
        own = ProcessSettings(
            settings.device, settings.threads, settings.cache_mb, settings.memory_mb, settings.register
        )
        self.use(Processes(cluster, size, gpu, own), settings.memory_mb)

    def use(self, processes: Processes, memory_mb: int) -> None:
        """Compute in these processes.

        Args:
            processes: which.
            memory_mb: MiB of what corrections begin with.
        """
        self.processes, self.threads = processes, WAITING * len(processes.places)
        self.starts: ByteCache[Start] = ByteCache(memory_mb * 2**20, lambda start: start.nbytes)

    @property
    def scorer(self) -> Callable[[Case, Predictor, LabelMap | None], tuple[Measures, LabelMap]] | None:
        """What scores a case elsewhere; None where the server does it itself."""
        return None if self.processes is None else self.processes.measure

    def of_model(self) -> Compute:
        """What computes for one model."""
        local = LocalCompute(self.caches, self.register)
        return local if self.processes is None else ClusterCompute(self.processes, self.starts, local)
