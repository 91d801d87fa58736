"""A GAN whose generator has styles: how it generates may change after training, and only that."""

from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

from src.configuration.build import build_model
from src.configuration.prepare import compose_in
from src.errors import InputError
from src.generate import generate, load_model
from src.models.gan.model import ConditionalGAN
from src.train import train
from tests.toys import Compose

TINY = [
    "ignore_warnings=true", "datamodule=synthetic", "logger=csv", "~callbacks.quality",
    "~callbacks.best_checkpoint", "datamodule.train_val_test_split=[256,70,64]",
    "datamodule.batch_size=32", "trainer.max_epochs=1",
]  # fmt: skip
STYLE = ["model/generator=style", "model.generator.widths=[8,8]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("style")
    with redirect_stdout((folder / "screen.txt").open("w")):
        train(compose_in(folder, *STYLE, *TINY))
    return folder


def made(run: Path, folder: Path, *arguments: str) -> torch.Tensor:
    folder.mkdir(exist_ok=True)
    generate(compose_in(folder, "task=generate", f"ckpt={run}", "labels=[3,5]", *arguments))
    with np.load(folder / "samples.npz") as arrays:
        return torch.from_numpy(arrays["images"])


@pytest.mark.slow
def test_truncation_may_change_after_training(trained: Path, tmp_path: Path) -> None:
    plain, again, half, none = (
        made(trained, tmp_path / str(i), "n=3", *options)
        for i, options in enumerate([
            [], STYLE, ["model.generator.truncation=0.5"], [*STYLE, "model.generator.truncation=0"],
        ])
    )  # fmt: skip
    assert torch.equal(plain, again)
    assert not torch.equal(plain, half)
    model = load_model(trained)
    assert isinstance(model, ConditionalGAN)
    assert model.ema is not None
    model.ema.network.truncation = 0.5
    noise = model.draw_noise(6, torch.Generator().manual_seed(12345))
    assert torch.equal(half, model.generate(noise, torch.tensor([3, 3, 3, 5, 5, 5])))
    assert not torch.equal(none[0], none[3])  # each class has a mean of its own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["model.generator.truncation=3"], r"truncation=3.* is not allowed: type a number from 0"),
        (["model.generator.truncation=abc"], r"truncation=abc is not allowed: .*a number"),
        ([*STYLE, "~model.generator.truncation"], r"truncation=None is not allowed"),
        (["model.generator.depth=3"], r"changes nothing.*type model.generator.truncation=VALUE"),
        (["model/generator=dcgan"], r"model/generator=dcgan changes nothing in a trained model"),
    ],
)
def test_other_options_of_a_trained_generator_are_refused(
    trained: Path, typed: Compose, options: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        generate(typed("task=generate", f"ckpt={trained}", "labels=5", *options))


@pytest.mark.slow
def test_a_resumed_run_may_truncate_otherwise(trained: Path, tmp_path: Path) -> None:
    longer = [*STYLE, *TINY, "trainer.max_epochs=2", f"ckpt={trained}"]
    train(compose_in(tmp_path, *longer, "model.generator.truncation=0.5"))
    model = load_model(tmp_path)
    assert isinstance(model, ConditionalGAN)
    assert model.generator.truncation == 0.5
    with pytest.raises(InputError, match=r"was trained with model\.generator="):
        train(compose_in(tmp_path, *longer, "model.generator.depth=3"))


def test_a_generator_without_styles_has_no_truncation(typed: Compose) -> None:
    with pytest.raises(InputError, match=r"there is no key model\.generator\.truncation"):
        typed("datamodule=synthetic", "model.generator.truncation=0.7")


@pytest.mark.parametrize("discriminator", ["dcgan", "resnet", "mlp"])
def test_every_discriminator_trains_it(typed: Compose, discriminator: str) -> None:
    options = [*STYLE, f"model/discriminator={discriminator}", "model/terms=none"]
    gan = build_model(typed("datamodule=synthetic", *options))
    assert isinstance(gan, ConditionalGAN)
    real, labels = torch.randn(8, 1, 28, 28), torch.arange(8)
    fake = gan.make_fake(*gan.draw_inputs(labels))
    assert fake.images.shape == real.shape
    objective = gan.game.generator_objective(gan.discriminator, fake._replace(images=real), fake)
    objective.total.backward(inputs=gan.generator_weights)
    assert all(weight.grad is not None for weight in gan.generator_weights)


def test_a_style_gan_repeats_its_steps_and_its_images(typed: Compose) -> None:
    gan = build_model(typed("datamodule=synthetic", *STYLE)).eval()
    noise = gan.draw_noise(4, torch.Generator().manual_seed(0))
    labels = torch.arange(4)
    assert torch.equal(gan.generate(noise, labels), gan.generate(noise, labels))
