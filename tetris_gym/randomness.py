"""The random stream of a game and its 7-bag, as pure functions of integers.

The stream is SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tetris_gym.compiling import compiled
from tetris_gym.pieces import NUM_PIECES

_FULL_BAG: Final = 0x6543210  #: pieces 0 to 6 in order, 4 bits each


@compiled
def below(random: int, n: int) -> tuple[int, int]:
    """A number from 0 to n - 1, and the stream's next state."""
    state = np.uint64(random) + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.int64(((z >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)), np.int64(state)  # type: ignore[return-value]


@compiled
def draw(bag: int, left: int, random: int) -> tuple[int, int, int, int]:
    """Take a piece: (piece, bag, pieces left in it, state of the stream)."""
    if left == 0:
        bag = np.int64(_FULL_BAG)  # type: ignore[assignment]
        left = np.int64(NUM_PIECES)  # type: ignore[assignment]
        for i in range(NUM_PIECES - 1, 0, -1):
            j, random = below(random, i + 1)
            if i != j:
                difference = ((bag >> (4 * i)) ^ (bag >> (4 * j))) & 15
                bag ^= (difference << (4 * i)) | (difference << (4 * j))
    return bag & 15, bag >> 4, left - 1, random
