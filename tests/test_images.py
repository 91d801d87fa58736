"""The pixel range, and where in a grid each image lies."""

import numpy as np
import pytest
import torch

from src.images import grid, to_float, to_uint8

PADDING = 2  # pixels between images, before scaling


def test_the_float_range_is_exact_at_both_ends() -> None:
    floats = to_float(torch.tensor([0, 255], dtype=torch.uint8))
    assert floats.tolist() == [-1.0, 1.0]
    assert floats.dtype == torch.float32
    assert to_uint8(torch.tensor([-1.0, 1.0])).tolist() == [0, 255]


def test_uint8_to_float_and_back_is_the_identity() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_float(every).diff().min() > 0


def test_conversions_leave_their_argument_alone() -> None:
    floats = torch.tensor([-0.5, 0.25])
    to_uint8(floats)
    assert floats.tolist() == [-0.5, 0.25]


def test_values_beyond_the_range_are_clamped_and_others_rounded_to_the_nearest() -> None:
    step = 2 / 255
    floats = torch.tensor([-1.5, 2.0, -1 + 0.4 * step, -1 + 0.6 * step])
    assert to_uint8(floats).tolist() == [0, 255, 0, 1]


def test_half_precision_images_convert_too() -> None:
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.bfloat16)).tolist() == [0, 128, 255]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_image_k_lies_in_row_k_over_columns_and_column_k_modulo_columns(
    channels: int, scale: int
) -> None:
    count, columns, height, width = 7, 3, 4, 5
    images = torch.randint(1, 256, (count, channels, height, width), dtype=torch.uint8)
    picture = grid(images, columns=columns, scale=scale)
    pixels = torch.from_numpy(np.array(picture))
    rows = 3
    assert picture.mode == "RGB"
    assert pixels.shape == (
        scale * (rows * (height + PADDING) + PADDING),
        scale * (columns * (width + PADDING) + PADDING),
        3,
    )
    for k, image in enumerate(images):
        top = scale * (k // columns * (height + PADDING) + PADDING)
        left = scale * (k % columns * (width + PADDING) + PADDING)
        cell = pixels[top : top + scale * height, left : left + scale * width]
        expected = image.permute(1, 2, 0).expand(-1, -1, 3)
        expected = expected.repeat_interleave(scale, dim=0).repeat_interleave(scale, dim=1)
        assert torch.equal(cell, expected), k


def test_grid_leaves_black_between_images() -> None:
    pixels = np.array(grid(torch.full((4, 1, 2, 2), 255, dtype=torch.uint8), columns=2, scale=1))
    assert (pixels[:PADDING] == 0).all()
    assert (pixels[:, :PADDING] == 0).all()
    assert (pixels == 255).sum() == 4 * 2 * 2 * 3
