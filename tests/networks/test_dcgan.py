"""The convolutional pair: its sizes, how labels enter, what mixes samples, and its derivatives."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from src.errors import InputError
from src.networks.conditioning import Modulation
from src.networks.dcgan import Discriminator, Generator
from src.networks.facts import mixes_samples
from src.networks.layers import MinibatchStd
from tests.networks.slopes import influences, slopes

K, Z = 10, 100
GENERATORS = [
    {"conditioning": conditioning, "norm": norm, "hidden": hidden}
    for conditioning in ("concat", "conditional_norm")
    for norm, hidden in (("batch", 8), ("none", 8), ("batch", 0))
]
HEADS = ["projection", "concat", "auxiliary"]


def make_generator(**options: Any) -> Generator:
    """In eval mode, with gains and biases by class that are no longer all equal."""
    defaults = {"n_classes": K, "latent_dim": Z, "channels": 1, "img_size": 28}
    defaults |= {"widths": (96, 32), "hidden": 8}
    generator = Generator(**defaults | options).eval()
    norms = [part for part in generator.modules() if isinstance(part, Modulation)]
    for weight in nn.ModuleList(norms).parameters():
        weight.data += torch.rand_like(weight)
    return generator


def make_discriminator(**options: Any) -> Discriminator:
    defaults = {"n_classes": K, "channels": 1, "img_size": 28, "widths": (64, 16), "hidden": 8}
    return Discriminator(**defaults | options)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts() -> None:
    # project + by-class gains and biases + 4 x 4 upsampling + 4 x 4 to one channel
    plain = 100 * 96 * 49 + 2 * 10 * 128 + 96 * 32 * 16 + 32 * 16 + 1
    hidden = 100 * 256 + 2 * 10 * 256 + 256 * 96 * 49
    assert count(make_generator(hidden=0)) == plain == 522_625
    assert count(make_generator(hidden=256)) == plain + hidden
    assert count(make_generator(conditioning="concat", hidden=0)) == 567_461
    sizes = [count(make_discriminator(head=head, hidden=0)) for head in HEADS]
    assert sizes == [44_049, 20_785, 44_059]
    # from the 64 x 7 x 7 features to the hidden ones, and these to the logits
    hidden = 256 * (64 * 49 + 1)
    assert count(make_discriminator(hidden=256)) == 44_049 + hidden + 256 * 11


@pytest.mark.parametrize("hidden", [0, 8])
def test_only_hidden_features_see_two_corners_of_an_image_together(hidden: int) -> None:
    discriminator = make_discriminator(hidden=hidden).double()
    corners = torch.zeros(4, 1, 28, 28, dtype=torch.float64)
    corners[1:3, :, :8, :8] = 3
    corners[2:, :, -8:, -8:] = 3  # none, the first, both, the second
    none, first, both, second = discriminator(corners, torch.zeros(4).long())
    together = (both - first - second + none).item()
    assert (together == pytest.approx(0, abs=1e-12)) == (not hidden)


@pytest.mark.parametrize("hidden", [0, 8])
def test_only_hidden_features_make_the_first_map_more_than_linear(hidden: int) -> None:
    generator = make_generator(hidden=hidden).double()
    seen: list[Tensor] = []
    generator.project.register_forward_hook(lambda *given: seen.append(given[2]))
    latents = torch.randn(2, Z, dtype=torch.float64)
    generator(torch.stack([0 * latents[0], *latents, latents.sum(dim=0)]), torch.zeros(4).long())
    together = seen[0][3] - seen[0][1] - seen[0][2] + seen[0][0]
    assert bool(together.abs().max() < 1e-12) == (not hidden)


@pytest.mark.parametrize("options", GENERATORS, ids=str)
@pytest.mark.parametrize(("channels", "img_size"), [(1, 28), (3, 28), (1, 32), (3, 32)])
def test_generated_shapes_and_range(options: dict[str, Any], channels: int, img_size: int) -> None:
    generator = make_generator(channels=channels, img_size=img_size, **options)
    images = generator(100 * torch.randn(6, Z), torch.arange(6))
    assert images.shape == (6, channels, img_size, img_size)
    assert images.abs().max() <= 1
    assert images.std() > 0.1


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("channels", "img_size"), [(1, 28), (3, 28), (1, 32), (3, 32)])
def test_logits_have_one_number_per_image(head: str, channels: int, img_size: int) -> None:
    discriminator = make_discriminator(head=head, channels=channels, img_size=img_size)
    images = torch.randn(6, channels, img_size, img_size)
    assert discriminator(images, torch.arange(6)).shape == (6,)


@pytest.mark.parametrize("options", GENERATORS, ids=str)
def test_changing_a_label_changes_that_image_and_no_other(options: dict[str, Any]) -> None:
    latents, labels = torch.randn(5, Z), torch.arange(5)
    relabelled = torch.tensor([0, 1, 9, 3, 4])
    generator = make_generator(**options)
    changed = (generator(latents, labels) != generator(latents, relabelled)).flatten(1).any(dim=1)
    assert changed.tolist() == [False, False, True, False, False]
    unconditional = make_generator(n_classes=1, **options)
    assert torch.equal(unconditional(latents, labels), unconditional(latents, relabelled))


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_a_logit_depends_on_its_own_image_and_label_only(head: str, spectral_norm: bool) -> None:
    discriminator = make_discriminator(head=head, spectral_norm=spectral_norm).eval()
    assert not mixes_samples(discriminator)
    moves, relabelled = influences(discriminator)
    assert moves == torch.eye(4).bool().tolist()
    conditional = head != "auxiliary"
    assert relabelled == [False, False, conditional, False]


@pytest.mark.parametrize("head", ["projection", "concat"])
def test_one_class_is_unconditional(head: str) -> None:
    discriminator = make_discriminator(head=head, n_classes=1)
    images = torch.randn(3, 1, 28, 28)
    logits = discriminator(images, torch.zeros(3).long())
    assert torch.equal(logits, discriminator(images, torch.tensor([5, 0, 999])))


@pytest.mark.parametrize("head", ["projection", "auxiliary"])
def test_classifying_gives_the_same_logits_and_one_for_each_class(head: str) -> None:
    discriminator, images, labels = (
        make_discriminator(head=head),
        torch.randn(3, 1, 28, 28),
        [0, 4, 2],
    )
    logits, class_logits = discriminator.classify(images, torch.tensor(labels))
    assert torch.equal(logits, discriminator(images, torch.tensor(labels)))
    assert class_logits.shape == (3, K)


@pytest.mark.parametrize(
    ("img_size", "n_widths", "start"), [(28, 1, 14), (28, 2, 7), (32, 3, 4), (64, 4, 4)]
)
def test_the_number_of_widths_chooses_the_strides(img_size: int, n_widths: int, start: int) -> None:
    widths = [24, 16, 12, 8][-n_widths:]
    generator = make_generator(img_size=img_size, widths=widths)
    discriminator = make_discriminator(img_size=img_size, widths=widths)
    images = generator(torch.randn(6, Z), torch.arange(6))
    assert images.shape == (6, 1, img_size, img_size)
    assert generator.project.out_features == widths[0] * start**2
    assert discriminator.hidden.in_features == widths[0] * start**2
    assert discriminator(images, torch.arange(6)).shape == (6,)


@pytest.mark.parametrize(("n_widths", "patch"), [(1, 4), (2, 8), (3, 16)])
def test_without_hidden_features_a_logit_is_a_sum_over_patches(n_widths: int, patch: int) -> None:
    """Two pixels act together only where one patch holds both."""
    options = {"img_size": 32, "widths": [8] * n_widths, "hidden": 0}
    discriminator = make_discriminator(**options).double()
    row, (x, y) = 15, (7, 7 + patch)  # as far apart as no patch reaches
    for far, expected in ((y, False), (y - patch + 1, True)):
        images = torch.zeros(4, 1, 32, 32, dtype=torch.float64)
        images[1:3, :, row, x], images[2:, :, row, far] = 9, 9
        none, first, both, second = discriminator(images, torch.zeros(4).long())
        assert ((both - first - second + none).abs() > 1e-12).item() is expected


@pytest.mark.parametrize("make", [make_generator, make_discriminator])
def test_more_widths_than_halvings_are_refused(make: Any) -> None:
    with pytest.raises(InputError, match=r"img_size=28 is no multiple of 8.* type 1 or 2 of them"):
        make(widths=[1, 2, 3])


def test_a_head_without_classes_is_refused() -> None:
    images, labels = torch.randn(3, 1, 28, 28), torch.arange(3)
    with pytest.raises(InputError, match=r"head=concat has no logits of classes: type"):
        make_discriminator(head="concat").classify(images, labels)
    with pytest.raises(InputError, match=r"type model\.discriminator\.head=projection"):
        make_discriminator(head="auxiliary", n_classes=1)


def test_classes_and_logits_share_the_features() -> None:
    discriminator = make_discriminator(head="auxiliary")
    _, class_logits = discriminator.classify(torch.randn(3, 1, 28, 28), torch.arange(3))
    loss = class_logits.logsumexp(dim=1).sum()
    slopes = torch.autograd.grad(loss, [*discriminator.parameters()], allow_unused=True)
    unused = [
        name
        for (name, _), slope in zip(discriminator.named_parameters(), slopes, strict=True)
        if slope is None
    ]
    assert unused == ["head.weight", "head.bias"]


@pytest.mark.parametrize("head", HEADS)
def test_spectral_norm_bounds_every_layer(head: str) -> None:
    discriminator = make_discriminator(head=head, spectral_norm=True)
    for weight in discriminator.parameters():
        weight.data *= 10
    layers = [
        part
        for part in discriminator.modules()
        if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding)
    ]
    assert len(layers) == 5
    assert all(map(parametrize.is_parametrized, layers))
    for layer in layers:
        for _ in range(200):
            layer.weight  # noqa: B018  # in training, each look is a step of power iteration
    discriminator.eval()
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(
            1, abs=0.01
        )


def test_minibatch_std_sees_a_collapsed_batch() -> None:
    layer = MinibatchStd()
    x = torch.randn(256, 3, 4, 4) * 2
    joined = layer(x)
    assert torch.equal(joined[:, :3], x)
    assert joined[:, 3].unique().item() == pytest.approx(2, rel=0.02)
    assert layer(x[:1].expand(256, -1, -1, -1))[:, 3].unique().item() == pytest.approx(0, abs=2e-4)


def test_minibatch_std_mixes_samples_and_the_gan_knows() -> None:
    discriminator = make_discriminator(minibatch_std=True)
    assert mixes_samples(discriminator)
    images = torch.randn(3, 1, 28, 28, requires_grad=True)
    logits = discriminator(images, torch.arange(3))
    (slopes,) = torch.autograd.grad(logits[0], images)
    assert (slopes.flatten(1).abs().sum(dim=1) > 0).all()
    same = images[:1].expand(3, -1, -1, -1).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(discriminator(same, torch.arange(3)).sum(), same)
    assert slopes.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("minibatch_std", [False, True])
@pytest.mark.parametrize("head", ["projection", "concat"])
def test_second_derivatives(head: str, minibatch_std: bool) -> None:
    discriminator = make_discriminator(
        head=head,
        n_classes=2,
        img_size=4,
        widths=(4, 2),
        hidden=3,
        minibatch_std=minibatch_std,
    ).double()
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = discriminator.from_images.weight

    def logits(images: Tensor, _: Tensor) -> Tensor:
        return discriminator(images, torch.tensor([0, 1]))

    assert torch.autograd.gradcheck(logits, (images, weight))
    assert torch.autograd.gradgradcheck(logits, (images, weight))


@pytest.mark.usefixtures("two_threads")
def test_gradients_repeat_to_the_bit() -> None:
    generator, discriminator = make_generator().train(), make_discriminator()
    latents, labels = torch.randn(16, Z), torch.randint(K, (16,))
    first, again = (slopes(generator, discriminator, latents, labels) for _ in range(2))
    assert all(map(torch.equal, first, again))
