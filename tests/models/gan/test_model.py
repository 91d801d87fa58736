"""The adversarial step is the textbook's, counted in generator steps, and repeatable."""

from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from src.errors import InputError
from src.images import Labelled, to_uint8
from src.models.gan.augment import Translation
from src.models.gan.losses import AdversarialLoss, LeastSquares, Logits, Relativistic, Wasserstein
from src.models.gan.model import ConditionalGAN
from src.models.gan.penalties import FiniteDifference, Interpolated, ZeroCentered, ZeroCenteredPair
from src.models.gan.scores import Scored
from src.models.gan.terms import AuxiliaryClassifier, FeatureMatching
from src.models.randomness import TRAIN, random_stream, seed_device
from src.models.schedules import Cosine, Linear
from src.networks import dcgan
from src.networks.facts import evaluating, frozen
from tests.toys import (
    BATCH,
    CLASSES,
    LATENT,
    Critic,
    Lipschitz,
    assert_same,
    batches,
    fit,
    make_gan,
    moved,
    weights,
)


def textbook_step(gan: ConditionalGAN, real: Tensor, labels: Tensor) -> None:
    """Least squares by hand, with plain torch: D on real and detached fakes, then G."""
    torch.manual_seed(random_stream(5, TRAIN, 0, 0, 0))
    fake_labels = torch.randint(CLASSES, (BATCH,))
    fake = gan.generator(torch.randn(BATCH, LATENT), fake_labels)
    scores = gan.discriminator(torch.cat([real, fake.detach()]), torch.cat([labels, fake_labels]))
    d_loss = ((scores[:BATCH] - 1) ** 2).mean() / 2 + (scores[BATCH:] ** 2).mean() / 2
    descend(gan.discriminator, d_loss)
    descend(gan.generator, ((gan.discriminator(fake, fake_labels) - 1) ** 2).mean())


def descend(network: nn.Module, loss: Tensor, lr: float = 0.05) -> None:
    slopes = torch.autograd.grad(loss, list(network.parameters()))
    with torch.no_grad():
        for weight, slope in zip(network.parameters(), slopes, strict=True):
            weight.sub_(lr * slope)


def test_one_step_is_the_textbooks() -> None:
    ours, textbook = make_gan(), make_gan()
    fit(ours)
    textbook_step(textbook, *batches(1)[0])
    for name, value in textbook.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, msg=name)


def test_an_epoch_too_short_for_a_step_of_the_generator_is_refused() -> None:
    with pytest.raises(InputError, match=r"discriminator_steps=4 is more than the 3 batches .*=3"):
        fit(make_gan(discriminator_steps=4), 3)
    assert fit(make_gan(discriminator_steps=3), 3).global_step == 1


def test_each_player_moves_by_its_own_optimizer_alone() -> None:
    still_generator, still_discriminator = make_gan(lr_g=0.0), make_gan(lr_d=0.0)
    for gan, mover, sitter in [
        (still_generator, still_generator.discriminator, still_generator.generator),
        (still_discriminator, still_discriminator.generator, still_discriminator.discriminator),
    ]:
        mover_before, sitter_before = weights(mover), weights(sitter)
        fit(gan)
        assert any(moved(mover_before, mover))
        assert not any(moved(sitter_before, sitter))


def test_the_generators_step_leaves_no_gradient_in_the_discriminator() -> None:
    gan = make_gan(lr_d=0.0)
    seen: list[list[Tensor]] = []
    step = gan.step_generator

    def spied(*batches: Any, **options: Any) -> Tensor:
        seen.append([weight.grad.clone() for weight in gan.discriminator.parameters()])
        loss = step(*batches, **options)
        seen.append([weight.grad.clone() for weight in gan.discriminator.parameters()])
        return loss

    gan.step_generator = spied  # type: ignore[method-assign]
    fit(gan)
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    assert all(weight.requires_grad for weight in gan.parameters())


@pytest.mark.parametrize(("steps", "expected"), [(1, 12), (2, 6), (5, 2)])
def test_global_step_counts_generator_steps(steps: int, expected: int) -> None:
    assert fit(make_gan(discriminator_steps=steps), 12).global_step == expected


def test_max_steps_counts_generator_steps() -> None:
    gan = make_gan(discriminator_steps=2)
    assert fit(gan, 12, max_steps=3, max_epochs=-1).global_step == 3
    assert len(gan.discriminator.asked) == 6 + 3


def test_checkpoint_intervals_count_generator_steps(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    fit(make_gan(), 10, saver)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["step=3", "step=6", "step=9"]


def test_discriminator_learns_from_more_batches_than_the_generator() -> None:
    gan = make_gan(discriminator_steps=3)
    before = weights(gan.generator)
    fit(gan, 2, fast_dev_run=2)
    assert not any(moved(before, gan.generator))
    assert len(gan.discriminator.asked) == 2


@pytest.mark.parametrize(
    ("loss", "penalties", "shared"),
    [
        (LeastSquares(), {}, False),
        (Relativistic(), {}, True),
        (Wasserstein(), {"gp": Interpolated()}, True),
        (LeastSquares(), {"r1": ZeroCentered(1.0, at="real")}, False),
    ],
)
def test_labels_are_shared_only_where_pairs_are_compared(
    loss: AdversarialLoss, penalties: dict[str, Any], shared: bool
) -> None:
    gan = make_gan(loss=loss, penalties=penalties)
    fit(gan)
    real, fake = gan.discriminator.asked[0][1].chunk(2)
    assert torch.equal(real, fake) is shared


def test_a_relativistic_generator_step_sees_the_real_logits() -> None:
    seen: list[Logits] = []

    class Spy(Relativistic):
        def generator(self, logits: Logits) -> Tensor:
            seen.append(logits)
            return super().generator(logits)

    fit(make_gan(loss=Spy()))
    assert torch.isfinite(seen[0].real).all()
    assert not seen[0].real.requires_grad
    assert seen[0].fake.requires_grad


def test_penalties_move_the_discriminator_against_their_gradient() -> None:
    plain, penalized = make_gan(), make_gan(penalties={"r1": ZeroCentered(5.0, at="real")})
    fit(plain), fit(penalized)
    copy = make_gan()
    torch.manual_seed(random_stream(5, TRAIN, 0, 0, 0))
    # Draws what the step has drawn.
    copy.make_fake(*copy.draw_inputs(torch.zeros(BATCH, dtype=torch.int64)))
    (real, labels) = batches(1)[0]
    copy.discriminator(torch.cat([real, real]), torch.cat([labels, labels]))
    penalty = ZeroCentered(5.0, at="real")
    scored = Scored(Labelled(real, labels), torch.zeros(BATCH))
    value = penalty(copy.discriminator, real=scored, fake=scored)
    slopes = torch.autograd.grad(
        value.mean(), list(copy.discriminator.parameters()), allow_unused=True
    )
    for a, b, slope in zip(
        weights(plain.discriminator), weights(penalized.discriminator), slopes, strict=True
    ):
        torch.testing.assert_close(b - a, torch.zeros_like(a) if slope is None else -0.05 * slope)


def test_real_and_fake_go_in_together_unless_batch_statistics_would_mix_them() -> None:
    together, apart = make_gan(), make_gan(normalized=True)
    fit(together), fit(apart)
    assert [len(images) for images, _ in together.discriminator.asked] == [2 * BATCH, BATCH]
    assert [len(images) for images, _ in apart.discriminator.asked] == [BATCH] * 3


def test_a_step_depends_on_nothing_drawn_outside_it() -> None:
    class Gambler(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            torch.rand(7)

    calm, disturbed = make_gan(), make_gan()
    fit(calm, 4), fit(disturbed, 4, Gambler(), enable_checkpointing=False)
    for a, b in zip(weights(calm), weights(disturbed), strict=True):
        assert torch.equal(a, b)


def test_streams_differ_by_seed_rank_epoch_and_batch() -> None:
    keys = list(product((0, 1), repeat=5))
    assert len({random_stream(*key) for key in keys}) == len(keys)


class Remember(pl.Callback):
    """Keeps the generator's weights after every batch."""

    def __init__(self) -> None:
        self.states: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, gan: pl.LightningModule, *_: Any) -> None:
        self.states.append(weights(gan.generator))


def test_average_follows_the_generator_in_images() -> None:
    gan, seen = make_gan(ema_halflife_images=float(BATCH)), Remember()
    fit(gan, 2, seen, enable_checkpointing=False)
    older, newer = seen.states
    means = [(a + 2 * b) / 3 for a, b in zip(older, newer, strict=True)]  # one half-life apart
    for expected, average in zip(means, gan.ema.network.parameters(), strict=True):
        torch.testing.assert_close(average.detach(), expected)


@pytest.mark.parametrize("ema_halflife_images", [None, 1e9])
def test_generate_uses_the_average_in_eval_mode_and_restores_training(
    ema_halflife_images: float | None,
) -> None:
    gan = make_gan(ema_halflife_images=ema_halflife_images)
    fit(gan, 3)
    gan.train()
    latents, labels = torch.randn(5, LATENT), torch.arange(5) % CLASSES
    images = gan.generate(latents, labels)
    assert gan.generator.training
    network = gan.generator if ema_halflife_images is None else gan.ema.network
    with evaluating(network):
        assert torch.equal(images, to_uint8(network(latents, labels)))
    assert images.shape == (5, 1, 2, 2)


def test_evaluation_repeats_itself_and_reports_both_losses() -> None:
    gan = make_gan().eval()
    (batch,) = batches(1)
    gan._trainer = None
    first, second = gan.validation_step(batch, 3), gan.validation_step(batch, 3)
    assert first == second
    assert first != gan.validation_step(batch, 4)
    assert first.keys() == {"g_loss", "d_loss"}


def test_frozen_restores_only_what_it_froze() -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    with frozen(network.parameters()):
        assert not network.weight.requires_grad
    assert network.weight.requires_grad
    assert not network.bias.requires_grad


# --- penalties that read the loss's logits --------------------------------------------------------


R1_R2 = {"r1": ZeroCentered(4.0, at="real"), "r2": ZeroCentered(4.0, at="fake")}
PAIR = {"r1_r2": ZeroCenteredPair(4.0)}


@pytest.mark.parametrize("normalized", [False, True], ids=["together", "apart"])
def test_r1_and_r2_from_the_loss_s_logits_make_the_same_step(normalized: bool) -> None:
    """Batch norm in eval mode has fixed statistics, and yet sends real and fake in apart."""
    steps = []
    for penalties in (R1_R2, PAIR):
        torch.manual_seed(3)
        critic = Critic(dropout=0.0, normalized=normalized)
        critic.model[1].train(mode=False)
        gan = make_gan(critic=critic, loss=Relativistic(), penalties=penalties)
        fit(gan)
        steps.append(gan)
    for a, b in zip(weights(steps[0]), weights(steps[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("penalties", "sizes"),
    [
        (R1_R2, [2 * BATCH, BATCH, BATCH]),
        (PAIR, [2 * BATCH]),
        ({"fd_r1": FiniteDifference(4.0, at="real")}, [2 * BATCH, BATCH]),
    ],
)
def test_logits_that_penalties_share_are_computed_once(
    penalties: dict[str, Any], sizes: list[int]
) -> None:
    gan = make_gan(critic=Critic(dropout=0.0), penalties=penalties)
    fit(gan)
    assert [len(images) for images, _ in gan.discriminator.asked] == [*sizes, BATCH]


@pytest.mark.parametrize(
    ("penalties", "expected"),
    [
        ({}, torch.bfloat16),
        ({"r1": ZeroCentered(4.0, at="real")}, torch.bfloat16),
        (PAIR, torch.float32),
        ({"fd_r1": FiniteDifference(4.0, at="real")}, torch.float32),
    ],
)
def test_logits_that_penalties_share_are_in_full_precision(
    penalties: dict[str, Any], expected: torch.dtype
) -> None:
    gan = make_gan(critic=Critic(dropout=0.0), penalties=penalties)
    types: list[torch.dtype] = []
    gan.discriminator.register_forward_hook(lambda *call: types.append(call[2].dtype))
    fit(gan, precision="bf16-mixed")
    assert types[0] == expected
    assert types[-1] == torch.bfloat16  # the generator's step
    assert set(types[1:-1]) <= {torch.float32}  # the penalties' own


# --- spectral normalization ----------------------------------------------------------------------


@pytest.mark.parametrize("penalties", [{}, R1_R2, PAIR], ids=["alone", "r1 and r2", "at once"])
def test_a_spectrally_normalized_discriminator_trains_and_stays_normalized(
    penalties: dict[str, Any],
) -> None:
    gan = make_gan(critic=Lipschitz(), penalties=penalties)
    before = weights(gan.discriminator)
    fit(gan, 30)
    assert all(moved(before, gan.discriminator))
    gan.eval()
    for layer in gan.discriminator.model:
        if isinstance(layer, nn.Linear):
            largest = torch.linalg.matrix_norm(layer.weight, ord=2)
            assert largest.item() == pytest.approx(1, abs=0.02)


def test_a_spectrally_normalized_discriminator_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, first, second = (make_gan(critic=Lipschitz(), penalties=PAIR) for _ in range(3))
    fit(whole, 3, max_epochs=2)
    fit(first, 3).save_checkpoint(tmp_path / "last.ckpt")
    fit(second, 3, max_epochs=2, ckpt=tmp_path / "last.ckpt")
    assert_same(second, whole)


def test_evaluation_leaves_the_power_iteration_where_it_was() -> None:
    gan = make_gan(critic=Lipschitz())
    fit(gan, 2)
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    gan.eval()
    gan.validation_step(batches(1)[0], 0)
    for name, value in gan.state_dict().items():
        assert torch.equal(value, before[name]), name


# --- terms and augmentation ----------------------------------------------------------------------


class Brightness:
    """Darker generated images; a bias of the discriminator pulled down."""

    paired, needs = False, "forward"

    def discriminator(self, network: Critic, *, real: Scored, fake: Scored) -> Tensor:
        return network.model[-1].bias

    def generator(self, network: Critic, *, real: Labelled, fake: Scored) -> Tensor:
        return fake.batch.images.flatten(1).sum(dim=1)


def test_each_player_s_term_joins_its_own_loss() -> None:
    plain, extended = make_gan(), make_gan(terms={"brightness": Brightness()})
    before = extended.generator
    step = extended.step_generator
    slopes: list[Tensor] = []

    def spied(real: Labelled, fake: Labelled, **options: Any) -> Tensor:
        total = fake.images.flatten(1).sum(dim=1).mean()
        slopes.extend(torch.autograd.grad(total, list(before.parameters()), retain_graph=True))
        # From here on the discriminators are the same, and so is the rest of the step.
        with torch.no_grad():
            extended.discriminator.model[-1].bias += 0.05
        return step(real, fake, **options)

    extended.step_generator = spied  # type: ignore[method-assign]
    fit(plain), fit(extended)
    for a, b in zip(weights(plain.discriminator), weights(extended.discriminator), strict=True):
        torch.testing.assert_close(a, b)
    for a, b, slope in zip(
        weights(plain.generator), weights(extended.generator), slopes, strict=True
    ):
        torch.testing.assert_close(b - a, -0.05 * slope, atol=1e-6, rtol=1e-5)


def make_critic(**options: Any) -> dcgan.Discriminator:
    sizes = {"n_classes": CLASSES, "channels": 1, "img_size": 4, "widths": (8, 4), "hidden": 0}
    return dcgan.Discriminator(**sizes | options)


@pytest.mark.parametrize("head", ["projection", "auxiliary"])
@pytest.mark.parametrize("term", [AuxiliaryClassifier(), FeatureMatching()])
def test_the_convolutional_discriminator_has_what_terms_need(term: Any, head: str) -> None:
    """The discriminator learns otherwise only where the term is not the generator's alone."""
    moves = []
    for terms in ({}, {"it": term}):
        torch.manual_seed(0)
        critic = make_critic(head=head)
        enlarge = {"enlarge": lambda images: images.repeat(1, 1, 2, 2)}
        gan = make_gan(critic=critic, loss=Relativistic(), terms=terms, augment=enlarge)
        fit(gan)
        moves.append((weights(gan.generator), weights(gan.discriminator)))
    (g_without, d_without), (g_with, d_with) = moves
    assert not all(map(torch.equal, g_without, g_with))
    assert all(map(torch.equal, d_without, d_with)) == isinstance(term, FeatureMatching)


def test_labels_are_learned_from_real_images_alone() -> None:
    """The term moves the discriminator along the gradient of its loss on real images."""
    enlarge = {"enlarge": lambda images: images.repeat(1, 1, 2, 2)}
    critics = []
    for terms in ({}, {"it": AuxiliaryClassifier(weight=0.5, fakes=False)}):
        torch.manual_seed(0)
        critic = make_critic()
        (images, labels), before = batches(1)[0], deepcopy(critic)
        fit(make_gan(critic=critic, lr_d=0.05, terms=terms, augment=enlarge))
        critics.append(critic)
    _, class_logits = before.classify(enlarge["enlarge"](images), labels)
    loss = 0.5 * torch.nn.functional.cross_entropy(class_logits, labels)
    slopes = torch.autograd.grad(loss, [*before.parameters()], allow_unused=True)
    for without, with_term, slope in zip(*(c.parameters() for c in critics), slopes, strict=True):
        expected = torch.zeros_like(without) if slope is None else -0.05 * slope
        torch.testing.assert_close(with_term - without, expected, atol=1e-6, rtol=1e-4)


def test_a_term_s_missing_method_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"model.terms.ac needs .* classify, which Critic is"):
        make_gan(terms={"ac": AuxiliaryClassifier()})


def test_in_training_the_discriminator_sees_all_images_augmented_and_otherwise_none() -> None:
    gan = make_gan(
        loss=Relativistic(),
        penalties=R1_R2,
        augment={"zero": lambda images: 0 * images, "add": lambda images: images + 0.25},
    )
    fit(gan)
    assert len(gan.discriminator.asked) == 5
    assert all((images == 0.25).all() for images, _ in gan.discriminator.asked)
    gan.validation_step(batches(1)[0], 0)
    assert not any((images == 0.25).any() for images, _ in gan.discriminator.asked[5:])


def test_the_generator_learns_through_the_augmentation() -> None:
    """A discriminator that sees only black tells the generator nothing."""
    for augmentation, expected in [(Translation(1), True), (lambda images: 0 * images, False)]:
        gan = make_gan(augment={"it": augmentation})
        before = weights(gan.generator)
        fit(gan)
        assert any(moved(before, gan.generator)) is expected


# --- schedules ----------------------------------------------------------------------------------


class RateReader(pl.Callback):
    """Both learning rates after each batch."""

    def __init__(self) -> None:
        self.rates: list[tuple[float, ...]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(tuple(each.param_groups[0]["lr"] for each in trainer.optimizers))


@pytest.mark.parametrize("discriminator_steps", [1, 2])
def test_schedules_count_the_real_images_of_finished_generator_steps(
    discriminator_steps: int,
) -> None:
    per_step = BATCH * discriminator_steps
    schedules = {"lr": Linear([[0, 1.0], [4 * per_step, 0.0]])}
    gan = make_gan(lr_d=0.2, schedules=schedules, discriminator_steps=discriminator_steps)
    reader = RateReader()
    fit(gan, 4 * discriminator_steps, reader, enable_checkpointing=False)
    factors = [1 - i // discriminator_steps / 4 for i in range(4 * discriminator_steps)]
    expected = [(0.05 * factor, 0.2 * factor) for factor in factors]
    for rates, wanted in zip(reader.rates, expected, strict=True):
        assert rates == pytest.approx(wanted)


def test_each_value_follows_its_schedule() -> None:
    """A constant schedule is the same as another configuration."""
    parts = {"penalties": {"r1": ZeroCentered(4.0, at="real")}, "ema_halflife_images": 8.0}
    scheduled = make_gan(
        optimizer=partial(torch.optim.Adam, betas=(0.5, 0.9)),
        schedules={
            "lr": lambda _: 0.5,
            "gamma": lambda _: 0.25,
            "beta2": lambda _: 0.7,
            "ema_halflife": lambda _: 0.125,
        },
        **parts,
    )
    parts = {"penalties": {"r1": ZeroCentered(1.0, at="real")}, "ema_halflife_images": 1.0}
    configured = make_gan(
        lr_g=0.025, lr_d=0.025, optimizer=partial(torch.optim.Adam, betas=(0.5, 0.7)), **parts
    )
    fit(scheduled, 3), fit(configured, 3)
    assert_same(scheduled, configured)


def test_the_probability_of_augmentations_follows_its_schedule() -> None:
    """That share of all images that the discriminator is asked about is marked, drawn anew."""
    size, schedule = 200, Linear([[0, 0.0], [2 * 200, 1.0]])
    gan = make_gan(loss=Relativistic(), augment={"marks": torch.ones_like}, augment_p=0.5,
                   schedules={"augment": schedule})  # fmt: skip
    shares = []

    class Reader(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            asked = [images for images, _ in gan.discriminator.asked]
            halves = [half for images in asked for half in images.split(size)]
            shares.append([(half == 1).flatten(1).all(dim=1).float().mean() for half in halves])
            gan.discriminator.asked.clear()

    fit(gan, 3, Reader(), batch_size=size, enable_checkpointing=False)
    for found, expected in zip(shares, [0.0, 0.25, 0.5], strict=True):
        assert len(found) == 4  # real and fake images, in both steps
        assert [share.item() for share in found] == pytest.approx([expected] * 4, abs=0.12)
        assert len({share.item() for share in found}) > 1 or not expected  # drawn anew


def test_a_resumed_run_follows_its_schedules_to_the_bit(tmp_path: Path) -> None:
    def make() -> ConditionalGAN:
        burn_in = Cosine(start=0.0, end=1.0, over_images=7 * BATCH)
        beta2 = Cosine(start=0.9, end=0.99, over_images=7 * BATCH)
        return make_gan(
            optimizer=torch.optim.Adam,
            penalties={"r1": ZeroCentered(4.0, at="real")},
            ema_halflife_images=30.0,
            augment={"translation": Translation(1)},
            schedules={
                "lr": burn_in,
                "gamma": burn_in,
                "beta2": beta2,
                "ema_halflife": burn_in,
                "augment": burn_in,
            },
        )

    whole, first, second = make(), make(), make()
    fit(whole, 3, max_epochs=3)
    trainer = fit(first, 3, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fit(second, 3, max_epochs=3, ckpt=tmp_path / "last.ckpt")
    assert_same(second, whole)
    assert second.scheduled == whole.scheduled != first.scheduled


def test_a_run_that_goes_on_with_smaller_batches_counts_what_it_saw(
    tmp_path: Path,
) -> None:
    first, second = (make_gan(schedules={"lr": float}) for _ in range(2))
    fit(first, 3).save_checkpoint(tmp_path / "last.ckpt")
    fit(second, 3, batch_size=2, max_epochs=2, ckpt=tmp_path / "last.ckpt")
    assert second.images_seen == 3 * 6 + 3 * 2
    assert second.scheduled["lr"] == 3 * 6 + 2 * 2  # before the last step


def test_a_checkpoint_older_than_the_count_goes_on_as_if_it_had_one(tmp_path: Path) -> None:
    first, second = (make_gan(schedules={"lr": float}, discriminator_steps=2) for _ in range(2))
    fit(first, 5).save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint.pop("images_seen") == 4 * BATCH  # the fifth waits for the generator's step
    torch.save(checkpoint, tmp_path / "last.ckpt")
    fit(second, 5, max_epochs=2, ckpt=tmp_path / "last.ckpt")
    assert second.images_seen == 8 * BATCH


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_what_a_step_draws_on_any_gpu_follows_its_seed(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(getattr(torch, kind), "manual_seed", seeds.append)
    seed_device(torch.device(kind), 7)
    assert seeds == [7]


def test_beta2_of_an_optimizer_without_betas_is_refused() -> None:
    with pytest.raises(InputError, match=r"model.schedules.beta2 is not for SGD, which has no"):
        fit(make_gan(schedules={"beta2": lambda _: 0.9}))
