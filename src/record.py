"""What a run folder says of how it was started: written once, and removed if nothing came of it."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from src.command_line import RECORD
from src.config import plain, tree
from src.errors import InputError
from src.files import write_atomically
from src.runs import LAST
from src.terminal import quoted, setting


@rank_zero_only
def claim_folder(cfg: DictConfig, *, starts_from: Path | None) -> None:
    """Save the configuration in the run folder, which must not belong to another run.

    A start that was refused has changed nothing there, so that ``resume`` finds its own record. The
    record comes first, so that a run that is killed right here can be resumed.
    """
    run_dir = Path(cfg.run_dir)
    record = [*HydraConfig.get().overrides.task]
    if cfg.resume is None and starts_from is not None:
        record.append(f"++ckpt={quoted(starts_from.absolute())}")  # ckpt=latest is soon another one
    content = OmegaConf.to_yaml(record).encode()
    (run_dir / RECORD).parent.mkdir(exist_ok=True)
    try:
        if cfg.resume is None:
            with (run_dir / RECORD).open("xb") as file:
                file.write(content)
        else:
            write_atomically(run_dir / RECORD, content)
    except FileExistsError:
        raise InputError(
            f"{run_dir} already holds a run: type {setting('resume', run_dir)} to continue it, "
            "or hydra.run.dir=PATH for another folder"
        ) from None
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    with (run_dir / "config_tree.txt").open("w", encoding="utf-8") as file:
        Console(file=file, width=120).print(tree(plain(cfg)))


@rank_zero_only
def release_folder(cfg: DictConfig, error: InputError) -> None:
    """Let the corrected command have the folder of a start that came to nothing.

    A full disk is no mistake in the options: that run is resumed.
    """
    run_dir = Path(cfg.run_dir)
    is_new = cfg.resume is None and not (run_dir / LAST).is_file()
    if is_new and not isinstance(error.__cause__, OSError):
        (run_dir / RECORD).unlink(missing_ok=True)
