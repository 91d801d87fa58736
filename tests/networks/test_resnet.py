"""The residual pair: its sizes, its start, how labels enter, and its derivatives."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import InputError
from src.networks.facts import mixes_samples
from src.networks.resnet import Discriminator, Generator, ResidualBlock, down, up
from tests.networks.slopes import influences, slopes

K, Z = 10, 100
STAGES = [
    {"widths": [16], "blocks": [2], "image_stride": 4},
    {"widths": [24, 16], "blocks": [1, 1]},
    {"widths": [24, 16, 8], "blocks": [1, 0, 1], "image_stride": 1},
]


def pair(
    *, n_classes: int = K, channels: int = 1, img_size: int = 28, **options: Any
) -> tuple[Generator, Discriminator]:
    shared = {"n_classes": n_classes, "channels": channels, "img_size": img_size}
    generator = Generator(latent_dim=Z, **shared, **options)
    return generator, Discriminator(**shared, **options)


def disturb(network: nn.Module) -> None:
    """As after some training: no weight is zero, no gain is one."""
    for weight in network.parameters():
        weight.data += 0.1 * torch.randn_like(weight)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def block_size(width: int) -> int:
    wide = 2 * width
    return (width + 1) * wide + (16 * 9 + 1) * wide + wide * width


def test_parameter_counts() -> None:
    generator, discriminator = pair()
    blocks = block_size(64) + block_size(24) + 64 * 24
    by_class = 10 * 10
    assert count(generator) == blocks + by_class + 110 * 64 + 49 * 64 + 24 * 16 + 1
    assert count(discriminator) == blocks + 24 * 16 + 49 * 64 + 65 + 10 * 64
    assert [count(generator), count(discriminator)] == [56_581, 50_145]


@pytest.mark.parametrize("stages", STAGES, ids=str)
@pytest.mark.parametrize(("channels", "img_size"), [(1, 28), (3, 28), (1, 32), (3, 32)])
def test_shapes(stages: dict[str, Any], channels: int, img_size: int) -> None:
    generator, discriminator = pair(channels=channels, img_size=img_size, **stages)
    images = generator(torch.randn(4, Z), torch.arange(4))
    assert images.shape == (4, channels, img_size, img_size)
    assert discriminator(images, torch.arange(4)).shape == (4,)


@pytest.mark.parametrize(
    ("img_size", "n_widths", "image_stride", "start"),
    [(28, 2, 2, 7), (28, 3, 1, 7), (32, 3, 2, 4), (32, 4, 1, 4), (64, 4, 2, 4), (64, 3, 4, 4)],
)
def test_widths_and_the_layer_at_the_images_choose_the_strides(
    img_size: int, n_widths: int, image_stride: int, start: int
) -> None:
    generator, discriminator = pair(
        img_size=img_size, widths=[8] * n_widths, blocks=[1] * n_widths, image_stride=image_stride
    )
    assert generator.basis.shape == (start, start, 8)
    assert discriminator.basis.shape == (8, start, start)
    images = generator(torch.randn(4, Z), torch.arange(4))
    assert images.shape == (4, 1, img_size, img_size)
    assert discriminator(images, torch.arange(4)).shape == (4,)


def test_stages_start_as_the_identity() -> None:
    for network in pair(blocks=[2, 1]):
        for stage in network.stages:
            x = torch.randn(2, stage[0].expand.in_features, 6, 6)
            assert torch.equal(stage(x), x)


def test_a_block_is_its_formula() -> None:
    block = ResidualBlock(6, expansion=2, group_width=4, n_blocks=3)
    disturb(block)
    x = torch.randn(2, 6, 5, 5)
    y = F.leaky_relu(F.conv2d(x, block.expand.weight[..., None, None], block.expand.bias), 0.2)
    y = F.conv2d(y, block.mix.weight, block.mix.bias, padding=1, groups=3)
    y = F.conv2d(F.leaky_relu(y, 0.2), block.contract.weight[..., None, None])
    torch.testing.assert_close(block(x), x + y)


def test_weights_start_with_the_published_variance() -> None:
    block = ResidualBlock(64, expansion=2, group_width=16, n_blocks=16)
    gain = (2 / 1.04) ** 0.5 / 16**0.25
    assert block.expand.weight.std().item() == pytest.approx(gain / 64**0.5, rel=0.03)
    assert block.mix.weight.std().item() == pytest.approx(gain / (16 * 9) ** 0.5, rel=0.03)
    assert not block.contract.weight.any()
    assert not block.expand.bias.any()


def test_images_and_features_start_at_the_latents_scale() -> None:
    latents, labels = torch.randn(64, Z), torch.randint(K, (64,))
    for stages in STAGES:
        # Bilinear doubling averages, which leaves white noise 0.39 of its variance each time.
        images = pair(**stages)[0](latents, labels)
        assert 0.3 < images.std().item() < 1.5


def test_resampling_filters_by_1_3_3_1() -> None:
    """Away from the edges, doubling is the transpose of halving, times 4."""
    x, taps = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = (taps[:, None] * taps).expand(3, 1, 4, 4)
    torch.testing.assert_close(down(3, 3)(x), F.conv2d(x, kernel, stride=2, padding=1, groups=3))
    doubled = F.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=3)
    inside = slice(1, -1)
    torch.testing.assert_close(up(3, 3)(x)[..., inside, inside], doubled[..., inside, inside])


def test_the_head_is_a_depthwise_convolution() -> None:
    discriminator = pair(widths=[16], blocks=[0], image_stride=4)[1]
    images, labels = torch.randn(2, 1, 28, 28), torch.tensor([4, 1])
    x = F.conv2d(images, discriminator.from_images.weight, stride=4, padding=2)
    features = F.conv2d(x, discriminator.basis[:, None], groups=16).flatten(1)
    torch.testing.assert_close(discriminator(images, labels), discriminator.head(features, labels))


def test_changing_a_label_changes_that_image_and_no_other() -> None:
    generator, _ = pair()
    disturb(generator)
    latents = torch.randn(5, Z)
    before, after = (
        generator(latents, torch.tensor(labels)) for labels in ([0, 1, 2, 3, 4], [0, 1, 9, 3, 4])
    )
    changed = (before != after).flatten(1).any(dim=1)
    assert changed.tolist() == [False, False, True, False, False]


def test_a_logit_depends_on_its_own_image_and_label_only() -> None:
    _, discriminator = pair()
    disturb(discriminator)
    assert not mixes_samples(discriminator)
    moves, relabelled = influences(discriminator)
    assert moves == torch.eye(4).bool().tolist()
    assert relabelled == [False, False, True, False]


def test_one_class_is_unconditional() -> None:
    generator, discriminator = pair(n_classes=1)
    latents, zeros, labels = torch.randn(3, Z), torch.zeros(3).long(), torch.tensor([5, 0, 999])
    images = generator(latents, zeros)
    assert torch.equal(images, generator(latents, labels))
    assert torch.equal(discriminator(images, zeros), discriminator(images, labels))


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"type group_width=24"):
        pair(widths=[12], blocks=[1])
    with pytest.raises(InputError, match=r"not of one length: type blocks=\[1,1\]"):
        pair(widths=[64, 32], blocks=[1])
    with pytest.raises(InputError, match=r"type 1 or 2 of them, or model\.img_size=32"):
        pair(widths=[8] * 4, blocks=[1] * 4)
    with pytest.raises(InputError, match=r"type 1 or 2 or 3 of them, or model\.img_size=32"):
        pair(widths=[8] * 4, blocks=[1] * 4, image_stride=1)
    with pytest.raises(InputError, match=r"type 1 of them, or model\.img_size=32"):
        pair(img_size=30)


@pytest.mark.slow
def test_second_derivatives() -> None:
    discriminator = Discriminator(
        n_classes=2, channels=1, img_size=4, widths=[2, 2], blocks=[1, 1], group_width=2
    ).double()
    disturb(discriminator)
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    mix = discriminator.stages[0][0].mix.weight

    def logits(images: Tensor, _: Tensor) -> Tensor:
        return discriminator(images, torch.tensor([0, 1]))

    assert torch.autograd.gradcheck(logits, (images, mix))
    assert torch.autograd.gradgradcheck(logits, (images, mix))


@pytest.mark.usefixtures("two_threads")
def test_gradients_repeat_to_the_bit() -> None:
    generator, discriminator = pair()
    for network in (generator, discriminator):
        disturb(network)
    latents, labels = torch.randn(16, Z), torch.randint(K, (16,))
    first, again = (slopes(generator, discriminator, latents, labels) for _ in range(2))
    assert all(map(torch.equal, first, again))
