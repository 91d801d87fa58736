"""Checks of an exported generator: the same images as torch's, and as good ones as at export."""

import argparse
import json
import os
import secrets
import sys
import urllib.request
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from src.serving.bundle import Bundle, BundleError, Images, Judge, read

MOST_DIFFERING_PPM = 20.0  # pixels of a million that may differ from torch's
LARGEST_DIFFERENCE = 1  # of a pixel, in levels of 255
CANARY_IMAGES = 1_000
NUMBERS = 8_192  # of noise that go into one request
TIMEOUT_S = 30
Generate = Callable[[NDArray[np.int64], int], Images]  # of labels and a seed


class Difference(NamedTuple):
    """How far images are from others pixel by pixel."""

    differing_ppm: float
    largest: int  # in levels of 255

    @property
    def is_small(self) -> bool:
        return self.differing_ppm <= MOST_DIFFERING_PPM and self.largest <= LARGEST_DIFFERENCE


class Health(NamedTuple):
    """What the exported judges say of balanced images."""

    frechet_distance: float
    label_agreement: float


def difference(images: Images, others: Images) -> Difference:
    gaps = np.abs(images.astype(np.int16) - others)
    return Difference(1e6 * float((gaps > 0).mean()), int(gaps.max()))


def canary(judge: Judge, generate: Generate, *, n_classes: int, seed: int) -> Health:
    """Ask for balanced images of a fresh seed, and judge them."""
    labels = np.arange(CANARY_IMAGES) % n_classes
    features, classes = read(judge.network, generate(labels, seed))
    return Health(judge.distance(features), float((classes == labels).mean()))


class Verdict(NamedTuple):
    """What a check has found, and in one sentence each what is wrong with it."""

    found: dict[str, float]
    faults: list[str]


class Maker(Protocol):
    """Makes images (N, C, H, W) of class indices (N,), by noise (N, *noise_shape) or by a seed."""

    def of_noise(self, noise: NDArray[np.float32], labels: NDArray[np.int64]) -> Images: ...

    def of_seed(self, labels: NDArray[np.int64], seed: int) -> Images: ...


def verdict(bundle: Bundle, asked: Maker, *, seed: int) -> Verdict:
    """Have the golden images and a canary of ``seed`` made, and judge them by a folder."""
    golden = bundle.golden
    gap = difference(asked.of_noise(golden["noise"], golden["labels"]), golden["images"])
    found: dict[str, float] = {
        "golden_differing_ppm": gap.differing_ppm,
        "golden_largest": gap.largest,
    }
    faults = []
    if not gap.is_small:
        faults.append(
            f"golden images differ in {gap.differing_ppm:.0f} of a million pixels, by up to "
            f"{gap.largest} of 255, where {MOST_DIFFERING_PPM:.0f} and {LARGEST_DIFFERENCE} are "
            "allowed"
        )
    if bundle.judge is None:
        return Verdict(found, faults)
    bounds = bundle.bounds
    health = canary(bundle.judge, asked.of_seed, n_classes=len(bundle.class_names), seed=seed)
    found |= {
        "canary_distance": health.frechet_distance,
        "canary_agreement": health.label_agreement,
    }
    if health.frechet_distance > bounds["largest_distance"]:
        faults.append(
            f"the canary's distance is {health.frechet_distance:.3f}, above "
            f"{bounds['largest_distance']:.3f}"
        )
    if health.label_agreement < bounds["least_agreement"]:
        faults.append(
            f"{health.label_agreement:.2%} of the canary are read as asked for, below "
            f"{bounds['least_agreement']:.2%}"
        )
    return Verdict(found, faults)


class Service:
    """A running service, which is asked for arrays over HTTP."""

    def __init__(self, url: str, names: Sequence[str], *, key: str | None = None) -> None:
        self.url, self.names, self.key = url.rstrip("/"), names, key

    def ask(self, **body: Any) -> Images:
        headers = {"Accept": "application/x-npy", "Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        content = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v1/images", content, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return np.load(BytesIO(answer.read()))

    def of_noise(self, noise: NDArray[np.float32], labels: NDArray[np.int64]) -> Images:
        size = max(1, NUMBERS // int(np.prod(noise.shape[1:])))
        made = [
            self.ask(labels=self.named(labels[rows]), noise=noise[rows].tolist())
            for rows in chunks(len(labels), size)
        ]
        return np.concatenate(made)

    def of_seed(self, labels: NDArray[np.int64], seed: int) -> Images:
        return self.ask(labels=self.named(labels), seed=seed)

    def named(self, labels: NDArray[np.int64]) -> list[str]:
        return [self.names[label] for label in labels]


def chunks(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


def main(arguments: list[str] | None = None) -> int:
    """Check a folder, or a service beside the folder that it serves; 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m src.serving.check", description=__doc__)
    parser.add_argument("folder", type=Path, help="what task=export has written")
    parser.add_argument("--url", help="a service to ask, in place of the folder's generator")
    parser.add_argument("--key", help="of the service", default=os.environ.get("API_KEY"))
    parser.add_argument("--seed", type=int, help="of the canary; a fresh one unless it is given")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    try:
        bundle = Bundle(options.folder)
        asked = (
            bundle
            if options.url is None
            else Service(options.url, bundle.class_names, key=options.key)
        )
        found, faults = verdict(bundle, asked, seed=seed)
    except BundleError as error:
        found, faults = {}, [str(error)]
    except Exception as error:  # noqa: BLE001 - a folder or service may be anything
        found, faults = {}, [f"{options.url or options.folder} does not work: {error!r}"]
    said = json.dumps({"healthy": not faults, "seed": seed} | found | {"faults": faults}, indent=2)
    sys.stdout.write(f"{said}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
