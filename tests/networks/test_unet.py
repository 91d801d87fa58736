"""The U-Net that flows learn with."""

import pytest
import torch

from src.errors import InputError
from src.networks.unet import UNet


def network(**changes: object) -> UNet:
    torch.manual_seed(0)
    options = {"n_classes": 3, "channels": 2, "img_size": 8, "widths": [8, 16], "blocks": [1, 1]}
    return UNet(**options | changes)


def inputs(n: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 2, 8, 8), torch.rand(n), torch.arange(n) % 4


def trained_a_little(unet: UNet) -> UNet:
    """Without the zeros of the initialization, which hide everything."""
    torch.manual_seed(2)
    for weight in unet.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return unet


def test_it_returns_zero_at_first_and_takes_a_gradient_from_it() -> None:
    unet = network()
    output = unet(*inputs())
    assert output.shape == (4, 2, 8, 8)
    assert output.abs().max() == 0
    (output - 1).square().sum().backward()
    assert unet.leave.weight.grad.abs().max() > 0


def test_class_time_and_both_ends_of_the_image_reach_every_pixel() -> None:
    unet = trained_a_little(network())
    images, times, labels = inputs()
    images.requires_grad_(True)
    output = unet(images, times, labels)
    assert not torch.allclose(output, unet(images, times, (labels + 1) % 4))
    assert not torch.allclose(output, unet(images, 1 - times, labels))
    gradient = torch.autograd.grad(output[:, :, 0, 0].sum(), images)[0]
    assert gradient[:, :, -1, -1].abs().max() > 0


@pytest.mark.parametrize(("activation", "is_dead"), [("relu", True), ("silu", False)])
def test_only_relus_die(activation: str, is_dead: bool) -> None:
    """What is told is far below 0 for everything, as steps that are too long make it."""
    unet = trained_a_little(network(activation=activation))
    unet.tell[2].bias.data.fill_(-6)
    unet(*inputs()).square().sum().backward()
    assert (unet.tell[0].weight.grad.abs().max() == 0) == is_dead


def test_images_of_a_batch_do_not_see_each_other() -> None:
    unet = trained_a_little(network())
    images, times, labels = inputs()
    alone = [unet(images[i : i + 1], times[i : i + 1], labels[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(unet(images, times, labels), torch.cat(alone))


def test_a_single_class_has_no_other() -> None:
    unet = network(n_classes=1)
    assert unet.embed.num_embeddings == 1
    assert network().embed.num_embeddings == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widths": [8, 8, 8, 8], "blocks": [1, 1, 1, 1]}, "img_size=8.*no multiple of 16"),
        ({"widths": [8]}, "one length"),
        ({"widths": [8, 0]}, "positive"),
        ({"widths": [], "blocks": []}, "one length"),
    ],
)
def test_widths_that_do_not_fit_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        network(**changes)
