"""Labelled images held in memory as uint8, split once and handed out in whole batches."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from typing_extensions import override

from src.datamodules.batches import Batch, InMemoryDataset, ResumableLoader, ResumableSampler, as_is
from src.datamodules.data_set import DataSet
from src.errors import InputError
from src.images import Labelled, to_float
from src.metrics.cache import md5_of_data
from src.metrics.evaluation import Evaluation, RealData

log = logging.getLogger(__name__)
MOST_WORKERS = 256


class InMemoryDataModule(pl.LightningDataModule):
    """Splits, resizes and serves the pictures of a data set."""

    train_set: InMemoryDataset
    val_set: InMemoryDataset
    test_set: InMemoryDataset

    def __init__(
        self,
        *,
        dataset: DataSet,
        batch_size: int = 64,
        train_val_test_split: Sequence[int],
        img_size: int,
        seed: int,
        split_seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """``seed`` orders the training batches; ``split_seed`` alone divides train from val.

        ``train_val_test_split`` is empty only for data that say their ``sizes`` themselves.
        """
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.train_val_test_split = tuple(train_val_test_split or dataset.sizes or ())
        self.img_size = img_size
        self.seed = seed
        self.split_seed = split_seed
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.is_prepared = self.is_set_up = False
        self.check_arguments()

    @property
    def parts(self) -> dict[str, Labelled]:
        """Whole uint8 images and labels of "train", "val" and "test", after ``setup``."""
        sets = {"train": self.train_set, "val": self.val_set, "test": self.test_set}
        return {name: Labelled(part.images, part.labels) for name, part in sets.items()}

    def evaluation(self, *, data_dir: Path, device: str) -> Evaluation:
        """The data set's way of judging images, after ``setup``; judges are in ``data_dir``."""
        dataset = self.dataset
        real = RealData(
            name=dataset.name,
            channels=dataset.channels,
            class_names=dataset.class_names,
            flip=dataset.flip,
            typed=dataset.typed,
            **self.parts,
        )
        return dataset.evaluation(real, data_dir=data_dir, device=device)

    @override
    def prepare_data(self) -> None:
        if self.is_prepared:  # Lightning calls this once for fit and again for test
            return
        self.dataset.prepare()
        self.is_prepared = True

    @override
    def setup(self, stage: str) -> None:
        if self.is_set_up:  # Lightning calls this once for fit and again for test
            return
        official_train, official_test = self.dataset.load()
        self.check_data(official_train, official_test)
        train, val = self.divide(self.resize(official_train))
        self.train_set, self.val_set = InMemoryDataset(train), InMemoryDataset(val)
        self.test_set = InMemoryDataset(self.resize(official_test))
        self.is_set_up = True

    @cached_property
    def md5_of_train(self) -> str:
        """Hash of the training part, after ``setup``."""
        return md5_of_data(self.parts["train"])

    @override
    def state_dict(self) -> dict[str, Any]:
        """What Lightning puts into a checkpoint: which images were trained on."""
        return {"data": self.dataset.name, "trained_on": self.md5_of_train}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Say so, where a checkpoint was trained on other images than today's training part."""
        if state_dict["trained_on"] != self.md5_of_train:
            log.warning(
                "the checkpoint was trained on other images, of %s, than today's training part of "
                "%s: some of the validation and test images may be among them",
                state_dict["data"], self.dataset.name,
            )  # fmt: skip

    def divide(self, data: Labelled) -> tuple[Labelled, Labelled]:
        """Divide the official train set into train and val, in the data set's own order."""
        n_images, n_train = len(data.labels), self.train_val_test_split[0]
        order = self.dataset.order(n_images, seed=self.split_seed)
        if torch.equal(order, torch.arange(n_images)):  # as they lie, without a copy
            return data.take(slice(n_train)), data.take(slice(n_train, None))
        train, val = order.tensor_split([n_train])
        return data.take(train), data.take(val)

    def resize(self, data: Labelled) -> Labelled:
        """The data with images of side ``img_size``, still uint8."""
        size = (self.img_size, self.img_size)
        if data.images.shape[-2:] == size:
            return data
        images = F.interpolate(data.images, size=size, mode="bilinear", antialias=True)
        return data._replace(images=images)

    @override
    def train_dataloader(self) -> ResumableLoader:
        replicas, rank = self.replicas_and_rank()
        sampler = ResumableSampler(
            self.train_set,
            num_replicas=replicas,
            rank=rank,
            seed=self.seed,
            skip=self.batches_done() * self.batch_size,
            flip=self.dataset.flip,
        )
        train_set = InMemoryDataset(self.resident(self.parts["train"]))
        return ResumableLoader(train_set, sampler=sampler, drop_last=True, **self.options())

    @override
    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.val_set, **self.options())

    @override
    def test_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.test_set, **self.options())

    def options(self) -> dict[str, Any]:
        """Arguments that all three data loaders share."""
        return {
            "batch_size": self.batch_size,
            "collate_fn": as_is,
            "num_workers": self.num_workers,
            "pin_memory": self.pin_memory,
            # Every iterator draws a seed for its workers; from the global stream, the draw would
            # shift a resumed run's noise.
            "generator": torch.Generator(),
        }

    @override
    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch to ``device`` as Lightning does, without searching it for tensors."""
        images, labels = batch
        return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)

    @override
    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scale images to [-1, 1] on the device: until then, uint8 is a quarter of the bytes."""
        images, labels = batch
        return to_float(images), labels

    def resident(self, data: Labelled) -> Labelled:
        """The data on the trainer's device, unless workers or pinned memory bring batches there."""
        if self.trainer is None or self.num_workers or self.pin_memory:
            return data
        device = self.trainer.strategy.root_device
        return Labelled(data.images.to(device), data.labels.to(device))

    def replicas_and_rank(self) -> tuple[int, int]:
        """Number of devices that share an epoch, and this one's rank; (1, 0) without a trainer."""
        if self.trainer is None:
            return 1, 0
        return self.trainer.world_size, self.trainer.global_rank

    def batches_done(self) -> int:
        """Batches of the current epoch that a restored trainer has already trained on.

        ``processed`` counts finished steps whenever the checkpoint was saved: ``completed`` is one
        behind inside ``on_train_batch_end``, ``ready`` one ahead when a step is interrupted.
        """
        if self.trainer is None or not self.trainer.fit_loop.restarting:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        count: int = progress.current.processed
        epoch_is_over = progress.is_last_batch and count == progress.current.ready
        return 0 if epoch_is_over else count

    def check_arguments(self) -> None:
        """Refuse what is wrong whatever the data, before anything is downloaded."""
        require_at_least(1, "datamodule.batch_size", self.batch_size)
        require_at_least(1, "model.img_size", self.img_size)
        require_at_least(0, "datamodule.num_workers", self.num_workers)
        if self.num_workers > MOST_WORKERS:
            raise InputError(
                f"datamodule.num_workers={self.num_workers} would start as many processes: type "
                f"datamodule.num_workers={MOST_WORKERS} or less; 0 is fastest, as the images are "
                "in memory"
            )
        split = self.train_val_test_split
        if len(split) != 3 or min(split) < 1:
            raise InputError(
                f"datamodule.train_val_test_split={list(split)} must be three sizes of at least 1:"
                " type datamodule.train_val_test_split=[TRAIN,VAL,TEST]"
            )
        if self.batch_size > split[0]:
            raise InputError(
                f"datamodule.batch_size={self.batch_size} is more than the {split[0]} training"
                f" images: type datamodule.batch_size={split[0]} or less"
            )

    def check_data(self, train: Labelled, test: Labelled) -> None:
        """Refuse settings that do not fit the loaded data, and data that are not as they say."""
        self.check_split(len(train.labels), len(test.labels))
        channels = train.images.shape[1]
        if channels != self.dataset.channels:
            raise InputError(
                f"{self.dataset.name} says that it has {self.dataset.channels} channels, but its"
                f" images have {channels}: give its class channels = {channels}"
            )
        largest = int(max(train.labels.max(), test.labels.max()))
        if largest >= self.dataset.n_classes:
            raise InputError(
                f"{self.dataset.name} says that it has {self.dataset.n_classes} classes, but its"
                f" labels go up to {largest}: give its class n_classes = {largest + 1}"
            )
        counts = torch.bincount(train.labels, minlength=self.dataset.n_classes)
        if missing := (counts == 0).nonzero().flatten().tolist():
            names = ", ".join(self.dataset.class_names[label] for label in missing)
            log.warning(f"no training image of {self.dataset.name} is of class {names}")

    def check_split(self, train_size: int, test_size: int) -> None:
        """Refuse splits that cut the official test set or leave some of the official train set."""
        train, val, test = self.train_val_test_split
        if train + val != train_size or test != test_size:
            raise InputError(
                f"datamodule.train_val_test_split=[{train},{val},{test}] does not fit the"
                f" {train_size} training and {test_size} test images: the first two must sum to"
                f" {train_size} and the third be {test_size}, as in"
                f" datamodule.train_val_test_split=[{train_size - test_size // 2},"
                f"{test_size // 2},{test_size}]"
            )
        replicas, _ = self.replicas_and_rank()
        if self.batch_size * replicas > train:
            raise InputError(
                f"datamodule.batch_size={self.batch_size} on {replicas} devices is more than the"
                f" {train} training images: type datamodule.batch_size={train // replicas} or less"
            )


def require_at_least(least: int, name: str, value: int) -> None:
    """Refuse a ``value`` below ``least`` of the setting called ``name``."""
    if value < least:
        raise InputError(f"{name}={value} must be at least {least}: type {name}={least} or more")
