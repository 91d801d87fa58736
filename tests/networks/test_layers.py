"""The layers are torch's functions, to the second derivative."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import InputError
from src.networks.layers import FromImages, ImageStride, Pointwise, ToImages, coarsest_side
from tests.toys import assert_says


def derivatives(function: Callable[[Tensor], Tensor], x: Tensor, *weights: Tensor) -> list[Tensor]:
    """The value, its gradients, and those of a gradient penalty."""
    x = x.detach().requires_grad_()
    value = function(x)
    slopes = torch.autograd.grad(value.square().sum(), [x, *weights], create_graph=True)
    penalty = slopes[0].square().sum()
    return [value, *slopes, *torch.autograd.grad(penalty, [x, *weights])]


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"), [(1, 1, 0), (4, 2, 1), (8, 4, 2), (3, 1, 1)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_image_layers_are_torchs_convolutions(
    kernel_size: int, stride: int, padding: int, channels: int
) -> None:
    for ours, theirs, x in [
        (FromImages(channels, 5, kernel_size, stride, padding), F.conv2d, (2, channels, 12, 12)),
        (ToImages(5, channels, kernel_size, stride, padding), F.conv_transpose2d, (2, 5, 4, 4)),
    ]:
        layer, images = ours.double(), torch.randn(x, dtype=torch.float64)
        weights = layer.weight, layer.bias

        def reference(x: Tensor, *, theirs: Callable = theirs, weights: tuple = weights) -> Tensor:
            return theirs(x, *weights, stride=stride, padding=padding)

        torch.testing.assert_close(
            derivatives(layer, images, *weights), derivatives(reference, images, *weights)
        )


def test_off_the_cpu_features_of_few_channels_have_them_last() -> None:
    layer = FromImages(1, 5, kernel_size=4, stride=2, padding=1).to("meta")
    features = layer(torch.empty(2, 1, 12, 12, device="meta"))
    assert features.is_contiguous(memory_format=torch.channels_last)


def test_pointwise_is_a_convolution_of_one_pixel() -> None:
    layer, x = Pointwise(3, 5).double(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(
        derivatives(layer, x, layer.weight),
        derivatives(
            lambda x: F.conv2d(x, layer.weight[:, :, None, None], layer.bias), x, layer.weight
        ),
    )


def test_every_width_halves_the_side() -> None:
    assert [coarsest_side(28, [8] * n) for n in (1, 2)] == [14, 7]
    assert [coarsest_side(32, [8] * n) for n in (1, 2, 3)] == [16, 8, 4]
    assert [coarsest_side(64, [8] * n) for n in (2, 3, 4)] == [16, 8, 4]
    assert coarsest_side(28, [8, 8, 8], image_stride=1) == 7


@pytest.mark.parametrize(
    ("img_size", "n_widths", "image_stride", "instead"),
    [
        (28, 3, 2, "type 1 or 2 of them, or model.img_size=32"),
        (28, 4, 2, "type 1 or 2 of them, or model.img_size=32"),
        (28, 4, 1, "type 1 or 2 or 3 of them, or model.img_size=32"),
        (64, 7, 2, "type 1 or 2 or 3 or 4 or 5 or 6 of them, or model.img_size=128"),
        (30, 2, 2, "type 1 of them, or model.img_size=32"),
        (27, 1, 2, "type model.img_size=28"),
        (30, 1, 4, "type model.img_size=32"),
    ],
)
def test_a_side_that_cannot_be_halved_so_often_is_refused_with_the_numbers_that_can_be(
    img_size: int, n_widths: int, image_stride: ImageStride, instead: str
) -> None:
    with pytest.raises(InputError) as caught:
        coarsest_side(img_size, [8] * n_widths, image_stride=image_stride)
    assert_says(caught.value, f"model.img_size={img_size} is no multiple of", instead)


@pytest.mark.parametrize("widths", [[], [8, 0], [-8]])
def test_widths_are_at_least_one_positive_number(widths: list[int]) -> None:
    with pytest.raises(InputError, match=r"is not allowed: type numbers of channels"):
        coarsest_side(32, widths)
