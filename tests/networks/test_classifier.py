"""The classifier: its features have a unit, and it stays small."""

import torch

from src.networks.classifier import Classifier


def test_features_have_mean_zero_and_variance_one_over_what_it_was_trained_on() -> None:
    torch.manual_seed(0)
    network = Classifier(channels=1, n_classes=10).train()
    features = network.features(torch.randn(256, 1, 28, 28))
    assert features.shape == (256, 64)
    torch.testing.assert_close(features.mean(0), torch.zeros(64), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.var(0, correction=0), torch.ones(64), atol=1e-2, rtol=0)


def test_it_is_small_and_reads_any_size() -> None:
    network = Classifier(channels=3, n_classes=7).eval()
    assert sum(weight.numel() for weight in network.parameters()) < 100_000
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 7)


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
