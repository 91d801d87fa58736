"""The historical pair: its exact size, how labels enter, and that samples do not mix."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.networks.layers import Dropout
from src.networks.mlp import Discriminator, Generator
from tests.networks.slopes import influences

K, Z = 10, 100


def pair(*, channels: int = 1, img_size: int = 28) -> tuple[Generator, Discriminator]:
    return (
        Generator(n_classes=K, latent_dim=Z, channels=channels, img_size=img_size).eval(),
        Discriminator(n_classes=K, channels=channels, img_size=img_size).eval(),
    )


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("img_size", "generator", "discriminator"),
    [(28, 1_511_412, 932_965), (32, 1_757_412, 1_055_845)],
)
def test_parameter_counts_are_the_historical_ones(
    img_size: int, generator: int, discriminator: int
) -> None:
    assert [*map(count, pair(img_size=img_size))] == [generator, discriminator]


@pytest.mark.parametrize(("channels", "img_size"), [(1, 28), (3, 32)])
def test_shapes_and_range(channels: int, img_size: int) -> None:
    generator, discriminator = pair(channels=channels, img_size=img_size)
    labels = torch.arange(6)
    images = generator(100 * torch.randn(6, Z), labels)
    assert images.shape == (6, channels, img_size, img_size)
    assert images.abs().max() <= 1
    assert images.min() < -0.5
    assert images.max() > 0.5
    assert discriminator(images, labels).shape == (6,)


def test_logits_are_not_squashed() -> None:
    _, discriminator = pair()
    nn.init.constant_(discriminator.model[-1].bias, 5.0)
    nn.init.zeros_(discriminator.model[-1].weight)
    assert discriminator(torch.zeros(2, 1, 28, 28), torch.zeros(2).long()).tolist() == [5.0, 5.0]


def hidden(model: nn.Sequential) -> list[nn.Module]:
    return [layer for layer in model if not isinstance(layer, nn.LeakyReLU)]


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def test_the_generator_is_the_historical_function() -> None:
    """[embedding, noise], then Linear and, but for the first, BatchNorm with eps = 0.8."""
    generator, _ = pair()
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                nn.init.uniform_(tensor, 0.5, 1.5)
    latents, labels = torch.randn(4, Z), torch.tensor([3, 0, 9, 3])
    first, *blocks, last, tanh = hidden(generator.model)
    assert isinstance(tanh, nn.Tanh)
    x = leaky(
        F.linear(
            torch.cat([generator.label_emb.weight[labels], latents], 1), first.weight, first.bias
        )
    )
    for linear, norm in zip(blocks[::2], blocks[1::2], strict=True):
        x = F.linear(x, linear.weight, linear.bias)
        x = (x - norm.running_mean) / (norm.running_var + 0.8).sqrt() * norm.weight + norm.bias
        x = leaky(x)
    expected = F.linear(x, last.weight, last.bias).tanh().view(4, 1, 28, 28)
    torch.testing.assert_close(generator(latents, labels), expected)


def test_the_discriminator_is_the_historical_function() -> None:
    """[image, embedding], then three layers of 512 and one logit."""
    _, discriminator = pair()
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([3, 0, 9, 3])
    linears = [layer for layer in discriminator.model if isinstance(layer, nn.Linear)]
    x = torch.cat([images.view(4, -1), discriminator.label_embedding.weight[labels]], 1)
    for linear in linears[:-1]:
        x = leaky(F.linear(x, linear.weight, linear.bias))
    expected = F.linear(x, linears[-1].weight, linears[-1].bias)[:, 0]
    torch.testing.assert_close(discriminator(images, labels), expected)


def test_regularization_sits_where_it_always_did() -> None:
    generator, discriminator = pair()
    norms = [layer for layer in generator.model if isinstance(layer, nn.BatchNorm1d)]
    assert [(norm.num_features, norm.eps, norm.momentum) for norm in norms] == [
        (width, 0.8, 0.1) for width in (256, 512, 1024)
    ]
    kinds = [type(layer).__name__ for layer in discriminator.model]
    block = ["Linear", "Dropout", "LeakyReLU"]
    assert kinds == ["Linear", "LeakyReLU", *block, *block, "Linear"]
    assert [layer.p for layer in discriminator.model if isinstance(layer, nn.Dropout)] == [0.4, 0.4]


def test_users_find_the_attributes_that_they_know() -> None:
    generator, discriminator = pair()
    assert [name for name, _ in generator.named_children()] == ["label_emb", "model"]
    assert [name for name, _ in discriminator.named_children()] == ["label_embedding", "model"]
    assert generator.img_shape == discriminator.img_shape == (1, 28, 28)


def test_changing_a_label_changes_that_image_and_no_other() -> None:
    generator, _ = pair()
    latents, labels = torch.randn(5, Z), torch.arange(5)
    before = generator(latents, labels)
    labels[2] = 9
    after = generator(latents, labels)
    changed = (before != after).flatten(1).any(dim=1)
    assert changed.tolist() == [False, False, True, False, False]


def test_a_logit_depends_on_its_own_image_and_label_only() -> None:
    moves, relabelled = influences(pair()[1])
    assert moves == torch.eye(4).bool().tolist()
    assert relabelled == [False, False, True, False]


def test_dropout_is_torchs_in_mean_scale_and_gradient() -> None:
    torch.manual_seed(0)
    ones = torch.ones(400, 500, requires_grad=True)
    dropped = Dropout(0.4)(ones)
    dropped.sum().backward()
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert (dropped > 0).float().mean().item() == pytest.approx(0.6, abs=0.005)  # 4 sigma
    assert torch.equal(ones.grad, dropped.detach())
    assert torch.equal(Dropout(0.4).eval()(ones), ones)
