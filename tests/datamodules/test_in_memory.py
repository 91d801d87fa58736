"""Splits, order, sharding, scaling and the refusal of settings that do not fit."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from src.datamodules.batches import InMemoryDataset, ResumableSampler
from src.datamodules.data_set import DataSet
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from src.images import Labelled
from tests.toys import assert_says

DEFAULTS = {
    "batch_size": 8,
    "train_val_test_split": [90, 10, 20],
    "img_size": 4,
    "seed": 0,
}


def numbered(count: int) -> Labelled:
    """Pictures whose every pixel is their number."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return Labelled(images.contiguous(), torch.arange(count) % 10)


class Numbered(DataSet):
    name, channels, n_classes, size = "numbered", 1, 10, 4

    def __init__(self, **says: Any) -> None:
        self.__dict__.update(says)
        self.loads = 0

    def load(self) -> tuple[Labelled, Labelled]:
        self.loads += 1
        return numbered(100), numbered(20)


def module(says: dict[str, Any] | None = None, **options: Any) -> InMemoryDataModule:
    return InMemoryDataModule(dataset=Numbered(**says or {}), **{**DEFAULTS, **options})


def build(**options: Any) -> InMemoryDataModule:
    data = module(**options)
    data.setup("fit")
    return data


def numbers(dataset: InMemoryDataset) -> list[int]:
    return dataset.images[:, 0, 0, 0].tolist()


def epoch_of(data: InMemoryDataModule, epoch: int) -> list[int]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [int(number) for images, _ in loader for number in images[:, 0, 0, 0]]


def on_device(
    data: InMemoryDataModule, rank: int, world_size: int, device: str = "cpu"
) -> InMemoryDataModule:
    data.trainer = SimpleNamespace(
        world_size=world_size,
        global_rank=rank,
        fit_loop=SimpleNamespace(restarting=False),
        strategy=SimpleNamespace(root_device=torch.device(device)),
    )
    return data


def test_train_and_val_divide_official_train_and_test_stays() -> None:
    data = build()
    assert sorted(numbers(data.train_set) + numbers(data.val_set)) == list(range(100))
    assert len(data.val_set) == 10
    assert numbers(data.test_set) == list(range(20))
    assert numbers(data.val_set) != list(range(90, 100))  # drawn, not cut off the end


def test_images_keep_their_labels() -> None:
    data = build()
    for dataset in (data.train_set, data.val_set, data.test_set):
        assert [number % 10 for number in numbers(dataset)] == dataset.labels.tolist()


def test_the_split_depends_on_its_own_seed_alone() -> None:
    torch.manual_seed(1)
    reference = numbers(build(seed=1).val_set)
    torch.manual_seed(2)
    assert numbers(build(seed=2).val_set) == reference
    assert numbers(build(split_seed=1).val_set) != reference


def test_setup_loads_once() -> None:
    data = build()
    train_set = data.train_set
    data.setup("test")
    assert data.dataset.loads == 1
    assert data.train_set is train_set


def test_an_epoch_visits_each_image_at_most_once_in_whole_batches() -> None:
    data = build()
    seen = epoch_of(data, 0)
    assert len(seen) == 88 == len(data.train_dataloader()) * 8  # 90 images, 8 a batch
    assert len(set(seen)) == 88
    assert set(seen) <= set(numbers(data.train_set))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    torch.manual_seed(1)
    reference = epoch_of(build(), 3)
    torch.manual_seed(2)
    assert epoch_of(build(), 3) == reference
    assert epoch_of(build(), 4) != reference
    assert epoch_of(build(seed=9), 3) != reference


def test_two_devices_share_an_epoch_without_overlap() -> None:
    shards = [[epoch_of(on_device(build(), rank, 2), epoch) for rank in (0, 1)] for epoch in (0, 1)]
    for first, second in shards:
        assert len(first) == len(second) == 40  # 45 images each, 8 a batch
        assert not set(first) & set(second)
    assert set(shards[0][0]) != set(shards[1][0])


def test_training_images_are_on_the_trainers_device_and_the_parts_stay() -> None:
    data = on_device(build(), 0, 1, device="meta")
    assert {image.device.type for batch in data.train_dataloader() for image in batch} == {"meta"}
    assert data.parts["train"].images.device.type == "cpu"


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"pin_memory": True}])
def test_workers_and_pinned_memory_leave_the_images_where_they_are(options: dict[str, Any]) -> None:
    data = on_device(build(**options), 0, 1, device="meta")
    assert data.train_dataloader().dataset.images is data.train_set.images


def test_on_a_cpu_the_images_are_not_copied() -> None:
    data = on_device(build(), 0, 1)
    assert data.train_dataloader().dataset.images is data.train_set.images


def test_skipping_leaves_out_the_start_of_one_iteration_only() -> None:
    dataset = InMemoryDataset(numbered(10))
    whole = list(ResumableSampler(dataset, num_replicas=1, rank=0, seed=0))
    sampler = ResumableSampler(dataset, num_replicas=1, rank=0, seed=0, skip=4)
    assert len(sampler) == 10
    assert list(sampler) == whole[4:]
    assert list(sampler) == whole


def one_sided(**says: Any) -> InMemoryDataModule:
    """Pictures with their number in the left half, as training, validation and test images."""
    data = build(says=says)
    for part in (data.train_set, data.val_set, data.test_set):
        part.images[..., 2:] = 255
    return data


def columns(data: InMemoryDataModule, epoch: int) -> list[tuple[int, int]]:
    """The first and the last pixel of each training image in an epoch."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [tuple(image[0, 0, [0, -1]].tolist()) for images, _ in loader for image in images]


def test_about_half_of_an_epoch_comes_mirrored_and_none_unless_the_data_say_so() -> None:
    plain, both = (columns(one_sided(flip=flip), epoch=2) for flip in (False, True))
    assert all(last == 255 for _, last in plain)
    is_mirrored = [first == 255 for first, _ in both]
    assert 0.3 < sum(is_mirrored) / len(both) < 0.7
    assert [min(pair) for pair in both] == [min(pair) for pair in plain]  # the order is the same


def test_mirroring_is_a_function_of_seed_and_epoch() -> None:
    torch.manual_seed(1)
    reference = columns(one_sided(flip=True), epoch=2)
    torch.manual_seed(2)
    assert columns(one_sided(flip=True), epoch=2) == reference
    turned = {min(pair): pair for pair in columns(one_sided(flip=True), epoch=3)}
    assert any(turned.get(min(pair), pair) != pair for pair in reference)


def test_two_devices_share_what_comes_mirrored() -> None:
    datas = [on_device(one_sided(flip=True), rank, 2) for rank in (0, 1)]
    shares = [pair for data in datas for pair in columns(data, epoch=0)]
    alone = {min(pair): pair for pair in columns(one_sided(flip=True), epoch=0)}
    assert all(alone.get(min(pair), pair) == pair for pair in shares)


def test_evaluation_never_sees_a_mirror_image() -> None:
    data = one_sided(flip=True)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert all(int(image[0, 0, -1]) == 255 for images, _ in loader for image in images)


def test_evaluation_loaders_are_complete_and_in_order() -> None:
    data = build()
    for loader, dataset in (
        (data.val_dataloader(), data.val_set),
        (data.test_dataloader(), data.test_set),
    ):
        images = torch.cat([images for images, _ in loader])
        labels = torch.cat([labels for _, labels in loader])
        assert torch.equal(images, dataset.images)
        assert torch.equal(labels, dataset.labels)


def test_batches_are_uint8_until_they_are_on_the_device() -> None:
    data = build()
    batch = next(iter(data.train_dataloader()))
    assert batch[0].dtype == torch.uint8
    images, labels = data.on_after_batch_transfer(batch, 0)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, batch[0] / 127.5 - 1)
    assert labels is batch[1]


def test_one_item_is_the_row_of_a_batch() -> None:
    dataset = InMemoryDataset(numbered(10))
    images, labels = dataset.__getitems__([7, 2])
    assert torch.equal(images[1], dataset[2][0])
    assert labels.tolist() == [7, 2]


@pytest.mark.parametrize("size", [32, 16])
def test_resizing_is_antialiased_and_stays_uint8(size: int) -> None:
    images = torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8)
    data = module(img_size=size)
    resized = data.resize(Labelled(images, torch.zeros(5))).images
    expected = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    assert resized.dtype == torch.uint8
    torch.testing.assert_close(resized.float(), expected, atol=1.0, rtol=0)


def test_native_size_is_not_resampled() -> None:
    data = numbered(3)
    assert module().resize(data) is data


SIZES = "datamodule.train_val_test_split"
REFUSED = [
    ({"batch_size": 0}, ["datamodule.batch_size=0", "type datamodule.batch_size=1 or more"]),
    ({"num_workers": 257}, ["datamodule.num_workers=257", "type datamodule.num_workers=256 or"]),
    ({"num_workers": -1}, ["datamodule.num_workers=-1", "type datamodule.num_workers=0 or more"]),
    ({"img_size": 0}, ["model.img_size=0", "type model.img_size=1 or more"]),
    ({"train_val_test_split": [90, 10]}, [f"{SIZES}=[90, 10]", f"type {SIZES}=[TRAIN,VAL,TEST]"]),
    (
        {"train_val_test_split": [100, 0, 20]},
        [f"{SIZES}=[100, 0, 20]", "at least 1", f"type {SIZES}=[TRAIN,VAL,TEST]"],
    ),
    (
        {"batch_size": 91},
        ["datamodule.batch_size=91", "90 training images", "type datamodule.batch_size=90 or"],
    ),
    (
        {"train_val_test_split": [80, 10, 20]},
        [f"{SIZES}=[80,10,20]", "100 training and 20 test images", f"as in {SIZES}=[90,10,20]"],
    ),
    (
        {"train_val_test_split": [80, 20, 19]},
        [f"{SIZES}=[80,20,19]", "100 training and 20 test images", f"as in {SIZES}=[90,10,20]"],
    ),
    ({"says": {"channels": 3}}, ["numbered", "3 channels", "have 1", "channels = 1"]),
    ({"says": {"n_classes": 5}}, ["numbered", "5 classes", "up to 9", "n_classes = 10"]),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(InputError) as refusal:
        build(**options)
    assert_says(refusal.value, *said)


def test_a_batch_may_be_larger_than_the_parts_that_are_only_looked_at() -> None:
    data = build(batch_size=40)  # of 90, 10 and 20
    assert [len(labels) for _, labels in data.val_dataloader()] == [10]
    assert [len(labels) for _, labels in data.test_dataloader()] == [20]


def test_a_batch_on_every_device_must_fit_into_train() -> None:
    data = on_device(module(batch_size=10), rank=0, world_size=10)
    with pytest.raises(InputError) as refusal:
        data.setup("fit")
    assert_says(refusal.value, "datamodule.batch_size=10 on 10 devices", "90 training images")
    assert_says(refusal.value, "type datamodule.batch_size=9 or less")


def test_classes_without_a_training_image_are_named(caplog: pytest.LogCaptureFixture) -> None:
    build(says={"n_classes": 12})
    assert "no training image of numbered is of class 10, 11" in caplog.text


def test_going_on_with_other_images_is_said(caplog: pytest.LogCaptureFixture) -> None:
    build().load_state_dict(build(seed=1).state_dict())
    assert not caplog.messages
    build(split_seed=1).load_state_dict(build().state_dict())
    assert "other images, of numbered, than today's training part of numbered" in caplog.text
