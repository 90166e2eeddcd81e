"""Which row of a replay buffer lies where: one ring for each environment, cut into sequences. Knows no contents."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np

from sb3_dream.replay_columns import Column

OPEN = np.iinfo(np.int32).max  # "rows left" of a sequence whose end is not known yet


class Rings:
    """
    ``n_rings`` rings of ``capacity`` rows, each with its own write head. A row is named by its ring and by its
    absolute number: the count of rows that the ring had received before it. Absolute numbers are never reused, so a
    number tells whether its row has been overwritten. A *sequence* is an unbroken run of rows of one episode.

    For every stored row the rings keep its distance from the first row of its sequence (``age``) and to the last
    one (``left``), 4 bytes each.

    :param n_rings: number of rings
    :param capacity: rows in each, at least 2
    :raises ValueError: if the capacity is less than 2, since a single row holds no transition
    """

    def __init__(self, n_rings: int, capacity: int) -> None:
        if n_rings < 1 or capacity < 2:
            raise ValueError(
                f"A replay buffer needs at least 1 environment and 2 rows for each, got {n_rings} environments with "
                f"{capacity} rows each: raise buffer_size."
            )
        self.n_rings = n_rings
        self.capacity = capacity
        self.heads = np.zeros(n_rings, dtype=np.int64)
        self.starts = np.full(n_rings, -1, dtype=np.int64)  # first row of the unfinished sequence; -1: there is none
        self.age = Column("age", (), np.int32)
        self.left = Column("left", (), np.int32)

    def allocate(self) -> None:
        """Make room for the places in the sequences."""
        self.age.allocate(self.n_rings * self.capacity)
        self.left.allocate(self.n_rings * self.capacity)

    @property
    def sizes(self) -> np.ndarray:
        """Stored rows of each ring, shape ``(n_rings,)``."""
        return np.minimum(self.heads, self.capacity)

    def slots(self, rings: Any, rows: Any) -> Any:
        """Places in the columns of the rows with these absolute numbers; integers or arrays that broadcast."""
        return rings * self.capacity + rows % self.capacity

    def locate(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rings and absolute row numbers of what is stored at these places: the inverse of :meth:`slots`."""
        rings, offsets = np.divmod(slots, self.capacity)
        newest = self.heads[rings] - 1
        return rings, newest - (newest - offsets) % self.capacity

    def append(self, rings: np.ndarray) -> np.ndarray:
        """
        Take one new row in each of several distinct rings, continuing its sequence or beginning one.

        :param rings: ring numbers, shape ``(k,)``
        :return: the places of the new rows, shape ``(k,)``
        """
        rows = self.heads[rings]
        starts = self.starts[rings]
        starts = np.where(starts < 0, rows, starts)
        slots = self.slots(rings, rows)
        self.age.data[slots] = np.minimum(rows - starts, OPEN)
        self.left.data[slots] = OPEN
        self.starts[rings] = starts
        self.heads[rings] = rows + 1
        return slots

    def append_sequence(self, ring: int, length: int) -> np.ndarray:
        """
        Take the rows of a whole sequence in one ring; an unfinished sequence there is closed first.

        :param ring: ring number
        :param length: rows of the sequence
        :return: the places of its last ``min(length, capacity)`` rows; the others are overwritten before they are there
        """
        self.close([ring])
        ages = np.arange(max(0, length - self.capacity), length)
        slots = self.slots(ring, self.heads[ring] + ages)
        self.age.data[slots] = ages
        self.left.data[slots] = length - 1 - ages
        self.heads[ring] += length
        return slots

    def close(self, rings: np.ndarray | list[int]) -> None:
        """End the unfinished sequence of each of these rings, where there is one."""
        for ring in rings:
            start, head = self.starts[ring], self.heads[ring]
            if start >= 0:
                rows = np.arange(max(start, head - self.capacity), head)
                self.left.data[self.slots(ring, rows)] = head - 1 - rows
                self.starts[ring] = -1

    def restore_left(self) -> None:
        """Work out ``left`` of all rows from their ages and the heads: a sequence ends where the next age is 0."""
        for ring in range(self.n_rings):
            head, start = int(self.heads[ring]), int(self.starts[ring])
            rows = np.arange(max(0, head - self.capacity), head)
            slots = self.slots(ring, rows)
            last = np.append(self.age.data[slots[1:]] == 0, True)[: len(rows)]
            ends = rows[last][np.cumsum(last) - last]
            unfinished = np.logical_and(start >= 0, ends == head - 1)
            self.left.data[slots] = np.where(unfinished, OPEN, ends - rows)

    def bounds(self, rings: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        The stored part of the sequences to which stored rows belong.

        :param rings: ring numbers, shape ``(k,)``
        :param rows: absolute row numbers, shape ``(k,)``
        :return: absolute numbers of the first row, and of the row after the last, shapes ``(k,)``
        """
        slots = self.slots(rings, rows)
        heads = self.heads[rings]
        oldest = np.maximum(heads - self.capacity, 0)
        return np.maximum(rows - self.age.data[slots], oldest), np.minimum(rows + self.left.data[slots] + 1, heads)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Draw stored rows, each with the same probability, with replacement.

        :return: rings and absolute row numbers, shapes ``(count,)``
        """
        sizes = self.sizes
        ends = np.cumsum(sizes)
        picks = rng.integers(ends[-1], size=count)
        rings = np.searchsorted(ends, picks, side="right")
        return rings, picks - ends[rings] + self.heads[rings]

    def arrivals(self) -> np.ndarray:
        """Places of the rows whose predecessor in the same sequence is stored too: the ends of all transitions."""
        arrived = self.age.data > 0
        rings = np.flatnonzero(self.heads)
        arrived[self.slots(rings, self.heads[rings] - self.sizes[rings])] = False
        return np.flatnonzero(arrived)

    def predecessors(self, slots: np.ndarray) -> np.ndarray:
        """Places of the rows before those at ``slots`` in their rings."""
        return np.where(slots % self.capacity == 0, slots + self.capacity, slots) - 1

    def newest_sequences(self) -> Iterator[tuple[int, int, int]]:
        """
        Walk over the stored sequences, from the one that ended the fewest rows ago in its ring to the oldest.

        :return: an iterator of ring, absolute number of the first stored row, number of stored rows
        """

        def walk(ring: int) -> Iterator[tuple[int, int, int, int]]:
            head = int(self.heads[ring])
            oldest = max(0, head - self.capacity)
            end = head
            while end > oldest:
                start = max(end - 1 - int(self.age.data[self.slots(ring, end - 1)]), oldest)
                yield head - end, ring, start, end - start
                end = start

        for _, ring, start, length in heapq.merge(*map(walk, range(self.n_rings)), key=itemgetter(0)):
            yield ring, start, length

    def dealt_to(self, rings: Rings) -> tuple[Rings, np.ndarray, np.ndarray]:
        """
        Deal the stored sequences to other rings: the oldest first, each to the ring that has received the fewest rows.
        Where a ring overflows, its oldest rows are overwritten.

        :param rings: empty rings of any number and capacity
        :return: these rings; places in them that are filled, ``(k,)``; where those rows lie in the old rings, ``(k,)``
        """
        rings.allocate()
        origins = np.full(rings.n_rings * rings.capacity, -1, dtype=np.int64)
        for ring, start, length in reversed(list(self.newest_sequences())):
            slots = rings.append_sequence(int(np.argmin(rings.heads)), length)
            origins[slots] = self.slots(ring, np.arange(start, start + length))[-len(slots) :]
        filled = np.flatnonzero(origins >= 0)
        return rings, filled, origins[filled]
