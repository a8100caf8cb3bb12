"""What a reader points at: clicks, scribbles, a box, a mask to start from; their channels for the network; a
simulated reader.

    prompts = Prompts().with_click(Click.on(grid, (120, 98, 77), "edema", labels))  # grid: of the shown image
    prompts = prompts.with_click(Click.on(grid, (88, 98, 77), BACKGROUND, labels))
    channels = encode(prompts, network_grid, labels, current)  # (2 L + 2, I, J, K); all zero = automatic

`read_clicks`, `read_strokes`, `read_reaches` and `read_box` read the fields of a client's request;
`SimulatedReader` corrects a segmentation whose truth it knows.
"""

from slem_app.prompts.checks import map_value
from slem_app.prompts.corrections import CORRECTIONS_FILE, Corrections
from slem_app.prompts.encode import channel_count, encode
from slem_app.prompts.prompts import BACKGROUND, Box, Click, Mask, Prompts
from slem_app.prompts.reader import ReaderSettings, SimulatedClick, SimulatedReader
from slem_app.prompts.request import read_box, read_clicks, read_reaches, read_scribbles, read_strokes
from slem_app.prompts.scribble import Scribble

__all__ = [
    "BACKGROUND",
    "CORRECTIONS_FILE",
    "Box",
    "Click",
    "Corrections",
    "Mask",
    "Prompts",
    "ReaderSettings",
    "Scribble",
    "SimulatedClick",
    "SimulatedReader",
    "channel_count",
    "encode",
    "map_value",
    "read_box",
    "read_clicks",
    "read_reaches",
    "read_scribbles",
    "read_strokes",
]
