"""Pictures in a folder of the user's own, as a data set."""

import inspect
import logging
import shlex
from collections.abc import Mapping
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from src.class_names import folder_of
from src.datamodules.data_set import DataSet
from src.datamodules.listing import PARTS, Listing, list_pictures, printable
from src.datamodules.picture_cache import read_pictures, short_hash
from src.datamodules.verified import folder_errors
from src.errors import InputError
from src.images import Labelled

log = logging.getLogger(__name__)
SIZE = 32  # unless another is asked for
LEAST_SIZE = 4


class ImageFolder(DataSet):
    """Pictures of any size in a folder per class, or in one folder without labels.

    They are read when the object is made, for only then it is known how many are whole. Of every
    class a share is for validation and for the test, as ``seed`` draws them, unless folders called
    train, val and test say so. ``name`` tells what is in the folder.
    """

    def __init__(
        self,
        *,
        data: str | None,
        data_dir: str,
        size: int | None = None,
        channels: Literal[1, 3] = 3,
        val_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 0,
        flip: bool = True,
    ) -> None:
        """``size`` is the side of the squares that are read; one of ``channels`` is grey."""
        require_shares(val_share, test_share)
        self.shares = {"val": val_share, "test": test_share}
        self.seed, self.flip = seed, flip
        self.size, self.channels = SIZE if size is None else size, channels
        if self.size < LEAST_SIZE:
            raise InputError(
                f"model.img_size={size} is not allowed: type a number from {LEAST_SIZE}, as in "
                f"model.img_size={SIZE}"
            )
        self.root = require_folder(data, data_dir=data_dir)
        given = {
            "channels": channels, "val_share": val_share, "test_share": test_share, "seed": seed,
            "flip": flip,
        }  # fmt: skip
        self.typed = shlex.join([
            "datamodule=image_folder", f"data={self.root}", f"model.img_size={self.size}",
            *unusual(given),
        ])  # fmt: skip
        listing = list_pictures(self.root)
        with folder_errors(Path(data_dir)):
            self.pictures = read_pictures(
                listing, Path(data_dir) / "image_folders", size=self.size, channels=channels
            )
        self.require_pictures()
        self.names = sorted({file.label for file in self.pictures.files})
        self.require_classes(listing)
        self.n_classes = len(self.names)
        self.name = f"{folder_of(self.root.name)}-{self.pictures.key[:8]}"
        there = {file.part for file in listing.files}
        # The parts without a folder of their own, and their shares of each class.
        self.drawn = {part: share for part, share in self.shares.items() if part not in there}
        self.rows = self.divide()
        self.sizes = [len(self.rows[part]) for part in PARTS]

    @property
    @override
    def class_names(self) -> list[str]:
        return self.names

    @override
    def prepare(self) -> None:
        """Say what was read, for reading is done."""
        n, channels, size, _ = self.pictures.shape
        some = ", ".join(self.names[:10]) + ", ..." * (self.n_classes > 10)
        kind = f"{self.n_classes} classes ({some})" if self.n_classes > 1 else "one class"
        log.info(
            "%s: %s pictures of %s, %d x %d x %d; kept as %s",
            self.root, f"{n:,}", kind, channels, size, size, self.pictures.path,
        )  # fmt: skip
        if self.pictures.skipped:
            log.warning("%s: %s", self.root, self.pictures.summary_of_skipped())
        self.say_what_repeats()

    @override
    def load(self) -> tuple[Labelled, Labelled]:
        """Training and then validation pictures, and test pictures."""
        both = torch.cat([self.rows["train"], self.rows["val"]])
        whole = Labelled(self.pictures.images, self.labels())
        return whole.take(both), whole.take(self.rows["test"])

    @override
    def order(self, count: int, *, seed: int) -> Tensor:
        """Rows (count,) as ``load`` has joined them."""
        return torch.arange(count)

    def labels(self) -> Tensor:
        """The class indices (N,) of all pictures."""
        places = {name: label for label, name in enumerate(self.names)}
        return torch.tensor([places[file.label] for file in self.pictures.files])

    def divide(self) -> dict[str, Tensor]:
        """The rows of the pictures for "train", "val" and "test", each in random order.

        A part has those in its folder. Where it has no folder, it has a share of each class, from
        either end of an order that stays when pictures come or go: then few change their part.
        "train" has the rest. Copies of a picture of the class are in the same part.
        """
        content = self.pictures.digests.__getitem__
        rows: dict[str, list[int]] = {part: [] for part in PARTS}
        pools: dict[str, list[int]] = {name: [] for name in self.names}
        for row, file in enumerate(self.pictures.files):
            (pools[file.label] if file.part in ("", "train") else rows[file.part]).append(row)
        for name in self.names:
            mine = [[*copies] for _, copies in groupby(self.in_random_order(pools[name]), content)]
            self.require_enough(name, n := len(mine))
            for part, share in self.drawn.items():
                count = max(1, round(share * n))
                taken = slice(count) if part == "val" else slice(len(mine) - count, None)
                rows[part] += chain(*mine[taken])
                del mine[taken]
            rows["train"] += chain(*mine)
        return {part: torch.tensor(self.in_random_order(rows[part])) for part in PARTS}

    def in_random_order(self, rows: list[int]) -> list[int]:
        """Rows in the order of a hash of their contents and the seed, whatever others there are."""
        return sorted(rows, key=lambda row: short_hash(self.seed, self.pictures.digests[row]))

    def say_what_repeats(self) -> None:
        """Warn of pictures in several parts or classes: then parts or labels mean less."""
        parts = {row: part for part in PARTS for row in self.rows[part].tolist()}
        places: dict[str, dict[tuple[str, str], str]] = {}
        for row, (file, digest) in enumerate(
            zip(self.pictures.files, self.pictures.digests, strict=True)
        ):
            places.setdefault(digest, {})[parts[row], file.label] = file.path
        if repeated := [[*found.values()] for found in places.values() if len(found) > 1]:
            log.warning(
                "%s: %s pictures are in more than one class or part: keep one of each, as of %s",
                self.root, f"{len(repeated):,}", " and ".join(map(printable, repeated[0])),
            )  # fmt: skip

    def require_pictures(self) -> None:
        """Refuse a folder without any whole picture."""
        skipped = self.pictures.summary_of_skipped() if self.pictures.skipped else "it is empty"
        if not self.pictures.files:
            raise InputError(
                f"data={self.root} holds no picture that can be read ({skipped}): type data=PATH "
                "with a folder of pictures, or of a folder for each class"
            )

    def require_classes(self, listing: Listing) -> None:
        """Refuse folders of whose pictures none can be read, which would be missed silently."""
        gone = [f"class {file.label}" for file in listing.files if file.label not in self.names]
        parts = {file.part for file in self.pictures.files}
        gone += [f"part {file.part}" for file in listing.files if file.part not in parts]
        if gone:
            raise InputError(
                f"no picture of the {gone[0]} can be read "
                f"({self.pictures.summary_of_skipped()}): mend them, or remove its folder"
            )

    def require_enough(self, name: str, n: int) -> None:
        """Refuse a class with too few pictures for every part that is drawn from it."""
        least = 1 + len(self.drawn)
        if n < least:
            where = "train" if len(self.drawn) < len(self.shares) else self.root.name
            raise InputError(
                f"the class {name} has too few whole pictures in {where} to train, validate and "
                f"test on ({n}): put at least {least} different ones there, or remove its folder"
            )


def unusual(given: Mapping[str, Any]) -> list[str]:
    """The options of the data set that are not the usual ones, as they are typed."""
    usual = inspect.signature(ImageFolder).parameters
    return [
        f"datamodule.dataset.{name}={str(value).lower()}"
        for name, value in given.items()
        if value != usual[name].default
    ]


def require_shares(val: float, test: float) -> None:
    """Refuse shares that leave nothing to train on."""
    if min(val, test) <= 0 or val + test >= 1:
        raise InputError(
            f"datamodule.dataset.val_share={val} and test_share={test} must be above 0, and their "
            "sum below 1: type datamodule.dataset.val_share=0.1"
        )


def require_folder(data: str | None, *, data_dir: str) -> Path:
    """The folder that ``data`` names."""
    if data is None:
        raise InputError("datamodule=image_folder needs a folder of pictures: type data=PATH")
    root = Path(data).expanduser().absolute()
    if not root.is_dir():
        raise InputError(
            f"data={data} is no folder: type data=PATH with a folder of pictures, or of a folder "
            "for each class"
        )
    if Path(data_dir).resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"data={data} holds data_dir={data_dir}, where pictures are kept once they are read: "
            "type data=PATH with a folder that holds nothing but pictures"
        )
    return root
