"""What a flow learns from a batch: where it looks, when, of which class, and against what."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.images import Labelled
from src.models.flow.model import FlowMatching
from src.models.flow.solvers import Euler

N = 4_000


def flow(network: nn.Module | None = None, **options: Any) -> FlowMatching:
    torch.manual_seed(0)
    return FlowMatching(
        network=network or nn.Linear(1, 1), optimizer=torch.optim.SGD, solver=Euler(), n_classes=3,
        channels=1, img_size=4, ema_halflife_images=1_000, n_steps=2, **options,
    )  # fmt: skip


def data() -> Labelled:
    return Labelled(torch.rand(N, 1, 4, 4) * 2 - 1, torch.arange(N) % 3)


class Heard(nn.Module):
    """A velocity that writes down what it is asked, and answers ``answer`` of points and times."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        self.x, self.times, self.labels = x, times, labels
        return self.answer(x, times[:, None, None, None])


def test_the_true_velocity_has_no_loss() -> None:
    """A point x that left x0 has moved by (x - x0) / t, which is noise - data."""
    model, real = flow(), data()
    loss, losses = model.objective(Heard(lambda x, t: (x - real.images) / t), real)
    assert float(loss) < 1e-6
    assert losses == {"loss": loss}


def test_the_best_constant_leaves_the_variance_of_noise_minus_data() -> None:
    model, real = flow(), data()
    loss, _ = model.objective(Heard(lambda x, t: torch.full_like(x, -real.images.mean())), real)
    assert float(loss) == pytest.approx(1 + float(real.images.var()), rel=0.02)


def test_points_go_from_data_to_standard_normal_noise() -> None:
    model, real = flow(), data()
    heard = Heard(lambda x, t: x)
    model.objective(heard, real)
    t = heard.times[:, None, None, None]
    noise = (heard.x - (1 - t) * real.images) / t
    late = noise[heard.times > 0.3]  # before that, the division makes rounding errors large
    assert float(late.mean()) == pytest.approx(0, abs=0.02)
    assert float(late.std()) == pytest.approx(1, abs=0.02)


def test_classes_are_withheld_in_training_alone() -> None:
    model, real, heard = flow(label_dropout=0.25), data(), Heard(lambda x, t: x)
    model.objective(heard, real)
    withheld = heard.labels == 3
    assert torch.equal(heard.labels[~withheld], real.labels[~withheld])
    assert float(withheld.float().mean()) == pytest.approx(0.25, abs=0.03)
    model.objective(heard.eval(), real)
    assert torch.equal(heard.labels, real.labels)


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_each_of_n_equally_probable_intervals_has_one_time(mean: float) -> None:
    times = flow(time_mean=mean).draw_times(torch.zeros(N, 1))
    uniform = torch.special.ndtr(times.double().logit() - mean)
    within = uniform.sort().values * N - torch.arange(N)  # from 0 to 1, but for rounding
    assert -0.01 < within.min() < 0.1
    assert 0.9 < within.max() < 1.01
    assert not torch.equal(times, times.sort().values)
