from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As in training: sums over several threads may add up in any order."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)
