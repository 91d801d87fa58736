"""Write three sets of images that cheat, and two of real ones: unseen, and of natural classes.

python benchmarks/cheaters.py FOLDER
python run.py task=evaluate samples=FOLDER/copier.npz
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datamodules.in_memory import InMemoryDataModule
from src.datamodules.mnist import MNIST
from src.images import Labelled
from src.metrics.footing import rows_like

N = 50_000


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    datamodule = InMemoryDataModule(
        dataset=MNIST(data_dir="data"), train_val_test_split=[55_000, 5_000, 10_000],
        img_size=28, seed=0,
    )  # fmt: skip
    datamodule.prepare_data()
    datamodule.setup("fit")
    images, labels = datamodule.parts["train"]
    rows = rows_like(labels, torch.full((10,), N // 10))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    one_of_each = torch.stack([images[labels == label][0] for label in range(10)])
    in_turn = torch.arange(N) % 10
    sets = {
        "copier": Labelled(images[rows], labels[rows]),
        "collapsed": Labelled(one_of_each[in_turn], in_turn),
        "shuffled": Labelled(images[rows], labels[rows][order]),
        "unseen": datamodule.parts["val"],
        "natural": Labelled(images[:N], labels[:N]),
    }
    for name, data in sets.items():
        arrays = {"images": data.images.numpy(), "labels": data.labels.numpy()}
        np.savez_compressed(folder / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
