"""Pictures of one after the other step as one, each with its number and what was done: the film strips of
the documents.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

__all__ = ["film_strip"]

LINE = 34  # pixels of a caption
COLUMNS = 2


def film_strip(frames: Sequence[tuple[Path, str]], path: Path, width: int = 620) -> None:
    """Join pictures two by two, `width` pixels each.

    Args:
        frames: (picture, caption), in their order; pictures of one shape.
        path: of the PNG to write.
        width: of a picture in the strip.
    """
    with Image.open(frames[0][0]) as first:
        height = round(width * first.height / first.width)
    rows = -(-len(frames) // COLUMNS)
    strip = Image.new("RGB", (COLUMNS * (width + 8) - 8, rows * (height + LINE)), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(size=18)
    for number, (picture, caption) in enumerate(frames):
        x, y = number % COLUMNS * (width + 8), number // COLUMNS * (height + LINE)
        with Image.open(picture) as image:
            strip.paste(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), (x, y + LINE))
        draw.text((x + 2, y + 6), f"{number + 1}. {caption}", fill="black", font=font)
    strip.quantize(256, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)
