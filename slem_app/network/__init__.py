"""The SLeM segmenter: `build(config)`. Pure torch; knows nothing of files, organs or MONAI Label."""

from slem_app.network.blocks import channels_last
from slem_app.network.config import SegmenterConfig
from slem_app.network.cost import flops, parameters
from slem_app.network.editor import EditorConfig, EditorNetwork
from slem_app.network.segmenter import Decoder, Encoder, Segmenter, build

__all__ = [
    "Decoder",
    "EditorConfig",
    "EditorNetwork",
    "Encoder",
    "Segmenter",
    "SegmenterConfig",
    "build",
    "channels_last",
    "flops",
    "parameters",
]
