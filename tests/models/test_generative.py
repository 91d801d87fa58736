"""Another family of models lives beside the project: one module and one YAML file, no edit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from src.errors import InputError
from src.generate import load_model
from src.images import to_float
from tests.toys import BARS, finish, start

MODULE = '''
"""Images as independent pixels, each normal around the mean image of its class."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from src.images import Labelled
from src.models.generative import GenerativeModel, Losses
from src.models.schedules import Schedule


class Normal(nn.Module):
    def __init__(self, *, n_classes: int, channels: int, img_size: int) -> None:
        super().__init__()
        self.shape = channels, img_size, img_size
        n_pixels = channels * img_size**2
        # Embeddings, for the backward pass of weight[labels] adds in any order on several threads.
        self.mean, self.log_std = (nn.Embedding(n_classes, n_pixels) for _ in range(2))
        nn.init.zeros_(self.mean.weight), nn.init.zeros_(self.log_std.weight)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        images = self.mean(labels) + noise.flatten(1) * self.log_std(labels).exp()
        return images.unflatten(1, self.shape)

    def nll(self, images: Tensor, labels: Tensor) -> Tensor:
        gap, log_std = images.flatten(1) - self.mean(labels), self.log_std(labels)
        return (gap**2 / (2 * (2 * log_std).exp()) + log_std).mean()


class Pixels(GenerativeModel):
    loss_names = {"nll": "negative log-likelihood"}
    optimizer_names = ("pixels",)

    def __init__(
        self,
        *,
        network: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        n_classes: int,
        schedules: Mapping[str, Schedule] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_classes=n_classes, noise_shape=network.shape, schedules=schedules, seed=seed
        )
        self.network, self.make_optimizer = network, optimizer

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.network.parameters())

    def learn(self, real: Labelled, *, completes_step: bool) -> Losses:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.network.nll(*real)
        self.manual_backward(loss)
        optimizer.step()
        return {"nll": loss.detach()}

    def evaluate(self, real: Labelled) -> Losses:
        return {"nll": self.network.nll(*real)}

    @property
    def sampler(self) -> nn.Module:
        return self.network
'''
YAML = """
_target_: pixels.Pixels
lr: 0.05
n_classes: null
channels: null
img_size: null
network:
  _target_: pixels.Normal
  n_classes: ${..n_classes}
  channels: ${..channels}
  img_size: ${..img_size}
optimizer:
  _target_: torch.optim.Adam
  _partial_: true
  lr: ${..lr}
"""


class Shell:
    """``python run.py`` of the project, in a folder that holds a family of its own."""

    def __init__(self, folder: Path, data_dir: Path) -> None:
        self.folder, self.always = folder, ["--config-dir", "extra", f"data_dir={data_dir}"]
        (folder / "extra" / "model").mkdir(parents=True)
        (folder / "pixels.py").write_text(MODULE)
        (folder / "extra" / "model" / "pixels.yaml").write_text(YAML)

    def run(self, *arguments: str, code: int = 0) -> str:
        return finish(start([*self.always, *arguments], self.folder, threads="2"), code=code)

    def weights(self, run: str) -> dict[str, torch.Tensor]:
        path = self.folder / run / "checkpoints" / "last.ckpt"
        return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_a_family_outside_the_project_trains_resumes_generates_and_is_judged(
    tmp_path: Path, judged_data: Path
) -> None:
    shell = Shell(tmp_path, judged_data)
    options = [
        *BARS, "model=pixels", "trainer.max_epochs=3", "callbacks.quality.n=700", "logger=csv"
    ]  # fmt: skip
    shell.run(*options, "hydra.run.dir=whole")
    shell.run(*options, "trainer.max_steps=35", "hydra.run.dir=cut")
    shell.run("resume=cut", "trainer.max_steps=-1")
    whole, cut = shell.weights("whole"), shell.weights("cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())
    header = (tmp_path / "whole" / "metrics.csv").read_text().splitlines()[0]
    assert {"train/nll", "val/nll", "test/nll", "lr/pixels", "val/fid_cnn"} <= {*header.split(",")}

    shell.run("task=generate", "model=pixels", "ckpt=whole", "labels=3", "hydra.run.dir=made")
    images = np.load(tmp_path / "made" / "samples.npz")["images"]
    noise = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(12345))
    mean, log_std = whole["network.mean.weight"][3], whole["network.log_std.weight"][3]
    expected = (mean + noise.flatten(1) * log_std.exp()).clamp(-1, 1).view_as(noise)
    torch.testing.assert_close(to_float(torch.from_numpy(images)), expected, atol=0.01, rtol=0)

    shell.run("task=evaluate", "model=pixels", "n=65", "cas_seeds=0", "ckpt=whole")
    table = shell.run("task=compare", "runs=[whole,cut]")
    assert all(word in table for word in ("whole", "cut", "fid_cnn, to test", "coverage"))
    with pytest.raises(InputError, match=r"names pixels\.Pixels.* type model=NAME"):
        load_model(tmp_path / "whole" / "checkpoints" / "last.ckpt")
