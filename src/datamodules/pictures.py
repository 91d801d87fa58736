"""Picture files of any size and mode, read as squares of one size."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 89_478_485  # beyond which Pillow suspects a decompression bomb
BACKGROUND = "white"  # of what is transparent


class PictureError(Exception):
    """Says in a few words why a file cannot be read as a picture."""


def read_picture(path: Path, *, size: int, channels: int) -> NDArray[np.uint8]:
    """Read the centre of a picture as uint8 (C, size, size), in colour or, of one channel, grey.

    It stands as its camera was held, over white where it is transparent. It is resized by
    Lanczos's filter, which looks at every pixel and keeps edges sharper than a bicubic one; a large
    JPEG is decoded at a half, a quarter or an eighth of its size before.

    Raises:
        PictureError: if there is no whole picture of sensible size in the file.
    """
    try:
        with Image.open(path) as image:
            require_sensible(image)
            image.draft(image.mode, (4 * size, 4 * size))  # a JPEG is read smaller where it can be
            is_deep = image.mode.startswith("I;16") or image.format == "PPM"
            upright = ImageOps.exif_transpose(image)
        square = centre(opaque(upright, is_deep=is_deep), size=size)
        pixels = np.asarray(square.convert("L" if channels == 1 else "RGB"))
    except PictureError:
        raise
    except Exception as error:  # what foreign bytes make of a decoder is anybody's guess
        raise PictureError(reason(error, path)) from error
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))


def require_sensible(image: Image.Image) -> None:
    """Refuse a picture of which the file says, before it is read, that it is huge."""
    if image.width * image.height > MOST_PIXELS:
        raise PictureError("huge")


def opaque(image: Image.Image, *, is_deep: bool) -> Image.Image:
    """The picture in 8 bits, over the background where it is transparent.

    Where integers are wide, ``is_deep`` tells that they have 16 bits; their largest one may, too.
    """
    if image.mode.startswith("I"):  # of 16 bits, if not of 32
        values = np.asarray(image).astype(np.float64)
        if not 0 <= values.min() <= values.max() < 2**16:
            raise PictureError("of 32 bits")
        if "transparency" in image.info:
            values[values == image.info["transparency"]] = 2**16 - 1
        divisor = 257 if is_deep or values.max() > 255 else 1
        return Image.fromarray((values / divisor).astype(np.uint8))
    if image.mode == "F":
        raise PictureError("of fractions")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def centre(image: Image.Image, *, size: int) -> Image.Image:
    """The largest square in the middle, resized; pixels of the right number stay as they are."""
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)


def reason(error: Exception, path: Path) -> str:
    """Why a file could not be read, in words by which files can be grouped."""
    said: Any = str(error)
    match error:
        case Image.DecompressionBombError():
            return "huge"
        case UnidentifiedImageError() if path.stat().st_size == 0:
            return "empty"
        case UnidentifiedImageError():
            return "not an image"
        case OSError() if error.strerror:
            return f"unreadable ({error.strerror})"
        case _:
            return "truncated" if "truncated" in said else "damaged"
