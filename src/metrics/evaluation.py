"""What every way of judging images offers; a data set names the one that suits it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from src.images import Labelled
from src.metrics.cache import Row, Tensors
from src.metrics.judges import Judges


@dataclass(frozen=True)
class RealData:
    """A data set's real images: what generated ones are judged against."""

    name: str
    channels: int
    class_names: Sequence[str]
    typed: str  # the options that name it
    train: Labelled
    val: Labelled
    test: Labelled
    flip: bool = False  # whether a picture's mirror image is as likely

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a report says; subclasses add what its picture shows."""

    rows: dict[str, Row]  # "generated", "real" and "noise"
    md5s: dict[str, str]  # of the real parts
    details: dict[str, Any] = field(default_factory=dict)
    cas_seeds: int = 0  # classifiers that were trained on the images
    cas_seconds: float = 0.0


class Evaluation(ABC):
    """Measures generated images beside real ones: ``quick`` while training, ``full`` to report.

    Judges are loaded when they are first needed.
    """

    measured: ClassVar[tuple[str, ...]]  # by ``quick``; a best checkpoint has the lowest first one

    def __init__(self, real: RealData, *, data_dir: Path, device: str) -> None:
        self.real, self.data_dir, self.device = real, data_dir, device
        self.folder = data_dir / "judged"  # what is remembered

    @cached_property
    def judges(self) -> Judges:
        return self.find_judges()

    @abstractmethod
    def find_judges(self) -> Judges:
        """Load the judges.

        Raises:
            NoJudgesError: if there are none for these data.
        """

    def doubt(self) -> str | None:
        """Why its numbers may mislead, if they may."""
        return None

    @abstractmethod
    def require_quick(self, n: int) -> None:
        """Load what ``quick`` needs for ``n`` images.

        Raises:
            NoJudgesError: if these data cannot be measured while training.
            InputError: if ``n`` images cannot.
        """

    @abstractmethod
    def unread(self, n: int) -> Tensors:
        """Zeros in place of what ``read`` gives for ``n`` images."""

    @abstractmethod
    def read(self, data: Labelled) -> Tensors:
        """Ask the judges about images: named tensors (N, ...), a row for each image."""

    @abstractmethod
    def quick(self, labels: Tensor, seen: Tensors) -> Row:
        """Measure what ``measured`` names, and the same of real images as ``real_...``.

        Args:
            labels: of all images, (N,), the classes in turn.
            seen: what ``read`` gives for them.
        """

    @abstractmethod
    def labels(self, n: int) -> Tensor:
        """Class indices of the images to generate for a report, ``n`` of each class."""

    @abstractmethod
    def require_full(self, labels: Tensor, *, what: str) -> None:
        """Load what ``full`` needs for images of ``labels``.

        Raises:
            InputError: naming ``what`` has the labels, if they or the real images are too few.
        """

    @abstractmethod
    def full(self, images: Labelled, *, cas_seeds: int) -> Findings:
        """Measure every metric of ``images``, whose classes come in turn."""
