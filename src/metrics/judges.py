"""The two judges of a data set: kept with their hashes, verified, and asked."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor

from src.errors import InputError
from src.files import alone_in, write_atomically
from src.images import Labelled, to_float
from src.metrics.classify import CHUNK, predict
from src.networks.classifier import Classifier

SHIPPED = Path(__file__).parent / "shipped_judges"
ROLES = "features", "labels"


class NoJudgesError(InputError):
    """The data set has no judges, or none that fit its classes and channels."""


@dataclass(frozen=True)
class Record:
    """What ``judges.json`` says of one judge's weights; test accuracy is a share in [0, 1]."""

    file: str
    sha256: str
    test_accuracy: float
    seed: int
    channels: int
    n_classes: int
    command: str
    trained_on: str = ""  # md5 of the training part, as ``md5_of_data`` gives it
    img_size: int = 28
    flip: bool = False  # whether it reads an image and its mirror image, and takes the mean


class Opinion(NamedTuple):
    """What the judges see in N labelled images."""

    features: Tensor  # of the first judge, float32 (N, 64)
    predictions: Tensor  # of the second judge, int64 (N,)
    confidence: Tensor  # its probability of the label asked for, (N,)

    def take(self, rows: Tensor | slice) -> "Opinion":
        return Opinion(*(part[rows] for part in self))


class Judged(NamedTuple):
    """Images uint8 (N, C, H, W) and the labels asked for, with what the judges see in them."""

    data: Labelled
    opinion: Opinion

    @property
    def images(self) -> Tensor:
        return self.data.images

    @property
    def labels(self) -> Tensor:
        return self.data.labels

    @property
    def features(self) -> Tensor:
        return self.opinion.features

    @property
    def predictions(self) -> Tensor:
        return self.opinion.predictions

    @property
    def confidence(self) -> Tensor:
        return self.opinion.confidence

    def take(self, rows: Tensor | slice) -> "Judged":
        return Judged(self.data.take(rows), self.opinion.take(rows))


@dataclass(frozen=True)
class Judges:
    """Two classifiers of different seeds: the one that measures features reads no labels."""

    features: Classifier
    labels: Classifier
    records: dict[str, Record]
    device: str

    @property
    def sha256s(self) -> dict[str, str]:
        return {role: self.records[role].sha256 for role in ROLES}

    @property
    def n_classes(self) -> int:
        return self.records["labels"].n_classes

    def read(self, data: Labelled) -> Judged:
        """Ask both judges about uint8 images and int64 labels; the answers are on the CPU."""
        probabilities = predict(self.labels, data.images, device=self.device)
        confidence = probabilities.gather(1, data.labels.unsqueeze(1)).squeeze(1)
        features = torch.cat(list(self.describe(data.images)))
        return Judged(data, Opinion(features, probabilities.argmax(1), confidence))

    @torch.inference_mode()
    def describe(self, images: Tensor) -> Iterator[Tensor]:
        for part in images.split(CHUNK):
            yield self.features.features(to_float(part.to(self.device))).cpu()


def load_judges(
    name: str,
    *,
    n_classes: int,
    channels: int,
    data_dir: Path,
    device: str = "cpu",
    typed: str = "datamodule=NAME",
) -> Judges:
    """The judges of the data set ``name``, made on this machine or else shipped with the project.

    ``typed`` are the options that name the data, for the sentence that says how to train judges.

    Raises:
        NoJudgesError: if there are none, or they were trained on other classes or channels.
        InputError: if a file's hash is not the recorded one.
    """
    for folder in (data_dir / "judges", SHIPPED):
        if name in (records := read_records(folder)):
            mine = {role: Record(**records[name][role]) for role in ROLES}
            require_fit(name, mine["labels"], n_classes=n_classes, channels=channels)
            networks = {role: load_classifier(folder, mine[role]).to(device) for role in ROLES}
            return Judges(**networks, records=mine, device=device)
    raise NoJudgesError(
        f"there are no judges for the data set {name} in {data_dir / 'judges'} or {SHIPPED}: "
        f"type python run.py task=train_judge {typed}"
    )


def require_fit(name: str, record: Record, *, n_classes: int, channels: int) -> None:
    if (record.n_classes, record.channels) != (n_classes, channels):
        raise NoJudgesError(
            f"the judges of {name} know {record.n_classes} classes and {record.channels} channels, "
            f"these data have {n_classes} and {channels}: train others with the same options and "
            "task=train_judge"
        )


def doubt_of(judges: Judges, *, trained_on: str, flip: bool) -> str | None:
    """Why the judges may not be fair to today's data, if they may not.

    Args:
        judges: both judges of the data set.
        trained_on: md5 of today's training part; any other split has another one.
        flip: whether a mirror image is as likely as the image.
    """
    found = judges.records.values()
    if mirrored := [record.file for record in found if record.flip != flip]:
        learned, today = ("without", "have") if flip else ("with", "have not")
        return (
            f"{' and '.join(mirrored)}: learned {learned} mirror images, which these data {today}; "
            "for others type python run.py task=train_judge with the same datamodule options"
        )
    if strangers := [record.file for record in found if record.trained_on != trained_on]:
        return (
            f"{' and '.join(strangers)}: not known to have learned from today's training part, but "
            "from another split or image size, so that today's validation images, or of a folder "
            "its test images, may look too good to it; for judges of this split type python run.py "
            "task=train_judge with the same datamodule options"
        )
    return None


def read_records(folder: Path) -> dict[str, Any]:
    path = folder / "judges.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def load_classifier(folder: Path, record: Record) -> Classifier:
    path = folder / record.file
    content = path.read_bytes() if path.is_file() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != record.sha256:
        raise InputError(
            f"{path} has the sha256 {found[:12]}..., not {record.sha256[:12]}... as judges.json "
            "says: restore the file, or make both again with python run.py task=train_judge"
        )
    network = Classifier(
        channels=record.channels,
        n_classes=record.n_classes,
        img_size=record.img_size,
        flip=record.flip,
    )
    unpack(content, into=network)
    return network.eval().requires_grad_(False)


def pack(network: Classifier) -> bytes:
    """A safetensors file of the weights in float16, without BatchNorm's counters."""
    return save(
        {
            key: value.half().contiguous().cpu() if value.is_floating_point() else value
            for key, value in network.state_dict().items()
        }
    )


def unpack(content: bytes, *, into: Classifier) -> None:
    into.load_state_dict({key: value.float() for key, value in load(content).items()})


def save_judges(folder: Path, name: str, made: dict[str, tuple[bytes, Record]]) -> None:
    """Write the weights, then ``judges.json``, which keeps what it says of other data sets."""
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        for content, record in made.values():
            write_atomically(folder / record.file, content)
        records = read_records(folder)
        records[name] = {role: asdict(record) for role, (_, record) in made.items()}
        write_atomically(folder / "judges.json", f"{json.dumps(records, indent=2)}\n".encode())
