"""A folder of pictures is a data set: classes, parts, a cache, and sentences for what is wrong."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.datamodules import picture_cache
from src.datamodules.image_folder import ImageFolder
from src.datamodules.in_memory import InMemoryDataModule
from src.errors import InputError
from tests.toys import assert_says

SIZE = 4


def paint(path: Path, shade: int, *, size: int = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), shade, dtype=np.uint8)).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Ten cats in shades below 100, twenty dogs from 100 on."""
    for i in range(10):
        paint(tmp_path / "pets" / "cat" / f"{i:02}.png", i)
    for i in range(20):
        paint(tmp_path / "pets" / "dog" / f"{i:02}.png", 100 + i)
    return tmp_path / "pets"


def read(root: Path, **options: Any) -> ImageFolder:
    data_dir = str(root.parent / "data")
    return ImageFolder(**{"data": str(root), "data_dir": data_dir, "size": SIZE} | options)


def shades(data: ImageFolder) -> dict[str, dict[int, set[int]]]:
    """The shades of each class in each part, as training would get them."""
    module = InMemoryDataModule(
        dataset=data, batch_size=1, train_val_test_split=[], img_size=SIZE, seed=0
    )
    module.setup("fit")
    return {
        part: {
            label: set(images[labels == label][:, 0, 0, 0].tolist())
            for label in range(data.n_classes)
        }
        for part, (images, labels) in module.parts.items()
    }


def test_classes_are_called_as_their_folders_and_each_is_divided(pets: Path) -> None:
    data = read(pets)
    assert data.class_names == ["cat", "dog"]
    assert (data.n_classes, data.channels, data.size, data.flip) == (2, 3, SIZE, True)
    assert data.sizes == [24, 3, 3]
    found = shades(data)
    assert {part: [len(s) for s in found[part].values()] for part in found} == {
        "train": [8, 16], "val": [1, 2], "test": [1, 2],
    }  # fmt: skip
    for label, whole in {0: set(range(10)), 1: set(range(100, 120))}.items():
        assert set.union(*(found[part][label] for part in found)) == whole


def test_its_own_seed_divides_it(pets: Path) -> None:
    torch.manual_seed(1)
    reference = shades(read(pets))
    torch.manual_seed(2)
    assert shades(read(pets)) == reference
    assert shades(read(pets, seed=1)) != reference
    assert read(pets, val_share=0.3, test_share=0.4).sizes == [9, 9, 12]


def test_folders_of_parts_are_kept_and_missing_ones_are_drawn(tmp_path: Path) -> None:
    for part, start in {"train": 0, "test": 50}.items():
        for i in range(10):
            paint(tmp_path / "x" / part / "cat" / f"{i}.png", start + i)
            paint(tmp_path / "x" / part / "dog" / f"{i}.png", 100 + start + i)
    found = shades(read(tmp_path / "x"))
    assert found["test"] == {0: set(range(50, 60)), 1: set(range(150, 160))}
    assert found["train"][0] | found["val"][0] == set(range(10))
    assert [len(found["val"][label]) for label in (0, 1)] == [1, 1]


def test_pictures_without_labels_are_one_class(tmp_path: Path) -> None:
    for i in range(10):
        paint(tmp_path / "flowers" / f"{i}.png", i)
    data = read(tmp_path / "flowers")
    assert (data.n_classes, data.class_names) == (1, ["flowers"])
    assert data.sizes == [8, 1, 1]


def test_grey_is_three_equal_channels_unless_one_is_asked_for(tmp_path: Path) -> None:
    for i in range(4):
        path = tmp_path / "grey" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (9, 6), 60 + i).save(path)
    for channels in (3, 1):
        train, _ = read(tmp_path / "grey", channels=channels).load()
        assert train.images.shape[1:] == (channels, SIZE, SIZE)
        assert torch.equal(train.images, train.images[:, :1].expand_as(train.images))


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded."""
    names: list[str] = []
    decode = picture_cache.read_picture

    def spy(path: Path, **options: Any) -> Any:
        names.append(path.name)
        return decode(path, **options)

    monkeypatch.setattr(picture_cache, "read_picture", spy)
    return names


def cached(root: Path) -> list[str]:
    return sorted(path.name for path in (root.parent / "data" / "image_folders").iterdir())


def test_an_unchanged_folder_is_decoded_once_and_a_changed_one_again(
    pets: Path, decodings: list[str]
) -> None:
    before = read(pets)
    assert len(decodings) == 30
    again = read(pets)
    assert len(decodings) == 30
    assert torch.equal(again.pictures.images, before.pictures.images)
    (pets / ".DS_Store").touch()
    os.utime(pets / "cat" / "00.png")
    assert read(pets).name == before.name
    assert len(decodings) == 30
    paint(pets / "cat" / "00.png", 77)
    changed = read(pets)
    assert len(decodings) == 60
    assert changed.name != before.name
    assert changed.pictures.images[0, 0, 0, 0] == 77
    assert len(cached(pets)) == 4  # a lock, hashes, pixels, their record: the former ones are gone


def test_an_unchanged_file_is_not_hashed_again(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    digest_of = picture_cache.digest_of

    def spy(path: Path) -> str:
        hashed.append(path.name)
        return digest_of(path)

    monkeypatch.setattr(picture_cache, "digest_of", spy)
    (pets / "cat" / "no_picture.png").write_bytes(b"no picture")
    name = read(pets).name
    assert len(hashed) == 31
    paint(pets / "dog" / "00.png", 78)
    assert read(pets).name != name
    assert hashed[31:] == ["00.png"]
    (record,) = (pets.parent / "data" / "image_folders").glob("*.digests")
    record.write_text('{"cat/00.png": 3, "cat/01.png": {"a": 1, "b": 2, "c": 3, "d": 4}}')
    read(pets)
    assert len(hashed) == 63
    read(pets)
    assert len(hashed) == 63


def test_another_size_has_a_cache_of_its_own(pets: Path, decodings: list[str]) -> None:
    for size in (4, 8, 4, 8):
        assert read(pets, size=size).pictures.shape == (30, 3, size, size)
    assert len(decodings) == 60


def test_strays_and_another_place_leave_its_judges_alone(pets: Path) -> None:
    name = read(pets).name
    (pets / "cat" / "Thumbs.db").write_bytes(b"no picture")
    (pets.parent / "new").mkdir()
    assert read(pets.rename(pets.parent / "new" / "pets")).name == name
    paint(pets.parent / "new" / "pets" / "cat" / "one.png", 50)
    assert read(pets.parent / "new" / "pets").name != name


def test_it_says_what_is_typed_to_have_it(pets: Path) -> None:
    typed = f"datamodule=image_folder data={pets} model.img_size=4"
    assert read(pets).typed == typed
    assert read(pets, channels=1).typed == f"{typed} datamodule.dataset.channels=1"
    assert read(pets, flip=False).typed == f"{typed} datamodule.dataset.flip=false"


def test_a_moved_folder_is_known_by_what_is_in_it(pets: Path, decodings: list[str]) -> None:
    read(pets)
    moved = pets.rename(pets.with_name("animals"))
    assert read(moved).name.startswith("animals-")
    assert len(decodings) == 30


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("suffix", [".json", ".images"])
def test_a_damaged_cache_is_made_again(
    pets: Path, decodings: list[str], damage: Callable[[Path], None], suffix: str
) -> None:
    images = read(pets).pictures.images.clone()
    (path,) = (pets.parent / "data" / "image_folders").glob(f"*{suffix}")
    damage(path)
    path.with_name("crashed.partial").touch()
    assert torch.equal(read(pets).pictures.images, images)
    assert len(decodings) == 60
    assert len(cached(pets)) == 4


def test_two_at_once_decode_once(pets: Path, decodings: list[str]) -> None:
    found: list[torch.Tensor] = []
    threads = [Thread(target=lambda: found.append(read(pets).pictures.images)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decodings) == 30
    assert all(torch.equal(images, found[0]) for images in found)


def test_bad_files_are_skipped_in_one_line(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "src.datamodules")
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pets / "dog" / "cut.png")
    whole = (pets / "dog" / "cut.png").read_bytes()
    for name, content in {
        "cat/empty.png": b"", "cat/page.png": b"<html>", "dog/page.jpg": b"<html>",
        "dog/cut.png": whole[:5_000], "dog/.DS_Store": b"x", "notes.txt": b"x",
        "dog/caf\udce9.png": b"<html>",
    }.items():  # fmt: skip
        (pets / name).write_bytes(content)
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        data = read(pets)
        data.prepare()
        first, second = caplog.messages
        assert_says(
            first,
            str(pets),
            "30 pictures of 2 classes (cat, dog)",
            "3 x 4 x 4",
            str(data.pictures.path),
        )
        names = r"cat/page.png, dog/caf\udce9.png, dog/page.jpg"
        assert_says(second, f"7 files are skipped: 3 not an image ({names})")
        assert_says(
            second, "1 empty (cat/empty.png)", "1 hidden", "in no class's folder (notes.txt)"
        )
    assert data.sizes == [24, 3, 3]


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"data": None}, ["needs a folder of pictures: type data=PATH"]),
    ({"data": "/nowhere"}, ["data=/nowhere is no folder", "type data=PATH"]),
    ({"val_share": 0.6, "test_share": 0.4}, ["val_share=0.6", "sum below 1"]),
    ({"val_share": 0.0}, ["val_share=0.0", "above 0"]),
    ({"data": ".", "data_dir": "data"}, ["data=. holds data_dir=data", "nothing but pictures"]),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_is_wrong_is_one_sentence(
    pets: Path, options: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(InputError) as refusal:
        read(pets, **options)
    assert_says(refusal.value, *said)


def test_too_few_pictures_are_refused(pets: Path) -> None:
    for path in (pets / "cat").iterdir():
        path.write_bytes(b"no picture")
    paint(pets / "cat" / "00.png", 1)
    with pytest.raises(
        InputError,
        match=r"the class cat has too few whole pictures in pets .*\(1\): put at least 3",
    ):
        read(pets)
    (pets.parent / "none").mkdir()
    with pytest.raises(InputError, match="none holds no picture"):
        read(pets.parent / "none")
    (pets.parent / "none" / "a.txt").write_text("a")
    with pytest.raises(InputError, match=r"no picture that can be read .*1 not an image \(a.txt\)"):
        read(pets.parent / "none")


def test_a_class_of_unreadable_pictures_is_not_missed_silently(pets: Path) -> None:
    (pets / "bird").mkdir()
    (pets / "bird" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"no picture of the class bird can be read .*bird/1.jpg"):
        read(pets)


def test_test_pictures_that_cannot_be_read_are_not_drawn_from_the_others(tmp_path: Path) -> None:
    for i in range(5):
        paint(tmp_path / "x" / "train" / "cat" / f"{i}.png", i)
    (tmp_path / "x" / "test" / "cat").mkdir(parents=True)
    (tmp_path / "x" / "test" / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"no picture of the part test can be read .*cat/1.png"):
        read(tmp_path / "x")


def test_a_picture_that_goes_moves_few_others(pets: Path) -> None:
    """No image that was trained on becomes a test image, but the one that takes its place."""
    before = shades(read(pets))
    for path in sorted((pets / "dog").iterdir()):
        content = path.read_bytes()
        path.unlink()
        after = shades(read(pets))
        assert len(after["test"][1] - before["test"][1]) <= 1
        assert len(after["val"][1] - before["val"][1]) <= 1
        assert after["test"][0] == before["test"][0]
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["Train/cat", "Test/cat"], "holds the folders Test, Train: parts are called train, val"),
        (["train/cat", "test/cat", "docs"], "holds the folders docs, test, train: parts are"),
        (["train/cat", "valid/cat"], "holds the folders train, valid: parts are called train"),
        (["training/cat", "testing/cat"], "holds the folders testing, training: parts are called"),
        (["val/cat", "test/cat"], "holds the folders test, val: parts are called train, val and"),
        (["Train/cat"], "holds the folders Train: parts are called train, val and test"),
        (
            ["all/cat", "all/dog"],
            "that holds the folders cat, dog, .* data=/.*all",
        ),
        (["all/train/cat"], "that holds the folders train, which would all be one class: type"),
        (
            ["train/cat", "train/dog", "test"],
            "test holds pictures without a class, and train folders",
        ),
    ],
)
def test_folders_that_are_nearly_parts_are_no_classes(
    tmp_path: Path, folders: list[str], said: str
) -> None:
    for folder in folders:
        paint(tmp_path / "own" / folder / "1.png", 1)
    with pytest.raises(InputError, match=said):
        read(tmp_path / "own")


def test_what_an_archive_of_a_mac_leaves_is_no_class(pets: Path) -> None:
    (pets / "__MACOSX" / "cat").mkdir(parents=True)
    (pets / "__MACOSX" / "cat" / "._00.png").write_bytes(b"no picture")
    assert read(pets).class_names == ["cat", "dog"]


def test_copies_of_a_picture_are_in_one_part(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(20):
        for copy in range(i):
            paint(pets / "dog" / f"{i}_{copy}.png", 100 + i)
    data = read(pets)
    data.prepare()
    assert not caplog.records
    parts = [found[1] for found in shades(data).values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20
    assert min(map(len, parts)) == 2
    for path in (pets / "cat").iterdir():
        paint(path, 1)
    with pytest.raises(InputError, match=r"the class cat .*\(1\): put at least 3 different ones"):
        read(pets)


def test_a_picture_in_two_classes_or_parts_is_named(
    tmp_path: Path, pets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(pets / "dog" / "stray.png", 3)
    read(pets).prepare()
    assert "1 pictures are in more than one class or part: keep one of each" in caplog.text
    assert "as of cat/03.png and dog/stray.png" in caplog.text
    caplog.clear()
    for part, shade in {"train": (1, 2, 3), "test": (3, 4)}.items():
        for each in shade:
            paint(tmp_path / "x" / part / "cat" / f"{each}.png", each)
    read(tmp_path / "x").prepare()
    assert "as of train/cat/3.png and test/cat/3.png" in caplog.text


def test_a_repeated_picture_whose_name_is_not_utf8_is_named(
    pets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(pets / "dog" / "stray\udce9.png", 3)
    read(pets).prepare()
    assert r"as of cat/03.png and dog/stray\udce9.png" in caplog.text


def test_what_a_crash_left_does_not_stop_the_next_start(pets: Path) -> None:
    data = read(pets)
    path = data.pictures.path
    path.unlink()
    path.with_suffix(".images").rename(path.with_suffix(".partial"))
    again = read(pets)
    assert torch.equal(again.pictures.images, data.pictures.images)


def test_a_class_that_is_tested_but_not_trained_is_refused(tmp_path: Path) -> None:
    for i in range(5):
        paint(tmp_path / "x" / "train" / "cat" / f"{i}.png", i)
        paint(tmp_path / "x" / "test" / "dog" / f"{i}.png", i)
    with pytest.raises(InputError, match="the class dog has too few whole pictures in train"):
        read(tmp_path / "x")


@pytest.mark.parametrize("size", [-4, 0, 3])
def test_a_side_of_too_few_pixels_is_refused(pets: Path, decodings: list[str], size: int) -> None:
    with pytest.raises(InputError, match=f"model.img_size={size} is not allowed: type a number"):
        read(pets, size=size)
    assert not decodings


def test_more_than_memory_is_refused_before_anything_is_read(
    pets: Path, decodings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_cache, "free_memory", lambda: 30 * 3 * SIZE**2 - 1)
    with pytest.raises(
        InputError, match=r"GB in memory, and .* free: type a smaller model.img_size"
    ):
        read(pets)
    assert not decodings


def test_the_tightest_control_group_says_how_much_memory_is_free(tmp_path: Path) -> None:
    """Of version 2 and of version 1, with cached files as free; "max" is no limit."""
    files = {
        "jobs/1/memory.max": "max", "jobs/1/memory.current": "5", "jobs/1/memory.stat": "",
        "jobs/memory.max": "1000", "jobs/memory.current": "700",
        "jobs/memory.stat": "anon 600\ninactive_file 100\n",
        "memory/box/memory.limit_in_bytes": "900", "memory/box/memory.usage_in_bytes": "850",
        "memory/box/memory.stat": "inactive_file 1\ntotal_inactive_file 40\n",
    }  # fmt: skip
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    lines = "5:cpu:/elsewhere\n4:memory:/box\n0::/jobs/1\n"
    assert [*picture_cache.free_in_cgroups(lines, root=tmp_path)] == [90, 400]


def test_where_no_control_group_sets_a_limit_the_machine_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(picture_cache, "free_in_cgroups", lambda *_, **__: iter(()))
    assert 1 << 26 < picture_cache.free_memory() < 1 << 50


def test_this_machine_says_how_much_memory_is_free() -> None:
    assert 1 << 26 < picture_cache.free_memory() < 1 << 50
