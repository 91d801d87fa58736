"""Write three sets of images that cheat, and two of real ones: unseen, and of natural classes.

python benchmarks/cheaters.py FOLDER [datamodule=cifar10] [data_dir=PATH]
python run.py task=evaluate samples=FOLDER/copier.npz [datamodule=cifar10]
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.configuration.build import ready_data
from src.configuration.prepare import compose_in
from src.images import Labelled
from src.metrics.footing import rows_like

N = 50_000  # or as many as training images allow


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    where = f"data_dir={Path('data').absolute()}"
    datamodule = ready_data(compose_in(folder, where, *sys.argv[2:]))
    images, labels = datamodule.parts["train"]
    k = int(labels.max()) + 1
    rows = rows_like(labels, torch.full((k,), N // k))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    one_of_each = torch.stack([images[labels == label][0] for label in range(k)])
    in_turn = torch.arange(len(rows)) % k
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
