"""Whole batches of labelled images, in an order that a resumed run can continue."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from typing_extensions import override

from src.images import Labelled

Batch = tuple[Tensor, Tensor]


class InMemoryDataset(Dataset[Batch]):
    """Labelled images in memory, indexed by whole batches, so that nothing is collated."""

    def __init__(self, data: Labelled) -> None:
        self.images, self.labels = data

    def __len__(self) -> int:
        return len(self.labels)

    @override
    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = torch.tensor(indices)  # converted once, used twice
        # Without waiting for the GPU, where the images may be.
        rows = rows.to(self.labels.device, non_blocking=self.labels.is_cuda)
        return self.images[rows], self.labels[rows]


class ResumableSampler(DistributedSampler[int]):
    """Shuffles by ``(seed, epoch)`` alone, so that a resumed run continues the order it left.

    Lightning leaves a DistributedSampler as it is and calls its ``set_epoch``. ``skip`` samples are
    left out at the start of the next iteration only; the length stays that of a whole epoch, from
    which Lightning, counting the batches before the checkpoint too, finds the last batch.
    """

    def __init__(
        self, dataset: InMemoryDataset, *, num_replicas: int, rank: int, seed: int, skip: int = 0
    ) -> None:
        # Torch adds the epoch: shifted, the epochs of one seed are not those of the next.
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed << 20, drop_last=True)
        self.skip = skip

    @override
    def __iter__(self) -> Iterator[int]:
        skip, self.skip = self.skip, 0
        return islice(super().__iter__(), skip, None)


class ResumableLoader(DataLoader[Batch]):
    """Training batches that a restored trainer continues; see ``ResumableSampler``."""

    @override
    def __iter__(self) -> Any:
        # A generator, so that nothing is drawn before the first batch is asked for: Lightning makes
        # its first iterator before it calls set_epoch, and workers would prefetch the wrong epoch.
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: Lightning's counters say where to go on; this tells it that we can."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load nothing; see ``state_dict``."""


def as_is(batch: Batch) -> Batch:
    """Return what the dataset gives: it is a whole batch already."""
    return batch
