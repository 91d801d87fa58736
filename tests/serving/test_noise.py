"""Seeds mean the same with torch and without it."""

import numpy as np
import pytest
import torch

from src.serving.noise import Normal


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1, 2**32 + 7])
@pytest.mark.parametrize("sizes", [(16,), (64, 64), (17,), (1_000, 31), (1, 2, 3), (15, 100, 7)])
def test_the_numbers_are_those_of_torch(seed: int, sizes: tuple[int, ...]) -> None:
    ours, theirs = Normal(seed), torch.Generator().manual_seed(seed)
    for size in sizes:
        drawn = torch.randn(size, generator=theirs).numpy()
        np.testing.assert_allclose(ours.draw(size), drawn, atol=5e-7, rtol=5e-6)
