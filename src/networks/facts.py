"""What can be said of any network, and the modes that it is used in."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from src.networks.layers import MinibatchStd


@contextmanager
def frozen(weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep gradients from ``weights``, while they still flow through the network."""
    trained = [weight for weight in weights if weight.requires_grad]
    for weight in trained:
        weight.requires_grad = False
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad = True


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put ``network`` in eval mode without gradients, and back in its former mode afterwards."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(was_training)


def mixes_samples(network: nn.Module) -> bool:
    """Whether an output depends on the rest of the batch: real and fake images then go apart."""
    mixing = nn.modules.batchnorm._BatchNorm, MinibatchStd
    return any(isinstance(part, mixing) for part in network.modules())
