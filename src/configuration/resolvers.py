"""What a configuration may compute, as in ``${part_of_run:0.5}`` and ``${unused:FOLDER}``."""

from itertools import chain, count
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.configuration.slurm import is_requeued, n_tasks, step_name
from src.errors import InputError
from src.files import is_made


def part_of_run(share: float, *, _root_: DictConfig) -> int:
    """The number of real images that all devices see in ``share`` of the run, from 0 to 1.

    Where both ``trainer.max_epochs`` and ``max_steps`` limit the run, the lower limit counts. A
    share above 0 has one image at least.

    Raises:
        InputError: if neither limits it.
    """
    # Here, because importing torch takes seconds that other starts can spare.
    from src.configuration.devices import n_processes

    trainer: Any = OmegaConf.to_container(_root_.trainer, resolve=True)
    for name in ("max_epochs", "max_steps"):
        if trainer.get(name) not in (None, -1):
            require_count(f"trainer.{name}", trainer[name])
    batch_size, split = _root_.datamodule.batch_size, _root_.datamodule.train_val_test_split
    n_batches = _root_.model.get("discriminator_steps", 1)
    require_count("datamodule.batch_size", batch_size)
    require_count("model.discriminator_steps", n_batches)
    if not isinstance(split, ListConfig) or not split or type(split[0]) is not int:
        raise InputError(
            f"datamodule.train_val_test_split={split} is not allowed: type "
            "'datamodule.train_val_test_split=[TRAIN,VAL,TEST]' with three numbers of images"
        )
    per_batch = batch_size * n_processes(**trainer)
    per_step = per_batch * n_batches
    per_epoch = images_per_epoch(
        split[0],
        per_batch=per_batch,
        per_step=per_step,
        limit=trainer.get("overfit_batches") or trainer.get("limit_train_batches"),
    )
    limits = [(trainer.get("max_epochs"), per_epoch), (trainer.get("max_steps"), per_step)]
    lengths = [n * size for n, size in limits if n is not None and n >= 0]
    if not lengths:
        raise InputError(
            "model.schedules end with the run, which has no end: type trainer.max_epochs=N, or "
            "model/schedules=none"
        )
    return max(int(share > 0), int(share * min(lengths)))


def require_count(key: str, value: Any) -> None:
    """Refuse what is no integer of at least 1, before it is computed with."""
    if type(value) is not int or value < 1:
        raise InputError(f"{key}={value} is not allowed: type {key}=N with an integer from 1")


def images_per_epoch(
    n_images: int, *, per_batch: int, per_step: int, limit: int | float | None
) -> int:
    """The number of real images in the counted steps of one epoch.

    Where less than a hundredth of the images is left over, or no step is whole, all of them count.

    Args:
        n_images: images of the training part.
        per_batch: images in one batch of all devices.
        per_step: images in one counted step, which may take several batches.
        limit: Lightning's limit, a number of batches or a share of them.
    """
    batches = n_images // per_batch
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    seen = batches * per_batch // per_step * per_step
    return seen if 0 < seen < 0.99 * n_images else n_images


def unused(folder: str) -> str:
    """Make ``folder``, or ``folder-2`` and so on: one that no other process has or will get.

    If none can be made, ``folder`` is returned, so that Hydra, which makes it too, says why.
    """
    try:
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        names = chain([folder], (f"{folder}-{n}" for n in count(2)))
        return next(name for name in names if is_made(Path(name).mkdir))
    except OSError:
        return folder


def folder_of_run(parent: str, name: str) -> str:
    """Make the folder ``parent/name``, as ``unused`` does; under srun, ``parent/slurm/JOB``.

    All tasks of one srun share that one, and so does the job once it is requeued.
    """
    if not (step := step_name()):
        return unused(f"{parent}/{name}")
    folder = f"{parent}/slurm/{step}"
    return folder if is_requeued() or n_tasks() > 1 else unused(folder)


def n_nodes(*, _root_: DictConfig) -> int:
    """The number of machines of a run."""
    return _root_.trainer.get("num_nodes", 1)


def n_devices(*, _root_: DictConfig) -> int:
    """The number of processes on each node."""
    from src.configuration.devices import n_processes

    return n_processes(**devices_of(_root_))


def devices_of(cfg: DictConfig) -> dict[str, Any]:
    """What ``trainer`` says of devices; what else it says refers to a job, which is not there yet.

    Numbers alone, for where jobs are submitted there may be no GPUs to count.
    """
    names = "gpus", "accelerator", "devices"
    return OmegaConf.to_container(OmegaConf.masked_copy(cfg.trainer, [*names]))  # type: ignore[return-value]


def n_gpus_per_node(*, _root_: DictConfig) -> int | None:
    """The number of GPUs on each node, None for the CPU alone."""
    from src.configuration.devices import complete

    devices = devices_of(_root_)
    accelerator, _ = complete(devices["accelerator"], devices["gpus"])
    return None if accelerator == "cpu" else n_devices(_root_=_root_)


def of_sweep(key: str) -> str | None:
    """The name of the sweep that a job belongs to, or its number there; None where it is alone."""
    if not HydraConfig.initialized():
        return None
    job = HydraConfig.get()
    if job.mode != RunMode.MULTIRUN or OmegaConf.is_missing(job.job, "num"):
        return None
    return Path(job.sweep.dir).name if key == "name" else str(job.job.num)


OmegaConf.register_new_resolver("part_of_run", part_of_run, replace=True)
# Hydra reads a run's folder several times, and in each job of a sweep.
OmegaConf.register_new_resolver("unused", unused, use_cache=True, replace=True)
OmegaConf.register_new_resolver("folder_of_run", folder_of_run, use_cache=True, replace=True)
OmegaConf.register_new_resolver("n_nodes", n_nodes, replace=True)
OmegaConf.register_new_resolver("n_devices", n_devices, replace=True)
OmegaConf.register_new_resolver("n_gpus_per_node", n_gpus_per_node, replace=True)
OmegaConf.register_new_resolver("of_sweep", of_sweep, replace=True)
OmegaConf.register_new_resolver("source", lambda: str(Path(__file__).parents[2]), replace=True)
