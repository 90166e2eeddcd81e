"""Columns of replayed rows: how one value per row is checked, packed, stored and read back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import psutil
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import check_for_nested_spaces, get_obs_shape

# ``VecNormalize`` returns a final observation after normalising and undoing it, so a stored 1 may arrive as 0.9999999.
BINARY_TOLERANCE = 1e-3


class Column:
    """
    One value of a fixed shape and dtype for every row. No memory is taken before :meth:`allocate`.

    :param name: what the value is, for error messages
    :param shape: shape of one row's value
    :param dtype: dtype in which it is stored and read
    """

    def __init__(self, name: str, shape: Sequence[int], dtype: Any) -> None:
        self.name = name
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.stored_shape = self.shape
        self.stored_dtype = self.dtype
        self.data = self._empty(0)

    def _empty(self, rows: int) -> np.ndarray:
        return np.zeros((rows, *self.stored_shape), dtype=self.stored_dtype)

    @property
    def row_nbytes(self) -> int:
        """Bytes that one row takes."""
        return math.prod(self.stored_shape) * self.stored_dtype.itemsize

    def allocate(self, rows: int) -> None:
        """Make room for ``rows`` rows of zeros; what was stored is dropped."""
        self.data = self._empty(rows)

    def _check(self, values: Any, count: int) -> np.ndarray:
        values = np.asarray(values)
        if values.size != count * math.prod(self.shape) or (values.ndim > 0 and len(values) != count):
            raise ValueError(
                f"Replay buffer: {self.name} has shape {values.shape}, but {(count, *self.shape)} was expected."
            )
        return values.reshape(count, *self.shape)

    def encode(self, values: Any, count: int) -> np.ndarray:
        """
        Bring values into the form in which they are stored.

        :param values: array-like of shape ``(count, *shape)``
        :param count: number of rows
        :return: array of shape ``(count, *stored_shape)``
        :raises ValueError: if the shape is another
        """
        return self._check(values, count).astype(self.stored_dtype, copy=False)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """
        Undo :meth:`encode`.

        :param stored: array of shape ``(..., *stored_shape)``
        :return: array of shape ``(..., *shape)``
        """
        return stored

    def read(self, slots: np.ndarray) -> np.ndarray:
        """
        :param slots: integer array of any shape, places in the store
        :return: a new array of shape ``(*slots.shape, *shape)``
        """
        return self.decode(self.data.take(slots, axis=0))

    def __getstate__(self) -> dict[str, Any]:
        # The buffer pickles the rows that are in use; the empty rest of the store would only fill the disk.
        return {**self.__dict__, "data": self._empty(0)}


class SaturatingColumn(Column):
    """A column of floats in which values beyond the range of a small dtype become its largest, not infinity."""

    def encode(self, values: Any, count: int) -> np.ndarray:
        limit = float(np.finfo(self.stored_dtype).max)
        # By way of torch: it converts to float16 with the processor's vector instructions, NumPy value by value.
        floats = th.tensor(self._check(values, count)).clamp(-limit, limit)
        return floats.to(th.from_numpy(self.data).dtype).numpy()


class BitColumn(Column):
    """
    A column of zeros and ones, one bit each: ``ceil(size / 8)`` bytes a row.

    :param name: what the value is, for error messages
    :param shape: shape of one row's value
    :param dtype: dtype in which it is read
    """

    def __init__(self, name: str, shape: Sequence[int], dtype: Any) -> None:
        super().__init__(name, shape, dtype)
        self.bits = math.prod(self.shape)
        self.stored_shape = (-(-self.bits // 8),)
        self.stored_dtype = np.dtype(np.uint8)
        self.data = self._empty(0)

    def encode(self, values: Any, count: int) -> np.ndarray:
        """
        :raises ValueError: if the shape is another, or if a value is neither 0 nor 1
        """
        values = self._check(values, count).reshape(count, self.bits)
        bits = values > 0.5
        if values.dtype != np.bool_ and not np.array_equal(values, bits):
            wrong = ~(np.abs(values - bits.astype(np.float64)) <= BINARY_TOLERANCE)
            if wrong.any():
                row, bit = np.argwhere(wrong)[0]
                place = tuple(int(i) for i in np.unravel_index(bit, self.shape))
                raise ValueError(
                    f"Replay buffer: {self.name} is stored as bits, so every value must be 0 or 1, but the value at "
                    f"{place} is {values[row, bit]}. Pass binary=False to store it as {self.dtype}."
                )
        return np.packbits(bits, axis=-1)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        lead = stored.shape[:-1]
        bits = np.unpackbits(stored.reshape(-1)).reshape(*lead, 8 * self.stored_shape[0])[..., : self.bits]
        return bits.astype(self.dtype, order="C").reshape(*lead, *self.shape)


def _packs(space: spaces.Space, binary: bool | Literal["auto"]) -> bool:
    if binary is False:
        return False
    if isinstance(space, spaces.MultiBinary):
        return True
    if not (isinstance(space, spaces.Box) and np.all(space.low >= 0) and np.all(space.high <= 1)):
        return False
    return binary is True or space.dtype is None or space.dtype.kind in "biu"


def observation_columns(space: spaces.Space, binary: bool | Literal["auto"]) -> dict[str, Column]:
    """
    The columns that store an observation.

    :param space: observation space
    :param binary: ``"auto"`` packs ``MultiBinary`` and integer ``Box`` spaces within [0, 1] to bits; ``True`` packs
        float boxes within [0, 1] too, for observations known to be only 0 or 1; ``False`` packs nothing
    :return: one column for each key of a ``Dict`` space, or one under the key ``""``
    :raises ValueError: if ``binary`` is something else, or ``True`` where nothing can be packed
    """
    if binary not in (True, False, "auto"):
        raise ValueError(f"binary must be True, False or 'auto', not {binary!r}.")
    check_for_nested_spaces(space)
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    columns: dict[str, Column] = {}
    for key, part in parts.items():
        name = f"observation[{key!r}]" if key else "observation"
        shape = get_obs_shape(part)
        assert not isinstance(shape, dict), "nested Dict spaces were refused above"
        if _packs(part, binary):
            dtype = np.float32 if np.issubdtype(part.dtype, np.floating) else part.dtype
            columns[key] = BitColumn(name, shape, dtype)
        else:
            columns[key] = Column(name, shape, part.dtype)
    if binary is True and not any(isinstance(column, BitColumn) for column in columns.values()):
        raise ValueError(f"binary=True needs a MultiBinary space or a Box within [0, 1] to pack to bits, got {space}.")
    return columns


def check_free_memory(nbytes: int, rows: int) -> None:
    """
    Refuse a replay buffer that does not fit, before the machine begins to swap.

    :param nbytes: bytes that the buffer is about to take
    :param rows: number of rows in those bytes
    :raises MemoryError: if that is more than what is free
    """
    free = psutil.virtual_memory().available
    if nbytes > free:
        row = nbytes / rows
        raise MemoryError(
            f"The replay buffer needs {nbytes / 1e9:.2f} GB ({rows:,} rows of {row:,.0f} bytes), but only "
            f"{free / 1e9:.2f} GB are free. Lower buffer_size (at most {int(free / row):,} fit), store a smaller "
            "recurrent memory (memory_size, or memory_dtype=np.float16), or pack observations that are only "
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
