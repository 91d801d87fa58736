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
