"""What of benchmarks/gpu.py does not need a GPU."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from benchmarks import gpu
from src.configuration.build import build_datamodule, build_model
from src.configuration.prepare import compose_in
from tests.toys import BATCH, LATENT, batches, make_gan


def test_flops_of_a_step_are_those_of_its_matrix_products() -> None:
    """Each is as much again for its weights' gradients and for its inputs'."""
    painter, critic = 2 * (LATENT + 2) * 4, 2 * (6 * 5 + 5 * 1)  # per image
    discriminator_step = BATCH * painter + 2 * BATCH * 3 * critic
    generator_step = BATCH * 2 * critic + BATCH * 2 * painter  # the critic's weights are frozen
    counted = gpu.count_flops(
        make_gan(), DataLoader(batches(1), batch_size=None), accelerator="cpu"
    )
    assert counted == discriminator_step + generator_step


@pytest.mark.slow
def test_flops_of_the_usual_pair_grow_with_the_batch(tmp_path: Path) -> None:
    def count(*overrides: str) -> int:
        cfg = compose_in(tmp_path, *gpu.USUAL[:-1], "datamodule=synthetic", *overrides)
        return gpu.count_flops(build_model(cfg), build_datamodule(cfg), accelerator="cpu")

    small, large = count("datamodule.batch_size=4"), count("datamodule.batch_size=8")
    assert large == pytest.approx(2 * small, rel=0.01)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="needs a CUDA GPU, and this machine has none"):
        gpu.main()
