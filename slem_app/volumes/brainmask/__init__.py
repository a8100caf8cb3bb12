"""Where the brain is in an image of a whole head."""

from slem_app.volumes.brainmask.network import MaskNetwork
from slem_app.volumes.brainmask.weights import MaskCard, load_mask_network, save_mask_network

__all__ = ["MaskCard", "MaskNetwork", "load_mask_network", "save_mask_network"]
