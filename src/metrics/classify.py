"""Training and testing the small classifier, for judges and for the accuracy score."""

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from src.images import Labelled, mirrored, to_float, translated
from src.networks.classifier import Classifier

BATCH = 128
CHUNK = 1_000  # images at a time where nothing is trained


def train_classifier(
    data: Labelled,
    *,
    n_classes: int,
    epochs: int,
    seed: int,
    shift: int = 0,
    flip: bool = False,
    device: str = "cpu",
    shown_as: str | None = None,
) -> Classifier:
    """Fit a fresh classifier to uint8 images, each moved by up to ``shift`` pixels.

    With ``flip`` every other one is mirrored too, at random, and its classes are read of both. A
    progress bar is called ``shown_as``; without a name there is none.

    AdamW under one cycle of the learning rate; on a CPU ``seed`` determines every weight, and the
    global random state is left as it was.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _, channels, img_size, _ = data.images.shape
        network = Classifier(
            channels=channels, n_classes=n_classes, img_size=img_size, flip=flip
        ).to(device)
        network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
        n_batches = max(1, len(data.labels) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=3e-3, total_steps=epochs * n_batches, pct_start=0.2
        )
        images, labels = data.images.to(device), data.labels.to(device)
        for _ in track(range(epochs), description=shown_as or "", disable=shown_as is None):
            order = torch.randperm(len(labels)).to(device)
            for batch in order.split(BATCH)[:n_batches]:
                seen = shifted(images[batch], shift)
                logits = network(to_float(flipped(seen) if flip else seen))
                optimizer.zero_grad()
                F.cross_entropy(logits, labels[batch]).backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def shifted(images: Tensor, by: int) -> Tensor:
    """Each image moved by its own whole number of pixels; what enters is black."""
    return translated(images, by, fill=0) if by else images


def flipped(images: Tensor) -> Tensor:
    """Images (N, C, H, W), each mirrored from left to right or not, at random."""
    return mirrored(images, torch.rand(len(images), device=images.device) < 0.5)


@torch.inference_mode()
def predict(network: Classifier, images: Tensor, *, device: str = "cpu") -> Tensor:
    """Class probabilities (N, K) of uint8 images, on the CPU."""
    parts = images.split(CHUNK)
    return torch.cat([network(to_float(part.to(device))).softmax(1).cpu() for part in parts])


def accuracy(network: Classifier, data: Labelled, *, device: str = "cpu") -> float:
    hits = predict(network, data.images, device=device).argmax(1) == data.labels
    return float(hits.double().mean())


def classification_accuracy_score(
    train: Labelled, test: Labelled, *, n_classes: int, seed: int, device: str = "cpu"
) -> float:
    """Accuracy on ``test`` of a classifier that has seen ``train`` only (CAS, arXiv:1905.10887).

    Of generated images it measures both what is wrong and what is missing; the same number for
    real ``train`` is what to compare it with. Also called GAN-train (arXiv:1807.09499).
    """
    network = train_classifier(train, n_classes=n_classes, epochs=3, seed=seed, device=device)
    return accuracy(network, test, device=device)
