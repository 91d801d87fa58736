"""Gradient penalties against closed forms.

A linear critic has the same slope everywhere; a quadratic one has the image itself as its slope.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from src.errors import InputError
from src.images import Labelled
from src.models.gan.penalties import (
    Critic,
    FiniteDifference,
    Interpolated,
    Penalty,
    ZeroCentered,
    ZeroCenteredPair,
    input_gradients,
    require_repeatable,
)
from src.models.gan.scores import Scored

N = 3
of_each_channel_count = pytest.mark.parametrize("channels", [1, 3])


def batch(labels: list[int], *, channels: int = 1, seed: int = 0) -> Labelled:
    source = torch.Generator().manual_seed(seed)
    images = torch.randn(N, channels, 4, 4, dtype=torch.float64, generator=source)
    return Labelled(images, torch.tensor(labels))


def unscored(batch: Labelled) -> Scored:
    """For penalties that ask the critic themselves."""
    return Scored(batch, torch.full((len(batch.labels),), torch.nan))


def linear(weights: Tensor) -> Critic:
    """D(x, y) = <weights[y], x>: its gradient is ``weights[y]``, wherever x lies."""
    return lambda images, labels: (images * weights[labels]).flatten(1).sum(dim=1)


def slopes(channels: int) -> Tensor:
    source = torch.Generator().manual_seed(7)
    return torch.randn(10, channels, 4, 4, dtype=torch.float64, generator=source)


def squared_norms(weights: Tensor, labels: list[int]) -> Tensor:
    return weights[labels].flatten(1).square().sum(dim=1)


def quadratic(images: Tensor, labels: Tensor) -> Tensor:
    """D(x) = ||x||^2 / 2: its gradient is x."""
    return images.flatten(1).square().sum(dim=1) / 2


REAL_LABELS, FAKE_LABELS = [3, 0, 8], [5, 1, 2]


@of_each_channel_count
@pytest.mark.parametrize(("at", "labels"), [("real", REAL_LABELS), ("fake", FAKE_LABELS)])
def test_r1_and_r2_of_a_linear_critic_are_half_its_squared_slope(
    at: str, labels: list[int], channels: int
) -> None:
    weights = slopes(channels)
    real, fake = (batch(each, channels=channels) for each in (REAL_LABELS, FAKE_LABELS))
    penalty = ZeroCentered(weight=3.0, at=at)(
        linear(weights), real=unscored(real), fake=unscored(fake)
    )
    torch.testing.assert_close(penalty, 1.5 * squared_norms(weights, labels))


@of_each_channel_count
def test_wgan_gp_of_a_linear_critic_is_its_slope_s_distance_from_one(channels: int) -> None:
    weights = slopes(channels) / 10  # norms on both sides of 1
    real, fake = (batch(each, channels=channels) for each in (REAL_LABELS, FAKE_LABELS))
    penalty = Interpolated(weight=10.0)(linear(weights), real=unscored(real), fake=unscored(fake))
    norms = squared_norms(weights, REAL_LABELS).sqrt()
    torch.testing.assert_close(penalty, 10 * (norms - 1).square())


def test_wgan_gp_vanishes_where_the_slope_is_one_and_punishes_both_sides_of_it() -> None:
    unit = slopes(1) / slopes(1).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    real, fake = batch(REAL_LABELS), batch(FAKE_LABELS)
    for scale, expected in ((1.0, 0.0), (0.5, 0.25), (2.0, 1.0)):
        penalty = Interpolated(weight=1.0)(
            linear(scale * unit), real=unscored(real), fake=unscored(fake)
        )
        torch.testing.assert_close(penalty, torch.full((N,), expected, dtype=torch.float64))


@pytest.mark.parametrize("at", ["real", "fake"])
def test_zero_centered_penalties_are_taken_at_the_named_images(at: str) -> None:
    real, fake = batch(REAL_LABELS, seed=1), batch(FAKE_LABELS, seed=2)
    penalty = ZeroCentered(weight=2.0, at=at)(quadratic, real=unscored(real), fake=unscored(fake))
    images = {"real": real, "fake": fake}[at].images
    torch.testing.assert_close(penalty, images.flatten(1).square().sum(dim=1))


@pytest.mark.parametrize(
    ("penalty", "slope"),
    [
        # d/ds of w/2 s^2 |a|^2, and of w (s |a| - 1)^2
        (ZeroCentered(weight=3.0, at="real"), lambda s, norm: 3 * s * norm**2),
        (ZeroCentered(weight=3.0, at="fake"), lambda s, norm: 3 * s * norm**2),
        (Interpolated(weight=10.0), lambda s, norm: 20 * (s * norm - 1) * norm),
    ],
)
def test_penalties_teach_the_critic_s_weights(penalty: Penalty, slope) -> None:
    """Double backward: the critic is s * <a, x>, and s gets the closed form's derivative."""
    weights, scale = slopes(1), torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    same = [3, 0, 8]
    critic: Critic = lambda images, labels: scale * linear(weights)(images, labels)  # noqa: E731
    penalty(critic, real=unscored(batch(same)), fake=unscored(batch(same))).sum().backward()
    norms = squared_norms(weights, same).sqrt()
    torch.testing.assert_close(scale.grad, slope(0.4, norms).sum())


def test_interpolates_lie_on_the_segments_between_the_pairs() -> None:
    real, fake = batch(REAL_LABELS, seed=1), batch(REAL_LABELS, seed=2)
    seen: list[Tensor] = []

    def recorder(images: Tensor, labels: Tensor) -> Tensor:
        seen.append(images.detach())
        assert labels.tolist() == REAL_LABELS
        return quadratic(images, labels)

    torch.manual_seed(0)
    Interpolated()(recorder, real=unscored(real), fake=unscored(fake))
    path = real.images - fake.images
    shares = ((seen[0] - fake.images) * path).sum((1, 2, 3)) / path.square().sum((1, 2, 3))
    assert ((shares >= 0) & (shares <= 1)).all()
    assert len(set(shares.tolist())) == N  # each image has its own
    torch.testing.assert_close(seen[0], fake.images + shares.view(-1, 1, 1, 1) * path)


def test_interpolates_reach_both_ends() -> None:
    """Uniform shares: the mean squared image of 0-1 segments is the integral of t^2, 1/3."""
    count = 4000
    real, fake = (
        Labelled(torch.full((count, 1, 1, 1), value), torch.zeros(count, dtype=torch.int64))
        for value in (1.0, 0.0)
    )
    seen: list[Tensor] = []

    def recorder(images: Tensor, labels: Tensor) -> Tensor:
        seen.append(images.detach())
        return quadratic(images, labels)

    torch.manual_seed(0)
    Interpolated()(recorder, real=unscored(real), fake=unscored(fake))
    assert seen[0].min() < 0.01
    assert seen[0].max() > 0.99
    assert seen[0].square().mean().item() == pytest.approx(1 / 3, abs=0.02)


def test_no_gradient_reaches_the_images_or_what_made_them() -> None:
    made = torch.ones(N, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    fake = Labelled(made * 2, torch.tensor(FAKE_LABELS))
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    penalty = ZeroCentered(weight=1.0, at="fake")(
        lambda images, labels: weight * quadratic(images, labels),
        real=unscored(batch(REAL_LABELS)),
        fake=unscored(fake),
    )
    penalty.sum().backward()
    assert made.grad is None
    assert weight.grad is not None


def test_input_gradients_are_each_image_s_own() -> None:
    images, labels = batch(REAL_LABELS, channels=3)
    torch.testing.assert_close(input_gradients(quadratic, images, labels), images.flatten(1))


def test_only_the_interpolated_penalty_mixes_pairs() -> None:
    assert Interpolated().paired
    assert not ZeroCentered(weight=1.0, at="real").paired
    assert not ZeroCentered(weight=1.0, at="fake").paired
    assert not ZeroCenteredPair(weight=1.0).paired
    assert not FiniteDifference(weight=1.0, at="real").paired


# --- penalties that read the loss's logits --------------------------------------------------------


def judged(critic: Critic, batch: Labelled) -> Scored:
    images = batch.images.detach().requires_grad_()
    return Scored(Labelled(images, batch.labels), critic(images, batch.labels))


def test_r1_and_r2_at_once_are_their_sum() -> None:
    real, fake = batch(REAL_LABELS, seed=1), batch(FAKE_LABELS, seed=2)
    critic: Critic = lambda images, labels: quadratic(images * slopes(1)[labels], labels)  # noqa: E731
    asked = {"real": unscored(real), "fake": unscored(fake)}
    apart = [ZeroCentered(weight=3.0, at=at)(critic, **asked) for at in AT]
    both = ZeroCenteredPair(weight=3.0)(
        critic, real=judged(critic, real), fake=judged(critic, fake)
    )
    torch.testing.assert_close(both, apart[0] + apart[1])


def forbidden(images: Tensor, labels: Tensor) -> Tensor:
    raise AssertionError("asked again")


def test_r1_and_r2_at_once_teach_weights_without_asking_the_critic_again() -> None:
    scale = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    critic: Critic = lambda images, labels: scale * quadratic(images, labels)  # noqa: E731
    real, fake = batch(REAL_LABELS, seed=1), batch(FAKE_LABELS, seed=2)
    parts = {"real": judged(critic, real), "fake": judged(critic, fake)}
    ZeroCenteredPair(weight=3.0)(forbidden, **parts).sum().backward()
    squares = real.images.square().sum() + fake.images.square().sum()
    torch.testing.assert_close(scale.grad, 3 * 0.4 * squares)


AT = ["real", "fake"]
DRAWS = 200_000


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("sigma", [0.01, 0.5])
def test_the_mean_finite_difference_of_a_linear_critic_is_the_exact_penalty(
    at: str, sigma: float
) -> None:
    """D(x + sigma eps) - D(x) is N(0, sigma^2 |a|^2): the mean is w/2 |a|^2, its spread sqrt(2)."""
    weights, label = slopes(1), {"real": 3, "fake": 5}[at]
    repeated = Labelled(
        batch([label] * N).images[:1].expand(DRAWS, -1, -1, -1), torch.tensor([label]).expand(DRAWS)
    )
    asked = judged(linear(weights), repeated)
    torch.manual_seed(0)
    penalty = FiniteDifference(weight=3.0, at=at, sigma=sigma)(
        linear(weights), **{"real": None, "fake": None, at: asked}
    )
    exact = 1.5 * squared_norms(weights, [label]).item()
    assert penalty.mean().item() == pytest.approx(exact, rel=5 * (2 / DRAWS) ** 0.5)
    assert penalty.std().item() == pytest.approx(2**0.5 * exact, rel=0.02)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0])
def test_the_finite_difference_of_a_quadratic_critic_errs_by_the_square_of_sigma(
    sigma: float,
) -> None:
    """D(x + s e) - D(x) = s <x, e> + s^2 |e|^2 / 2: the mean square is s^2 |x|^2 + s^4 n(n+2)/4."""
    image = batch(REAL_LABELS).images[:1]
    repeated = Labelled(image.expand(DRAWS, -1, -1, -1), torch.zeros(DRAWS, dtype=torch.int64))
    asked, n = judged(quadratic, repeated), image.numel()
    torch.manual_seed(0)
    penalty = FiniteDifference(2.0, at="real", sigma=sigma)(quadratic, real=asked, fake=asked)
    expected = image.square().sum().item() + sigma**2 * n * (n + 2) / 4
    assert penalty.mean().item() == pytest.approx(expected, rel=0.02)


def test_finite_differences_teach_weights_with_a_single_backward() -> None:
    """Of s <a, x> the penalty is s^2 times that of s = 1, so its slope is twice it over s."""
    scale = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    critic: Critic = lambda images, labels: scale * linear(slopes(1))(images, labels)  # noqa: E731
    real = batch(REAL_LABELS)
    asked = Scored(real, critic(*real))
    penalty = FiniteDifference(weight=3.0, at="real")(critic, real=asked, fake=asked).sum()
    penalty.backward()
    torch.testing.assert_close(scale.grad, 2 * penalty.detach() / 0.4)


def test_a_step_of_no_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"sigma=0.0 is not allowed"):
        FiniteDifference(weight=1.0, at="real", sigma=0.0)


FD, R1 = FiniteDifference(1.0, at="real"), ZeroCentered(1.0, at="real")


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.4), nn.BatchNorm1d(2), spectral_norm(nn.Linear(2, 2))], ids=repr
)
def test_finite_differences_refuse_a_critic_that_answers_anew(layer: nn.Module) -> None:
    with pytest.raises(InputError, match=r"type model/penalties=\[r1,r2\]"):
        require_repeatable(nn.Sequential(nn.Linear(2, 2), layer), [R1, FD])
    require_repeatable(nn.Sequential(layer), [R1])
    require_repeatable(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)), [FD])
