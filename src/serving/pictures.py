"""Images as the answers of the service: sheets, archives of pictures, and arrays."""

import zipfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from src.class_names import folders_of
from src.serving.bundle import Bundle, Images

COLUMNS = 20  # of a sheet at most
GAP = 2  # pixels around each image of a sheet
SCALE = 2  # of a sheet's pixels
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{source}"/></rdf:RDF></x:xmpmeta>"""
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def provenance(sha256: str) -> PngImagePlugin.PngInfo:
    """What every PNG says of itself: that a trained model has made it, and which."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.format(source=SOURCE))
    info.add_text("Software", f"generator sha256:{sha256}")
    return info


def as_png(picture: Image.Image, sha256: str) -> bytes:
    stream = BytesIO()
    picture.save(stream, "PNG", pnginfo=provenance(sha256), compress_level=1)  # 3 times as fast
    return stream.getvalue()


def picture(image: Images) -> Image.Image:
    """A uint8 image (C, H, W) of one channel or three as a picture."""
    pixels = image.transpose(1, 2, 0)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def sheet(images: Images, *, columns: int) -> Image.Image:
    """Images (N, C, H, W) in rows of ``columns``, on black."""
    n, channels, height, width = images.shape
    shape = -(-n // columns), columns, channels, height + GAP, width + GAP
    cells = np.zeros(shape, dtype=np.uint8)  # with their gaps above and to the left
    cells.reshape(-1, *shape[2:])[:n, :, GAP:, GAP:] = images
    rows = cells.transpose(2, 0, 3, 1, 4).reshape(channels, shape[0] * shape[3], -1)
    canvas = np.pad(rows, ((0, 0), (0, GAP), (0, GAP)))
    return picture(canvas.repeat(SCALE, axis=1).repeat(SCALE, axis=2))


def png(bundle: Bundle, images: Images, labels: NDArray[np.int64]) -> bytes:
    """A sheet with a row for each class, if there are equally many of each."""
    counts = Counter(labels.tolist())
    alike = len({*counts.values()}) == 1 and len(counts) > 1
    columns = next(iter(counts.values())) if alike else len(labels)
    return as_png(sheet(images, columns=min(columns, COLUMNS)), bundle.sha256)


def archive(bundle: Bundle, images: Images, labels: NDArray[np.int64]) -> bytes:
    """A zip of PNGs such as cat/0001.png."""
    stream, numbers = BytesIO(), Counter[int]()
    folders = folders_of(bundle.class_names)
    with zipfile.ZipFile(stream, "w") as file:
        for image, label in zip(images, labels.tolist(), strict=True):
            numbers[label] += 1
            name = f"{folders[label]}/{numbers[label]:04d}.png"
            entry = zipfile.ZipInfo(name)  # of a constant date: equal images, equal bytes
            file.writestr(entry, as_png(picture(image), bundle.sha256))
    return stream.getvalue()


def array(bundle: Bundle, images: Images, labels: NDArray[np.int64]) -> bytes:  # noqa: ARG001
    """A .npy file of the images uint8 (N, C, H, W)."""
    stream = BytesIO()
    np.save(stream, images)
    return stream.getvalue()


Encode = Callable[[Bundle, Images, NDArray[np.int64]], bytes]
ENCODERS: dict[str, Encode] = {
    "image/png": png,
    "application/zip": archive,
    "application/x-npy": array,
}
