"""The racing arms do the same mathematics."""

from copy import deepcopy
from functools import partial

import pytest
import torch

from benchmarks.throughput import bare_step, first_step, with_torchs_layers
from src.configuration.build import build_model
from src.images import to_float
from tests.toys import Compose


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["experiment=train_mnist_gan"],
        ["experiment=train_mnist_gan", "model/discriminator=resnet", "model/generator=resnet"],
        ["experiment=mnist_dcgan_hinge_sn", "model.discriminator.spectral_norm=false"],
        ["experiment=mnist_acgan"],
    ],
    ids=" ".join,
)
def test_the_first_version_takes_the_bare_loop_s_steps(typed: Compose, options: list[str]) -> None:
    torch.manual_seed(0)
    bare = build_model(typed(*options, "model.ema_halflife_images=8"))
    descend = partial(torch.optim.SGD, lr=0.01)  # in which a rounding error stays one
    bare.make_optimizers = descend, descend
    first, before = deepcopy(bare), [weight.detach().clone() for weight in bare.parameters()]
    steps = bare_step(bare), with_torchs_layers(first_step(first))
    images = to_float(torch.randint(256, (8, 1, 28, 28), dtype=torch.uint8))
    for step in steps:
        torch.manual_seed(0)
        for _ in range(2):
            step(images, torch.arange(8))
    for one, other, start in zip(bare.parameters(), first.parameters(), before, strict=True):
        assert (one - other).norm() <= 1e-3 * (one - start).norm()
