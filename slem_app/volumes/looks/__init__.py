"""Which sequence an image looks like, whatever its name says."""

from slem_app.volumes.looks.look import Looks, look, look_at_series
from slem_app.volumes.looks.network import CLASSES, LooksNetwork
from slem_app.volumes.looks.settle import settle
from slem_app.volumes.looks.weights import LooksCard, load_looks_network, save_looks_network

__all__ = [
    "CLASSES",
    "Looks",
    "LooksCard",
    "LooksNetwork",
    "load_looks_network",
    "look",
    "look_at_series",
    "save_looks_network",
    "settle",
]
