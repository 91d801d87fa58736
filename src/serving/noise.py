"""The noise of a seed, number for number as torch draws it on a CPU, without torch."""

import numpy as np
from numpy.typing import NDArray

BLOCK = 16  # numbers that torch makes of as many uniform ones
FEW = 16  # below so many numbers torch draws each in turn, from uniform ones of 53 bits


class Normal:
    """Draws standard normal numbers from a seed, as ``torch.Generator`` and ``torch.randn`` do.

    They differ from torch's by 5e-7 at most, for torch approximates logarithms and cosines. It
    fills blocks of 16 numbers by the transform of Box and Muller (1958), of 24 bits of the
    Mersenne Twister each; a rest that fills no block is drawn as the last 16 numbers, anew.
    """

    def __init__(self, seed: int) -> None:
        self.bits = np.random.RandomState(seed % 2**32)
        self.spare: float | None = None  # of a pair, of which few numbers have used the first

    def draw(self, n: int) -> NDArray[np.float32]:
        """The next ``n`` numbers."""
        if n < FEW:
            return np.array([self.one() for _ in range(n)], dtype=np.float32)
        uniform = self.uniform(n)
        whole = n - n % BLOCK
        numbers = np.empty(n, dtype=np.float32)
        numbers[:whole] = in_blocks(uniform[:whole])
        if n % BLOCK:
            numbers[-BLOCK:] = in_blocks(self.uniform(BLOCK))
        return numbers

    def uniform(self, n: int) -> NDArray[np.float32]:
        """The next ``n`` uniform numbers in [0, 1), of 24 bits."""
        words = self.bits.randint(0, 2**32, size=n, dtype=np.uint32)
        return (words & np.uint32(2**24 - 1)).astype(np.float32) * np.float32(2.0**-24)

    def one(self) -> float:
        """The next number where there are few."""
        if self.spare is not None:
            number, self.spare = self.spare, None
            return number
        angle, length = (self.fine() for _ in range(2))
        radius, turn = np.sqrt(-2 * np.log1p(-length)), 2 * np.pi * angle
        self.spare = float(radius * np.sin(turn))
        return float(radius * np.cos(turn))

    def fine(self) -> float:
        """The next uniform number in [0, 1), of 53 bits."""
        high, low = self.bits.randint(0, 2**32, size=2, dtype=np.uint32).tolist()
        return ((high << 32 | low) & (2**53 - 1)) * 2.0**-53


def in_blocks(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normal numbers (16 K,) of as many uniform ones: cosines in eights, then their sines."""
    lengths, angles = uniform.reshape(-1, 2, BLOCK // 2).transpose(1, 0, 2)
    radius = np.sqrt(-2 * np.log(1 - lengths))
    turn = np.float32(2 * np.pi) * angles
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1).ravel()
