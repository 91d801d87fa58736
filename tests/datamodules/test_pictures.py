"""Files of any size and mode become the squares that a person would expect, or say why not."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.datamodules.pictures import PictureError, read_picture

SIZE = 8
NOISE = np.random.default_rng(0).integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def read(path: Path, channels: int = 3, size: int = SIZE) -> np.ndarray:
    return read_picture(path, size=size, channels=channels)


def test_a_picture_of_the_right_size_keeps_its_bits(tmp_path: Path) -> None:
    pixels = read(saved(tmp_path / "a.png", Image.fromarray(NOISE)))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels.transpose(1, 2, 0), NOISE)


def test_the_middle_is_cut_out(tmp_path: Path) -> None:
    wide = np.zeros((SIZE, 3 * SIZE, 3), dtype=np.uint8)
    wide[:, SIZE : 2 * SIZE] = NOISE
    for name, image in {"wide": wide, "tall": wide.transpose(1, 0, 2)}.items():
        pixels = read(saved(tmp_path / f"{name}.png", Image.fromarray(image)))
        expected = NOISE if name == "wide" else NOISE.transpose(1, 0, 2)
        assert np.array_equal(pixels.transpose(1, 2, 0), expected)


def test_stripes_finer_than_a_pixel_turn_grey(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = read(saved(tmp_path / "a.png", Image.fromarray(stripes)))
    assert abs(pixels.astype(int) - 127).max() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (SIZE, SIZE), 0)
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((0, 0), 1)
        path = saved(tmp_path / "a.png", image, transparency=0)
        corner = [0, 0, 255]
    else:
        image = Image.new(mode, (SIZE, SIZE), (0,) * len(mode))
        image.putpixel((0, 0), (*([7] * (len(mode) - 1)), 255))
        path = saved(tmp_path / "a.png", image)
        corner = [7, 7, 7]
    pixels = read(path)
    assert pixels[:, 0, 0].tolist() == corner
    assert (pixels[:, 1:, :] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_every_mode_is_read(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (20, 20), "white").convert(mode)
    name = "a.png" if mode in ("1", "L", "P", "RGB") else "a.tif"
    pixels = read(saved(tmp_path / name, image))
    assert pixels.shape == (3, SIZE, SIZE)
    assert (pixels > 250).all()


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = np.linspace(0, 65_535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    pixels = read(saved(tmp_path / "a.png", Image.fromarray(values)), channels=1)
    assert pixels[0, 0, 0] == 0
    assert pixels[0, -1, -1] == 255
    assert np.abs(pixels[0].astype(float) - values / 257).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_dark_pictures_of_sixteen_bits_stay_dark(tmp_path: Path, name: str) -> None:
    """A picture does not turn bright because it has no value above 255."""
    for most, expected in ((255, 0), (300, 1)):
        values = np.full((SIZE, SIZE), most, dtype=np.uint16)
        assert read(saved(tmp_path / name, Image.fromarray(values))).max() == expected


def test_sixteen_bits_may_be_transparent(tmp_path: Path) -> None:
    values = np.zeros((SIZE, SIZE), dtype=np.uint16)
    values[0] = 257 * 9
    path = saved(tmp_path / "a.png", Image.fromarray(values), transparency=0)
    assert read(path)[0, :2, 0].tolist() == [9, 255]


@pytest.mark.parametrize("value", [-1, 2**16])
def test_more_than_sixteen_bits_do_not_wrap(tmp_path: Path, value: int) -> None:
    image = Image.fromarray(np.full((SIZE, SIZE), value, dtype=np.int32))
    with pytest.raises(PictureError, match="of 32 bits"):
        read(saved(tmp_path / "a.tif", image))


def test_a_picture_stands_as_its_camera_was_held(tmp_path: Path) -> None:
    image = Image.fromarray(NOISE)
    exif = image.getexif()
    exif[0x0112] = 6  # turn it clockwise
    pixels = read(saved(tmp_path / "a.png", image, exif=exif))
    assert np.array_equal(pixels.transpose(1, 2, 0), np.rot90(NOISE, -1))


def test_colour_becomes_grey_where_grey_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(NOISE))
    assert np.array_equal(
        read(path, channels=1)[0], np.asarray(Image.fromarray(NOISE).convert("L"))
    )


def bomb() -> bytes:
    """A small PNG that says that it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_what_is_no_whole_picture_says_why(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.jpg", Image.fromarray(np.tile(NOISE, (20, 20, 1)))).read_bytes()
    png = saved(tmp_path / "whole.png", Image.fromarray(np.tile(NOISE, (20, 20, 1)))).read_bytes()
    contents = {
        "empty": b"",
        "not an image": b"<html>",
        "truncated": whole[: len(whole) // 2],
        "huge": bomb(),
    }
    for why, content in contents.items():
        path = tmp_path / "bad.jpg"
        path.write_bytes(content)
        with pytest.raises(PictureError, match=f"^{why}$"):
            read(path)
    path.write_bytes(png[: len(png) // 2])
    with pytest.raises(PictureError, match=r"truncated|damaged"):
        read(path)
    with pytest.raises(PictureError, match=r"unreadable \(No such file"):
        read(tmp_path / "nowhere.png")
    with pytest.raises(PictureError, match="of fractions"):
        read(saved(tmp_path / "a.tif", Image.new("F", (SIZE, SIZE))))
