"""The names of classes above the columns of a grid, or beside its rows."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

HEIGHT = 11  # of letters, in pixels
# Latin, Greek, Cyrillic and others, but no Chinese, Japanese or Korean.
FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def above_columns(tiles: Image.Image, names: Sequence[str]) -> Image.Image:
    """A grid with the name of each column above it, shortened where the next is in its way."""
    margin, step = HEIGHT + 6, tiles.width / len(names)
    whole = Image.new("RGB", (tiles.width, tiles.height + margin))
    whole.paste(tiles, (0, margin))
    pen, font = ImageDraw.Draw(whole), ImageFont.truetype(FONT, HEIGHT)
    for column, name in enumerate(names):
        text = shortened(name, font, most=step - 4)
        pen.text((step * (column + 0.5), margin / 2), text, font=font, anchor="mm")
    return whole


def beside_rows(tiles: Image.Image, names: Sequence[str]) -> Image.Image:
    """A grid with the name of each row to its left."""
    font, step = ImageFont.truetype(FONT, HEIGHT), tiles.height / len(names)
    texts = [shortened(name, font, most=200) for name in names]
    margin = ceil(max(map(font.getlength, texts))) + 8
    whole = Image.new("RGB", (tiles.width + margin, tiles.height))
    whole.paste(tiles, (margin, 0))
    pen = ImageDraw.Draw(whole)
    for row, text in enumerate(texts):
        pen.text((margin - 4, step * (row + 0.5)), text, font=font, anchor="rm")
    return whole


def shortened(name: str, font: ImageFont.FreeTypeFont, *, most: float) -> str:
    """As much of a name as ``most`` pixels hold, in one line."""
    name = " ".join(name.split())
    length = next(n for n in range(len(name), -1, -1) if font.getlength(name[:n]) <= most)
    return name[:length]
