"""Whole batches of labelled images, in an order that a resumed run can continue."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from typing_extensions import override

from src.images import Labelled, mirrored

Batch = tuple[Tensor, Tensor]


class InMemoryDataset(Dataset[Batch]):
    """Labelled images in memory, indexed by whole batches, so that nothing is collated.

    Indices from N to below 2 N mean the same N images, mirrored left to right.
    """

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
        mirrors = max(indices) >= len(self)
        places = rows % len(self) if mirrors else rows
        images = self.images[places]
        if mirrors:
            images = mirrored(images, rows >= len(self))
        return images, self.labels[places]


class ResumableSampler(DistributedSampler[int]):
    """Shuffles by ``(seed, epoch)`` alone, so that a resumed run continues the order it left.

    Lightning leaves a DistributedSampler as it is and calls its ``set_epoch``. ``skip`` samples are
    left out at the start of the next iteration only; the length stays that of a whole epoch, from
    which Lightning, counting the batches before the checkpoint too, finds the last batch. With
    ``flip`` half of the images of an epoch come mirrored, which ``(seed, epoch)`` tells too.
    """

    def __init__(
        self,
        dataset: InMemoryDataset,
        *,
        num_replicas: int,
        rank: int,
        seed: int,
        skip: int = 0,
        flip: bool = False,
    ) -> None:
        # Torch adds the epoch: shifted, the epochs of one seed are not those of the next.
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed << 20, drop_last=True)
        self.skip, self.flip, self.n_images = skip, flip, len(dataset)

    @override
    def __iter__(self) -> Iterator[int]:
        skip, self.skip = self.skip, 0
        indices = super().__iter__()
        return islice(self.mirrored(indices) if self.flip else indices, skip, None)

    def mirrored(self, indices: Iterator[int]) -> Iterator[int]:
        """Add the number of images to the indices of those that come mirrored in this epoch."""
        # Not the seed of the order, whose random numbers would then decide both.
        generator = torch.Generator().manual_seed(self.seed + self.epoch + (1 << 19))
        shifts = (self.n_images * torch.randint(2, (self.n_images,), generator=generator)).tolist()
        return (index + shifts[index] for index in indices)


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
