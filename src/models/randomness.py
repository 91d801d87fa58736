"""Streams of random numbers that a resumed run repeats."""

import hashlib

import torch

TRAIN, EVALUATE = 0, 1  # the first keys of two streams


def random_stream(*keys: int) -> int:
    """Seed of the stream that ``keys`` name: a hash, so that distinct keys are independent."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def seed_device(device: torch.device, seed: int) -> None:
    """Seed the default generators of the CPU and of ``device``: all that a step draws from."""
    # torch.manual_seed would ask every backend.
    torch.default_generator.manual_seed(seed)
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).manual_seed(seed)
