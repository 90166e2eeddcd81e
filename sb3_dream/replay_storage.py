"""The memory that replayed rows take, and a way to find some of them without looking at all."""

from __future__ import annotations

import numpy as np
import psutil
import torch as th


def check_free_memory(nbytes: int, rows: int, device: th.device) -> None:
    """
    Refuse a replay buffer that does not fit, before the machine begins to swap.

    :param nbytes: bytes that the buffer is about to take there
    :param rows: number of rows in those bytes
    :param device: a processor or a GPU
    :raises MemoryError: if that is more than what is free
    """
    if device.type == "cuda":
        free, where = th.cuda.mem_get_info(device)[0], " on the GPU"
    else:
        free, where = psutil.virtual_memory().available, ""
    if nbytes > free:
        row = nbytes / rows
        raise MemoryError(
            f"The replay buffer needs {nbytes / 1e9:.2f} GB ({rows:,} rows of {row:,.0f} bytes), but only "
            f"{free / 1e9:.2f} GB are free{where}. Lower buffer_size (at most {int(free / row):,} fit), store a "
            "smaller recurrent memory (memory_size, or memory_dtype=np.float16), or pack observations that are only "
            "0 or 1 to bits (binary=True)."
        )


class NonZeroIndex:
    """
    Draws places of non-zero values of an array without looking at all of it: the non-zero values are counted in
    blocks, a block is drawn by its count, and only that block is looked at.

    :param size: length of the array
    """

    BLOCK = 256

    def __init__(self, size: int) -> None:
        self.counts = np.zeros(-(-size // self.BLOCK), dtype=np.int32)

    @classmethod
    def nbytes(cls, size: int) -> int:
        """Bytes that the index of an array of this length takes."""
        return 4 * -(-size // cls.BLOCK)

    @property
    def total(self) -> int:
        """How many values are not zero."""
        return int(self.counts.sum())

    def update(self, slots: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """
        Note that values change.

        :param slots: distinct places, shape ``(k,)``
        :param before: the values so far, shape ``(k,)``
        :param after: the values from now on, shape ``(k,)``
        """
        change = (after != 0).astype(np.int32) - (before != 0)
        if change.any():
            np.add.at(self.counts, slots // self.BLOCK, change)

    def draw(self, rng: np.random.Generator, count: int, values: np.ndarray) -> np.ndarray:
        """
        Draw places of non-zero values, each with the same probability, with replacement.

        :param rng: source of randomness
        :param count: number of places
        :param values: the array as it is now, shape ``(size,)``
        :return: places, shape ``(count,)``; empty where every value is zero
        """
        ends = np.cumsum(self.counts)
        if ends[-1] == 0:
            return np.empty(0, dtype=np.int64)
        picks = rng.integers(ends[-1], size=count)
        blocks = np.searchsorted(ends, picks, side="right")
        ranks = picks - (ends[blocks] - self.counts[blocks])
        slots = blocks[:, None] * self.BLOCK + np.arange(self.BLOCK)
        hits = values.take(slots, mode="clip") != 0  # what is clipped lies behind the last hit of the last block
        return slots[np.arange(count), np.argmax(np.cumsum(hits, axis=1) > ranks[:, None], axis=1)]
