"""The classifier: its features have a unit, and it stays small."""

import pytest
import torch
import torch.nn.functional as F

from src.networks.classifier import Classifier


def test_features_have_mean_zero_and_variance_one_over_what_it_was_trained_on() -> None:
    torch.manual_seed(0)
    network = Classifier(channels=1, n_classes=10).train()
    features = network.features(torch.randn(256, 1, 28, 28))
    assert features.shape == (256, 64)
    torch.testing.assert_close(features.mean(0), torch.zeros(64), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.var(0, correction=0), torch.ones(64), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("channels", "img_size", "size", "least", "most"),
    [
        (1, 28, 28, 50_000, 100_000),
        (1, 16, 28, 50_000, 100_000),
        (3, 28, 32, 1_000_000, 1_500_000),
        (1, 32, 32, 1_000_000, 1_500_000),
        (3, 32, 32, 1_000_000, 1_500_000),
        (3, 48, 64, 1_000_000, 1_500_000),
        (3, 128, 64, 1_000_000, 1_500_000),
    ],
)
def test_colours_and_larger_images_get_a_larger_network(
    channels: int, img_size: int, size: int, least: int, most: int
) -> None:
    """Of at most 3 MB in float16, which sees images of its own size."""
    network = Classifier(channels=channels, n_classes=7, img_size=img_size).eval()
    assert network.size == size
    assert least < sum(weight.numel() for weight in network.state_dict().values()) < most
    images = torch.randn(2, channels, img_size, img_size)
    assert network(images).shape == (2, 7)
    resized = F.interpolate(images, size=size, mode="bilinear", antialias=True)
    torch.testing.assert_close(network(images), network(resized))


def test_when_judging_an_image_does_not_depend_on_its_batch() -> None:
    network = Classifier(channels=1, n_classes=10).eval()
    images = torch.randn(5, 1, 28, 28)
    torch.testing.assert_close(network(images)[2:3], network(images[2:3]), atol=1e-5, rtol=1e-4)


def test_dropout_acts_on_the_head_and_not_on_the_features() -> None:
    network = Classifier(channels=1, n_classes=10).train()
    for module in network.body.modules():
        if "BatchNorm" in type(module).__name__:
            module.eval()
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(network.features(images), network.features(images))
    assert not torch.equal(network(images), network(images))


def test_with_flip_an_image_and_its_mirror_image_are_read_alike_once_it_is_trained() -> None:
    torch.manual_seed(0)
    network = Classifier(channels=3, n_classes=10, img_size=32, flip=True)
    images = torch.randn(8, 3, 32, 32)
    assert not torch.allclose(network.features(images), network.features(images.flip(3)), atol=0.1)
    network.eval()
    torch.testing.assert_close(network(images), network(images.flip(3)))
