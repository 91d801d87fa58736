"""Gradients of a whole pair, through a penalty: twice differentiated."""

import torch
from torch import Tensor, nn


def slopes(
    generator: nn.Module, discriminator: nn.Module, latents: Tensor, labels: Tensor
) -> tuple[Tensor, ...]:
    weights = [*generator.parameters(), *discriminator.parameters()]
    images = generator(latents, labels)
    logits = discriminator(images, labels)
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return torch.autograd.grad(logits.sum() + gradients.square().sum(), weights)


def influences(discriminator: nn.Module) -> tuple[list[list[bool]], list[bool]]:
    """Which of four images moves each logit, and which logits another label of the third moves."""
    images = torch.randn(4, 1, 28, 28, requires_grad=True)
    logits = discriminator(images, torch.arange(4))
    moves = []
    for logit in logits:
        (gradients,) = torch.autograd.grad(logit, images, retain_graph=True)
        moves.append((gradients.flatten(1).abs().sum(dim=1) > 0).tolist())
    relabelled = discriminator(images, torch.tensor([0, 1, 7, 3]))
    return moves, (relabelled != logits).tolist()
