"""The style generator: modulation against its formula, where noise comes from, and truncation."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import InputError
from src.networks.dcgan import Discriminator
from src.networks.style import Equalized, Generator, Noise, Styled
from tests.networks.slopes import slopes

K, Z = 4, 16


def make(**options: Any) -> Generator:
    """In eval mode, with noise and a different mean for each class, as after some training."""
    defaults = {"n_classes": K, "latent_dim": Z, "channels": 1, "img_size": 28, "widths": [8, 6]}
    generator = Generator(
        **defaults | {"style_width": 12, "depth": 2, "mapping_pace": 0.1} | options
    ).eval()
    for name, weight in generator.named_parameters():
        if name.endswith("noise.strength"):
            weight.data += 0.3
    generator.class_means.means.normal_()
    return generator


@pytest.mark.parametrize(
    ("img_size", "widths", "image_stride", "start"),
    [(28, [8, 6], 2, 7), (28, [8, 6, 4], 1, 7), (32, [8, 6, 4], 2, 4), (64, [8, 8, 6, 4], 2, 4)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_widths_choose_the_sides(
    img_size: int, widths: list[int], image_stride: int, start: int, channels: int
) -> None:
    generator = make(img_size=img_size, widths=widths, image_stride=image_stride, channels=channels)
    assert generator.constant.shape[0] == start
    images = generator(torch.randn(5, Z), torch.arange(5) % K)
    assert images.shape == (5, channels, img_size, img_size)
    assert images.abs().max() <= 1
    assert images.std() > 0.1


def test_equalized_weights_have_variance_one_and_outputs_that_of_the_inputs() -> None:
    layer = Equalized(100, 200, bias=0.5, pace=0.01)
    assert layer.weight.std().item() * 0.01 == pytest.approx(1, rel=0.02)
    outputs = layer(3 * torch.randn(500, 100))
    assert outputs.mean().item() == pytest.approx(0.5, abs=0.1)
    assert outputs.std().item() == pytest.approx(3, rel=0.05)


def test_a_modulated_convolution_is_one_with_weights_of_its_own_for_each_image() -> None:
    """Eqs. 1 and 3 of the paper: gains times weights, over their length for each output channel."""
    sizes: dict[str, Any] = {"style_width": 5, "latent_dim": Z, "side": 6, "doubles": False}
    layer = Styled(3, 4, **sizes).double()
    layer.bias.data.normal_()
    x, styles = torch.randn(2, 3, 6, 6).double(), torch.randn(2, 5).double()
    outputs = layer(x, styles, torch.randn(2, Z).double())
    for image, gains, output in zip(x, layer.gains(styles), outputs, strict=True):
        weight = layer.weight * gains[:, None, None]
        weight = weight / weight.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        expected = F.conv2d(image, weight, padding=1) + layer.bias
        torch.testing.assert_close(output, 2**0.5 * F.leaky_relu(expected, 0.2))


def test_noise_is_drawn_in_training_and_else_a_map_of_the_latents() -> None:
    layer, x = Noise(latent_dim=Z, side=4), torch.zeros(4000, 2, 4, 4)
    layer.strength.data.fill_(0.5)
    latents = torch.randn(4000, Z)
    assert not torch.equal(layer(x, latents), layer(x, latents))
    torch.manual_seed(3)
    drawn = layer(x, latents)
    layer.eval()
    mapped, state = layer(x, latents), torch.get_rng_state()
    assert torch.equal(mapped, layer(x, latents))
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(layer(x[:2], latents[:2]), mapped[:2])
    for noise in (drawn, mapped):
        assert torch.equal(noise[:, 0], noise[:, 1])  # the same for all channels
        torch.testing.assert_close(noise.std(dim=0), torch.full((2, 4, 4), 0.5), rtol=0.06, atol=0)
        assert noise.mean(dim=0).abs().max() < 0.05


def test_equal_latents_give_equal_images_and_an_average_the_same_ones() -> None:
    generator, latents, labels = make(), torch.randn(3, Z), torch.arange(3)
    images = generator(latents, labels)
    assert torch.equal(images, generator(latents, labels))
    assert torch.equal(images, deepcopy(generator)(latents, labels))
    again = make()
    again.load_state_dict(generator.state_dict())
    assert torch.equal(images, again(latents, labels))


def test_changing_a_label_changes_that_image_and_no_other() -> None:
    generator, latents = make(truncation=0.7), torch.randn(4, Z)
    before, after = (
        generator(latents, torch.tensor(labels)) for labels in ([0, 1, 2, 3], [0, 1, 3, 3])
    )
    changed = (before != after).flatten(1).any(dim=1)
    assert changed.tolist() == [False, False, True, False]


def test_one_class_is_unconditional() -> None:
    generator, latents = make(n_classes=1, truncation=0.5), torch.randn(3, Z)
    images = generator(latents, torch.zeros(3).long())
    assert torch.equal(images, generator(latents, torch.tensor([5, 0, 999])))
    generator.train()(latents, torch.tensor([5, 0, 999]))


def test_the_length_of_latents_does_not_matter_to_the_style() -> None:
    mapping, latents, labels = make().mapping, torch.randn(3, Z), torch.arange(3)
    torch.testing.assert_close(mapping(latents, labels), mapping(7 * latents, labels))


@pytest.mark.parametrize("truncation", [0.0, 0.5, 1.0, 1.5])
def test_truncation_is_the_part_of_the_way_from_the_mean_of_the_class(truncation: float) -> None:
    generator, latents, labels = make(), torch.randn(5, Z), torch.tensor([3, 0, 1, 2, 3])
    generator.truncation = truncation
    means, styles = generator.class_means.means[labels], generator.mapping(latents, labels)
    torch.testing.assert_close(
        generator.styles(latents, labels), means + truncation * (styles - means)
    )
    generator.train()
    assert torch.equal(generator.styles(latents, labels), styles)


def test_the_mean_of_a_class_follows_its_styles_and_no_other() -> None:
    """A constant style is approached by a thousandth of the way for each of its images."""
    means = make().class_means
    before, style = means.means.clone(), torch.ones(12)
    for n in (2, 3):
        means.follow(
            torch.cat([style.expand(n, -1), 5 * torch.ones(1, 12)]), torch.tensor([1] * n + [3])
        )
    left = 0.999 ** torch.tensor([0, 5, 0, 2])[:, None]
    goal = torch.tensor([0, 1, 0, 5.0])[:, None]
    torch.testing.assert_close(means.means, goal + left * (before - goal))


def test_training_keeps_up_the_means_of_mixed_batches() -> None:
    generator, latents, labels = make(), torch.randn(2000, Z), torch.arange(2000) % K
    generator.train()
    for _ in range(10):
        generator.styles(latents, labels)
    styles = generator.mapping(latents, labels)
    expected = torch.stack([styles[labels == k].mean(dim=0) for k in range(K)])
    torch.testing.assert_close(generator.class_means.means, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("truncation", [-0.1, 2.5])
def test_other_truncations_are_refused(truncation: float) -> None:
    with pytest.raises(
        InputError, match=r"truncation=.* is not allowed: type a number from 0 to 2"
    ):
        make(truncation=truncation)


def pair() -> tuple[Generator, Discriminator, Tensor, Tensor]:
    discriminator = Discriminator(n_classes=K, channels=1, img_size=28, widths=(8, 4), hidden=8)
    return make(), discriminator, torch.randn(16, Z), torch.randint(K, (16,))


def test_every_weight_learns_also_through_a_penalty() -> None:
    generator, discriminator, latents, labels = pair()
    gradients = slopes(generator.train(), discriminator, latents, labels)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[: len([*generator.parameters()])])


@pytest.mark.usefixtures("two_threads")
def test_gradients_repeat_to_the_bit() -> None:
    generator, discriminator, latents, labels = pair()
    first, again = (slopes(generator, discriminator, latents, labels) for _ in range(2))
    assert all(map(torch.equal, first, again))
