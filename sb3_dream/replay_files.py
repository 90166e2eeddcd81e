"""Files of replay rows: a whole buffer in one, or in a chain of which each file holds what is new since the one before.

A file is a zip without compression, so its checksums tell damage: ``header`` with the state of the rings as JSON, and
pieces of arrays, each with the places of its rows. A piece of new rows has all columns. A piece of older rows has
nothing but the recurrent memories that were refreshed since (:meth:`SequenceReplayBuffer.update_memory`). Read in
order, the pieces give the buffer bit for bit; reading runs no code.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from stable_baselines3.common.save_util import open_path

from sb3_dream.atomic_files import replaced_at_once
from sb3_dream.plain_values import decode, encode
from sb3_dream.replay import SequenceReplayBuffer
from sb3_dream.replay_columns import Column
from sb3_dream.stored_settings import told
from sb3_dream.zip_files import opened

ReplayPath = str | os.PathLike[str] | io.BufferedIOBase
_PIECE = 8_192  # rows: few enough to be held twice
_NAMED = ("observation_space", "action_space", "memory_size", "mask_shape")


class ReplayChain:
    """
    The files of one buffer in a folder. Each save writes what is new; when all that was written so far would be more
    than twice the buffer, it is written anew instead. So what is written grows with what is stored, and never takes
    more than twice the buffer's size on the disk, beside what older checkpoints still need.

    :param folder: where the files are
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        self._nbytes = 0  # of all their pieces
        self._rings: Any = None  # those of the buffer that was saved last, and what it keeps track with
        self._refreshed: np.ndarray | None = None
        self._heads = np.zeros(0, dtype=np.int64)  # as they were then

    def save(self, buffer: SequenceReplayBuffer, name: str) -> None:
        """
        :param buffer: what to save; this makes it keep track of refreshed memories
        :param name: of the file to write
        """
        rings, rows = buffer._rings, buffer._rows
        row_nbytes = sum(column.row_nbytes for column in _columns(buffer))
        whole = self._rings is not rings or self._refreshed is not buffer._refreshed
        begin = np.zeros_like(rings.heads) if whole else self._heads
        new = _slots_since(buffer, begin)
        refreshed = np.zeros(0, dtype=np.int64)
        if buffer._refreshed is not None and not whole:
            buffer._refreshed[new] = False
            refreshed = np.flatnonzero(buffer._refreshed)
        nbytes = len(new) * row_nbytes + len(refreshed) * rows.memory.row_nbytes
        if not whole and self._nbytes + nbytes > 2 * buffer.n_rows * row_nbytes:
            whole, new, refreshed = True, _slots_since(buffer, np.zeros_like(rings.heads)), refreshed[:0]
            nbytes = len(new) * row_nbytes
        with replaced_at_once(self.folder / name) as file:
            _write(buffer, file, new, refreshed)
        self.names, self._nbytes = ([name], nbytes) if whole else ([*self.names, name], self._nbytes + nbytes)
        self._follow(buffer)

    def load(self, names: Sequence[str], make: Callable[[int, int], SequenceReplayBuffer]) -> SequenceReplayBuffer:
        """
        :param names: of the files, the oldest first
        :param make: makes an empty buffer of so many rows for so many environments
        :return: the buffer
        :raises ValueError: if a file is damaged or of another model
        """
        buffer, self._nbytes = _read([self.folder / name for name in names], make)
        self.names = list(names)
        self._follow(buffer)
        return buffer

    def _follow(self, buffer: SequenceReplayBuffer) -> None:
        self._rings, self._heads = buffer._rings, buffer._rings.heads.copy()
        if buffer._allocated:
            buffer._refreshed = np.zeros(buffer.n_envs * buffer.buffer_size, dtype=np.bool_)
        self._refreshed = buffer._refreshed


def write_replay(path: ReplayPath, buffer: SequenceReplayBuffer) -> None:
    """
    Write a whole buffer into one file.

    :param path: a file; ".pkl" is added where there is no suffix, as Stable-Baselines3 does. Or an open file
    :param buffer: the buffer
    """
    target: Any
    if isinstance(path, (str, os.PathLike)):
        path = Path(path)
        target = replaced_at_once(path if path.suffix else path.with_name(f"{path.name}.pkl"))
    else:
        target = nullcontext(open_path(path, "w"))
    with target as file:
        _write(buffer, file, _slots_since(buffer, np.zeros_like(buffer._rings.heads)), np.zeros(0, dtype=np.int64))


def read_replay(path: ReplayPath, make: Callable[[int, int], SequenceReplayBuffer]) -> SequenceReplayBuffer:
    """
    :param path: a file that :func:`write_replay` wrote; ".pkl" may be left out. Or an open file
    :param make: makes an empty buffer of so many rows for so many environments
    :return: the buffer
    :raises ValueError: if the file is damaged, something else, or of another model
    """
    if isinstance(path, (str, os.PathLike)):
        path = Path(path)
        return _read([path if path.exists() else path.with_name(f"{path.name}.pkl")], make)[0]
    return _read([open_path(path, "r")], make)[0]


def _columns(buffer: SequenceReplayBuffer) -> list[Column]:
    """All that is stored of a row but ``left``, which follows from the ages."""
    return [*buffer._rows.columns, buffer._rings.age]


def _slots_since(buffer: SequenceReplayBuffer, heads: np.ndarray) -> np.ndarray:
    """Places of the rows that were added after the write heads were there, and are still stored."""
    rings = buffer._rings
    begins = np.maximum(heads, rings.heads - rings.sizes)
    found = [rings.slots(i, np.arange(begins[i], rings.heads[i])) for i in range(rings.n_rings)]
    return np.concatenate(found).astype(np.int64)


def _write(buffer: SequenceReplayBuffer, file: BinaryIO, new: np.ndarray, refreshed: np.ndarray) -> None:
    columns = _columns(buffer)
    parts = [(columns, slots) for slots in _pieces(new)] + [
        ([buffer._rows.memory], slots) for slots in _pieces(refreshed)
    ]
    header = {name: getattr(buffer, name) for name in _NAMED}
    header |= {"total_size": buffer.total_size, "n_envs": buffer.n_envs, "layout": _layout(buffer)}
    header |= {"heads": buffer._rings.heads, "starts": buffer._rings.starts, "rng": buffer.rng}
    header |= {"pending_reward": buffer._pending_reward, "fresh": buffer._fresh}
    header |= {"pieces": [len(columns) for columns, _ in parts]}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header", json.dumps(encode(header)))
        for i, (columns, slots) in enumerate(parts):
            for name, values in (
                ("slots", slots),
                *((str(j), column.stored(slots)) for j, column in enumerate(columns)),
            ):
                with archive.open(f"{i}/{name}.npy", "w") as part:
                    np.lib.format.write_array(part, values, allow_pickle=False)


def _pieces(slots: np.ndarray) -> Iterator[np.ndarray]:
    return (slots[i : i + _PIECE] for i in range(0, len(slots), _PIECE))


def _layout(buffer: SequenceReplayBuffer) -> list[Any]:
    return [[column.name, list(column.stored_shape), column.stored_dtype.str] for column in _columns(buffer)]


def _read(sources: Sequence[Any], make: Callable[[int, int], SequenceReplayBuffer]) -> tuple[SequenceReplayBuffer, int]:
    """The buffer, and the bytes of all pieces."""
    buffer: SequenceReplayBuffer | None = None
    nbytes = 0
    for source in sources:
        name = str(source) if isinstance(source, Path) else "the file"
        try:
            with opened(source) as archive:
                header = decode(json.loads(archive.read("header")))
                if buffer is None:
                    buffer = make(header["total_size"], header["n_envs"])
                    there = np.zeros(buffer.n_envs * buffer.buffer_size, dtype=np.bool_)
                _require_same(header, buffer, name)
                if not buffer._allocated and header["heads"].any():
                    buffer._allocate()
                nbytes += _read_pieces(archive, header, buffer, there)
                if source is sources[-1]:
                    _restore(buffer, header, there)
        except (_OtherModelError, FileNotFoundError, MemoryError):
            raise
        except Exception as error:  # whatever reading a wrong file may raise
            raise ValueError(f"{name} holds no replay of DREAM, or it is damaged: {told(error)}") from error
    assert buffer is not None, "there is at least one file"
    return buffer, nbytes


class _OtherModelError(ValueError):
    """The rows of another model."""


def _require_same(header: dict[str, Any], buffer: SequenceReplayBuffer, name: str) -> None:
    ours = {name: getattr(buffer, name) for name in _NAMED} | {"layout": _layout(buffer)}
    for key, value in ours.items():
        if header[key] != value:
            raise _OtherModelError(
                f"the replay buffer in {name} is of another model: its {key} is {header[key]}, not {value}"
            )


def _read_pieces(
    archive: zipfile.ZipFile, header: dict[str, Any], buffer: SequenceReplayBuffer, there: np.ndarray
) -> int:
    """Fill in the rows, and note in ``there`` which ones came; the bytes of all pieces."""
    columns, nbytes = _columns(buffer), 0
    for i, count in enumerate(header["pieces"]):
        slots = _array(archive, f"{i}/slots.npy")
        if count not in (len(columns), 1) or slots.dtype.kind != "i" or (slots < 0).any():
            raise ValueError(f"piece {i} is none of rows")
        for j, column in enumerate(columns if count == len(columns) else [buffer._rows.memory]):
            values = _array(archive, f"{i}/{j}.npy")
            if values.dtype != column.stored_dtype or values.shape != (len(slots), *column.stored_shape):
                raise ValueError(f"{column.name} in piece {i} is of shape {values.shape} and type {values.dtype}")
            column.write(slots, values)
            nbytes += len(slots) * column.row_nbytes
        there[slots] |= count == len(columns)
    return nbytes


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Its header may promise more than there is, so it only tells how to look at what there is."""
    with archive.open(name) as part:
        np.lib.format.read_magic(part)
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(part)
        if dtype.hasobject:
            raise ValueError(f"{name} holds pickled objects")
        return np.frombuffer(bytearray(part.read()), dtype).reshape(shape, order="F" if columns_first else "C")


def _restore(buffer: SequenceReplayBuffer, header: dict[str, Any], there: np.ndarray) -> None:
    rings, rows = buffer._rings, buffer._rows
    heads, starts = header["heads"], header["starts"]
    if heads.shape != rings.heads.shape or (heads < 0).any() or (starts < -1).any() or (starts > heads).any():
        raise ValueError(f"its write heads are at {heads}, its sequences begin at {starts}")
    rings.heads[:], rings.starts[:] = heads, starts
    if not there[_slots_since(buffer, np.zeros_like(heads))].all():
        raise ValueError("rows are missing")
    if not isinstance(header["rng"], np.random.Generator):
        raise ValueError("its random generator is missing")
    buffer._pending_reward[:], buffer._fresh[:] = header["pending_reward"], header["fresh"]
    buffer.rng = header["rng"]
    if buffer._allocated:
        rings.restore_left()
        rows.count_rewards()
    buffer._update_position()
