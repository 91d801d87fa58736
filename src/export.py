"""Export a trained generator into a folder that stands alone and has passed its own checks."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from torch import Tensor

from src.configuration.build import build_dataset, build_loggers
from src.datamodules.data_set import DataSet
from src.datamodules.sources import SourceError
from src.errors import InputError
from src.exports.card import model_card
from src.exports.graphs import Opinions, Pixels, to_onnx
from src.exports.page import RUNTIME, directions, load_runtime, write_page
from src.generate import data_group, load_trained, rebuild, require_same_classes, sample
from src.loggers.wandb import SturdyWandbLogger, close_wandb
from src.metrics.judges import NoJudgesError, load_judges
from src.models.generative import GenerativeModel
from src.runs.portable import WEIGHTS, read_portable, write_portable
from src.serving.bundle import (
    CANARY,
    GENERATOR,
    GOLDEN,
    JUDGE,
    PAGE,
    REFERENCE,
    SUMS,
    Bundle,
    Judge,
    hash_of,
    read,
    session,
)
from src.serving.check import (
    CANARY_IMAGES,
    Difference,
    canary,
    difference,
)

log = logging.getLogger(__name__)
N_GOLDEN = 256  # of which 20 in a million pixels are more than one
N_COMPARED = 20_000  # images of onnxruntime and of torch; of a flow as many times fewer
N_REFERENCE = 10_000
N_CANARIES = 20  # healthy ones, by which later ones are measured; of a flow fewer
DEVIATIONS = 6  # from the mean of healthy canaries to the bound


def export(cfg: DictConfig) -> Path:
    """Write the generator of ``cfg.ckpt`` into a new folder below ``cfg.run_dir``, and return it.

    It holds ``generator.onnx``, from noise and labels to pixels; ``model.safetensors`` and
    ``config.json``, for who goes on in torch; ``golden.npz``, images to compare with; both judges
    in ``judge.onnx`` and what they say of healthy images, if the data have judges; a page that
    generates in the browser, if npm is there; a model card; and the hashes of all these. It is
    whole and checked, or it is not there.

    Raises:
        InputError: if what was exported makes other images than the model.
    """
    loggers, trained = build_loggers(cfg), load_trained(cfg)
    path, checkpoint, options, model = trained
    report = report_beside(path, checkpoint) if trained.is_as_trained else None
    dataset = build_dataset(data_group(cfg, model)["dataset"])
    require_same_classes(dataset, model)
    folder = Path(cfg.run_dir) / "unfinished"
    folder.mkdir(parents=True)
    try:
        write_portable(folder, model, checkpoint, dtype=torch.float32)
        images = write_golden(folder, model, options, seed=cfg.seed)
        write_generator(folder, model, name=dataset.name, shape=images.shape[1:])
        found = check_and_describe(
            folder, model, dataset, seed=cfg.seed, report=report, data_dir=Path(cfg.data_dir)
        )
        done = folder.rename(folder.with_name(f"{dataset.name}-{hash_of(folder / GENERATOR)[:8]}"))
    except BaseException:
        shutil.rmtree(folder)
        raise
    log_as_artifact(loggers, done)
    log.info(
        f"{path}\n{found.differing_ppm:.1f} in a million pixels are others than torch's, by "
        f"{found.largest} of 255\nin {done}: "
        f"{', '.join(sorted(each.name for each in done.iterdir()))}"
    )
    return done


def check_and_describe(
    folder: Path,
    model: GenerativeModel,
    dataset: DataSet,
    *,
    seed: int,
    report: dict[str, Any] | None,
    data_dir: Path,
) -> Difference:
    """Compare what was exported with the model, and write what is known of it."""
    write_sums(folder)
    bundle = Bundle(folder)
    found = compare(bundle, model, seed=seed)
    write_judge(folder, dataset, shape=bundle.image_shape, data_dir=data_dir)
    write_canary(bundle)
    add_page(folder, model, bundle, report=report, data_dir=data_dir)
    (folder / "README.md").write_text(model_card(bundle, found, report=report))
    write_sums(folder)
    return found


def write_golden(
    folder: Path, model: GenerativeModel, options: dict[str, Any], *, seed: int
) -> Tensor:
    """Write noise, labels and images, which the written weights make too, and return the images."""
    labels = torch.arange(N_GOLDEN) % model.n_classes
    noise = model.draw_noise(N_GOLDEN, torch.Generator().manual_seed(seed))
    images = model.generate(noise, labels)
    path = folder / WEIGHTS
    again = rebuild(read_portable(path), path=path, options=options).generate(noise, labels)
    if not torch.equal(again, images):
        raise InputError(f"{path} makes other images than the model: its sampler hides weights")
    path = folder / GOLDEN
    np.savez_compressed(path, noise=noise.numpy(), labels=labels.numpy(), images=images.numpy())
    return images


def write_generator(
    folder: Path, model: GenerativeModel, *, name: str, shape: Sequence[int]
) -> None:
    inputs = {
        "noise": torch.zeros(2, *model.noise_shape),
        "labels": torch.zeros(2, dtype=torch.int64),
    }
    metadata = {
        "data": name,
        "family": type(model).__name__,
        "class_names": json.dumps([*model.class_names]),
        "noise_shape": json.dumps([*model.noise_shape]),
        "image_shape": json.dumps([*shape]),
        "n_evaluations": str(model.n_evaluations),
        "weights_sha256": hash_of(folder / WEIGHTS),
    }
    content = to_onnx(Pixels(model.sampler), inputs, ["images"], metadata=metadata)
    (folder / GENERATOR).write_bytes(content)


def write_judge(folder: Path, dataset: DataSet, *, shape: Sequence[int], data_dir: Path) -> None:
    """Write both judges as one network; none, with a warning, where the data have none."""
    try:
        judges = load_judges(
            dataset.name, n_classes=dataset.n_classes, channels=dataset.channels,
            data_dir=data_dir, typed=dataset.typed,
        )  # fmt: skip
    except NoJudgesError as error:
        log.warning(f"without {JUDGE}, so that nothing can watch the quality of images: {error}")
        return
    inputs = {"images": torch.zeros(2, *shape, dtype=torch.uint8)}
    opinions = Opinions(features=judges.features, labels=judges.labels)
    content = to_onnx(opinions, inputs, ["features", "probabilities"], metadata={})
    (folder / JUDGE).write_bytes(content)


def compare(bundle: Bundle, model: GenerativeModel, *, seed: int) -> Difference:
    """How far the exported generator's images are from those of task=generate of one seed.

    Raises:
        InputError: if that is too far.
    """
    n = max(N_COMPARED // model.n_evaluations, N_GOLDEN)
    labels = torch.arange(n) % model.n_classes
    theirs = torch.cat([*sample(model, labels, seed=seed)]).numpy()
    mine = bundle.of_noise(bundle.draw(n, seed=seed), labels.numpy())
    golden = bundle.golden
    again = bundle.of_noise(golden["noise"], golden["labels"])
    found, of_golden = difference(mine, theirs), difference(again, golden["images"])
    for each in (found, of_golden):
        if not each.is_small:
            raise InputError(
                f"the exported generator makes other images than the model: "
                f"{each.differing_ppm:.0f} of a million pixels differ, by up to {each.largest} of "
                "255, so that nothing is exported; a layer does not mean the same in ONNX"
            )
    return found


def write_canary(bundle: Bundle) -> None:
    """Write what the judges say of many healthy images, and the bounds of what they may say."""
    if not (bundle.folder / JUDGE).is_file():
        return
    network, k = session(bundle.folder / JUDGE), len(bundle.class_names)
    features, _ = read(network, bundle.of_seed(np.arange(N_REFERENCE) % k, seed=0))
    judge = Judge(network, features.mean(0), np.cov(features, rowvar=False))
    np.savez(bundle.folder / REFERENCE, mean=judge.mean, covariance=judge.covariance)
    n_canaries = N_CANARIES if bundle.metadata["n_evaluations"] == "1" else N_CANARIES // 4
    found = [canary(judge, bundle.of_seed, n_classes=k, seed=1 + i) for i in range(n_canaries)]
    distances = [health.frechet_distance for health in found]
    agreement = mean(health.label_agreement for health in found)
    n = n_canaries * CANARY_IMAGES
    share = (agreement * n + 1) / (n + 2)  # Laplace's estimate, which is never quite 1
    bounds = {
        "images": CANARY_IMAGES,
        "largest_distance": mean(distances) + DEVIATIONS * stdev(distances),
        "least_agreement": share - DEVIATIONS * (share * (1 - share) / CANARY_IMAGES) ** 0.5,
        "healthy_distance": mean(distances),
        "healthy_agreement": agreement,
    }
    (bundle.folder / CANARY).write_text(f"{json.dumps(bounds, indent=2)}\n")


def add_page(
    folder: Path,
    model: GenerativeModel,
    bundle: Bundle,
    *,
    report: dict[str, Any] | None,
    data_dir: Path,
) -> None:
    """Write the page; where npm cannot give what runs it, say so in a sentence instead."""
    try:
        runtime = load_runtime(data_dir / "onnxruntime-web")
    except SourceError as error:
        log.warning(f"without {PAGE}: {RUNTIME}, which runs it, comes by npm, and {error}")
        return
    content = (folder / GENERATOR).read_bytes()
    found = directions(model)
    text = write_page(content, bundle.facts, runtime, directions=found, report=report)
    (folder / PAGE).write_text(text)


def log_as_artifact(loggers: Sequence[Logger], folder: Path) -> None:
    """Give the folder to wandb as well, if it is among the loggers."""
    for logger in loggers:
        if isinstance(logger, SturdyWandbLogger):
            logger.log_folder(folder, Bundle(folder).facts)
            close_wandb()


def write_sums(folder: Path) -> None:
    """Write the hash of every other file, as sha256sum does."""
    others = sorted(path for path in folder.iterdir() if path.name != SUMS)
    lines = [f"{hash_of(path)}  {path.name}\n" for path in others]
    (folder / SUMS).write_text("".join(lines))


def report_beside(path: Path, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """What task=evaluate has found at this very step of a run, or of the project's own weights."""
    for folder in (path.parent, path.parent.parent):
        if (report := folder / "evaluation.json").is_file():
            found: dict[str, Any] = json.loads(report.read_text())
            return found if found["source"]["step"] == checkpoint["global_step"] else None
    return None
