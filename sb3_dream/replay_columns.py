"""Columns of replayed rows: how one value per row is checked, packed, stored and read back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import check_for_nested_spaces, get_obs_shape

from sb3_dream.nn.transfers import to_device

# ``VecNormalize`` returns a final observation after normalising and undoing it, so a stored 1 may arrive as 0.9999999.
BINARY_TOLERANCE = 1e-3
_PROCESSOR = th.device("cpu")


class Column:
    """
    One value of a fixed shape and dtype for every row, as an array: for what decides which rows are drawn. No memory is
    taken before :meth:`allocate`.

    :param name: what the value is, for error messages
    :param shape: shape of one row's value
    :param dtype: dtype in which it is stored and read
    """

    device = _PROCESSOR

    def __init__(self, name: str, shape: Sequence[int], dtype: Any) -> None:
        self.name = name
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.stored_shape = self.shape
        self.stored_dtype = self.dtype
        self.allocate(0)

    @property
    def row_nbytes(self) -> int:
        """Bytes that one row takes."""
        return math.prod(self.stored_shape) * self.stored_dtype.itemsize

    def allocate(self, rows: int) -> None:
        """Make room for ``rows`` rows of zeros; what was stored is dropped."""
        self.data: Any = np.zeros((rows, *self.stored_shape), dtype=self.stored_dtype)

    def _check(self, values: Any, count: int) -> Any:
        values = values if isinstance(values, th.Tensor) else np.asarray(values)
        if math.prod(values.shape) != count * math.prod(self.shape) or (values.ndim > 0 and len(values) != count):
            raise ValueError(
                f"Replay buffer: {self.name} has shape {tuple(values.shape)}, but {(count, *self.shape)} was expected."
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

    def write(self, slots: np.ndarray, stored: Any) -> None:
        """
        :param slots: distinct places in the store, ``(k,)``
        :param stored: from :meth:`encode` or :meth:`stored`
        """
        self.data[slots] = stored

    def stored(self, slots: np.ndarray) -> np.ndarray:
        """
        :param slots: integer array of any shape, places in the store
        :return: a new array of shape ``(*slots.shape, *stored_shape)``
        """
        return self.data.take(slots, axis=0)

    def rearrange(self, rows: int, slots: np.ndarray, origins: np.ndarray) -> None:
        """
        Move rows into a store of another size.

        :param rows: size of the new store
        :param slots: places in the new store, ``(k,)``
        :param origins: where their rows lie in the old one, ``(k,)``
        """
        old = self.data
        self.allocate(rows)
        self.data[self._places(slots)] = old[self._places(origins)]

    def _places(self, slots: np.ndarray) -> Any:
        """What takes rows out of :attr:`data`."""
        return slots

    def __getstate__(self) -> dict[str, Any]:
        # The buffer pickles the rows that are in use; the empty rest of the store would only fill the disk.
        return {name: value for name, value in self.__dict__.items() if name != "data"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.allocate(0)


class TensorColumn(Column):
    """
    A column for what is learned from, on any device. Rows are stored as bytes, since PyTorch does not move values of
    every dtype.

    :param name: what the value is, for error messages
    :param shape: shape of one row's value
    :param dtype: dtype in which it is stored and read
    :param device: where the rows are
    """

    padding = 0  # what every byte of a row is that is not real

    def __init__(self, name: str, shape: Sequence[int], dtype: Any, device: th.device = _PROCESSOR) -> None:
        self.device = device
        super().__init__(name, shape, dtype)

    def allocate(self, rows: int) -> None:
        size = (rows, self.row_nbytes)
        if self.device.type == "cpu":  # zeros of NumPy take no memory before something else is written there
            self.data = th.from_numpy(np.zeros(size, np.uint8))
        else:
            self.data = th.zeros(size, dtype=th.uint8, device=self.device)

    def write(self, slots: np.ndarray, stored: np.ndarray | th.Tensor | int) -> None:
        """
        :param slots: distinct places in the store, ``(k,)``
        :param stored: from :meth:`encode` or :meth:`stored`; or what every byte is to be
        """
        if isinstance(stored, np.ndarray):  # the copy is contiguous and may be written to, as PyTorch wants it
            stored = th.from_numpy(np.array(stored, order="C"))
        if isinstance(stored, th.Tensor):
            values = stored.reshape(len(slots), math.prod(self.stored_shape))
            stored = to_device(_reinterpreted(values, th.uint8), self.device)
        self.data[self._places(slots)] = stored

    def stored(self, slots: np.ndarray) -> np.ndarray:
        rows = self.data[self._places(slots)].cpu().numpy()
        return rows.view(self.stored_dtype).reshape(*slots.shape, *self.stored_shape)

    def _places(self, slots: np.ndarray) -> th.Tensor:
        return to_device(slots, self.device)

    def read(self, slots: np.ndarray, padded: np.ndarray | None = None) -> th.Tensor:
        """
        :param slots: integer array of any shape, places in the store
        :param padded: bool of the same shape, which rows are not real; None if all are
        :return: a new tensor of shape ``(*slots.shape, *shape)`` where the rows are
        """
        rows = self.data[self._places(slots)]
        if padded is not None:
            rows.masked_fill_(to_device(padded, self.device)[..., None], self.padding)
        return self._decode(rows)

    def _decode(self, rows: th.Tensor) -> th.Tensor:
        """Bytes (..., row_nbytes) to values (..., *shape)."""
        return _reinterpreted(rows, _tensor_dtype(self.dtype)).reshape(*rows.shape[:-1], *self.shape)


class SaturatingColumn(TensorColumn):
    """A column of floats in which values beyond the range of a small dtype become its largest, not infinity."""

    def encode(self, values: Any, count: int) -> Any:
        """
        :param values: array-like or tensor of shape ``(count, *shape)``
        :return: tensor of that shape, where the values are
        """
        values = self._check(values, count)
        values = values if isinstance(values, th.Tensor) else th.tensor(values)
        limit = float(np.finfo(self.stored_dtype).max)
        # By way of torch: it converts to float16 with the processor's vector instructions, NumPy value by value.
        return values.clamp(-limit, limit).to(_tensor_dtype(self.stored_dtype))


class BitColumn(TensorColumn):
    """
    A column of zeros and ones, one bit each: ``ceil(size / 8)`` bytes a row.

    :param name: what the value is, for error messages
    :param shape: shape of one row's value
    :param dtype: dtype in which it is read
    :param device: where the rows are
    :param padding: what every byte of a row is that is not real
    """

    def __init__(
        self, name: str, shape: Sequence[int], dtype: Any, device: th.device = _PROCESSOR, padding: int = 0
    ) -> None:
        super().__init__(name, shape, dtype, device)
        self.bits, self.padding = math.prod(self.shape), padding
        self.stored_shape = (-(-self.bits // 8),)
        self.stored_dtype = np.dtype(np.uint8)
        self.allocate(0)

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

    def _decode(self, rows: th.Tensor) -> th.Tensor:
        place = th.arange(7, -1, -1, dtype=th.uint8, device=rows.device)  # of a byte's bits, the highest first
        bits = (rows[..., None] >> place & 1).flatten(-2)[..., : self.bits]  # (..., bytes, 8) to (..., bits)
        return bits.to(_tensor_dtype(self.dtype)).reshape(*rows.shape[:-1], *self.shape)


def _reinterpreted(rows: th.Tensor, dtype: th.dtype) -> th.Tensor:
    """The same bytes as values of another dtype, along the last dimension."""
    return rows.view(dtype) if rows.shape[-1] else rows.to(dtype)


def _tensor_dtype(dtype: np.dtype) -> th.dtype:
    return th.from_numpy(np.zeros(0, dtype)).dtype


def _packs(space: spaces.Space, binary: bool | Literal["auto"]) -> bool:
    if binary is False:
        return False
    if isinstance(space, spaces.MultiBinary):
        return True
    if not (isinstance(space, spaces.Box) and np.all(space.low >= 0) and np.all(space.high <= 1)):
        return False
    return binary is True or space.dtype is None or space.dtype.kind in "biu"


def observation_columns(
    space: spaces.Space, binary: bool | Literal["auto"], device: th.device = _PROCESSOR
) -> dict[str, TensorColumn]:
    """
    The columns that store an observation.

    :param space: observation space
    :param binary: ``"auto"`` packs ``MultiBinary`` and integer ``Box`` spaces within [0, 1] to bits; ``True`` packs
        float boxes within [0, 1] too, for observations known to be only 0 or 1; ``False`` packs nothing
    :param device: where the rows are
    :return: one column for each key of a ``Dict`` space, or one under the key ``""``
    :raises ValueError: if ``binary`` is something else, or ``True`` where nothing can be packed
    """
    if binary not in (True, False, "auto"):
        raise ValueError(f"binary must be True, False or 'auto', not {binary!r}.")
    check_for_nested_spaces(space)
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    columns: dict[str, TensorColumn] = {}
    for key, part in parts.items():
        name = f"observation[{key!r}]" if key else "observation"
        shape = get_obs_shape(part)
        assert not isinstance(shape, dict), "nested Dict spaces were refused above"
        if _packs(part, binary):
            dtype = np.float32 if np.issubdtype(part.dtype, np.floating) else part.dtype
            columns[key] = BitColumn(name, shape, dtype, device)
        else:
            columns[key] = TensorColumn(name, shape, part.dtype, device)
    if binary is True and not any(isinstance(column, BitColumn) for column in columns.values()):
        raise ValueError(f"binary=True needs a MultiBinary space or a Box within [0, 1] to pack to bits, got {space}.")
    return columns
