"""The vector instructions against the same arithmetic of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from tetris_gym.instructions import count_bits, write_bits
from tetris_gym.rows import any_bit, first_rows, load_rows, moved_down, single_bit, store_rows, without


@njit
def compute(one, other, games, shift, count, results):
    a, b = load_rows(one, 0), load_rows(other, 0)
    store_rows(results[0], 0, a & b)
    store_rows(results[1], 0, a | b)
    store_rows(results[2], 0, a ^ b)
    store_rows(results[3], 0, a + b)
    store_rows(results[4], 0, a << shift)
    store_rows(results[5], 0, a >> shift)
    store_rows(results[6], 0, without(a, b))
    store_rows(results[7], 0, moved_down(a, 3))
    store_rows(results[8], 0, moved_down(a, -2))
    store_rows(results[9], 0, first_rows(count))
    store_rows(results[10], 0, single_bit(count - 1, shift))
    store_rows(results[11], 0, load_rows(games, 1))
    return any_bit(a & b)


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_32_numbers_of_16_bits(seed):
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 2**16, (2, 32), dtype=np.uint16) >> np.uint16(rng.integers(16))
    games = rng.integers(-(2**63), 2**63, 33)
    shift, count = int(rng.integers(16)), int(rng.integers(1, 33))
    results = np.zeros((12, 32), dtype=np.uint16)
    assert compute(one, other, games, shift, count, results) == (one & other).any()
    numbers = np.arange(32)
    expected = [
        one & other,
        one | other,
        one ^ other,
        one + other,
        one << shift,
        one >> shift,
        one & ~other,
        np.append(np.zeros(3), one[:-3]),
        np.append(one[2:], np.zeros(2)),
        np.where(numbers < count, 0xFFFF, 0),
        np.where(numbers == count - 1, 1 << shift, 0),
        games[1:] & 0xFFFF,
    ]
    assert np.array_equal(results, expected)


@njit
def write(word, numbers, flags):
    write_bits(numbers, 1, word, 16)
    write_bits(flags, 2, word, 32)
    return count_bits(word)


@pytest.mark.parametrize("word", [0, -1, 0b1011, 0x0123_4567_89AB_CDEF, -(2**63)])
def test_bits_are_written_as_numbers_and_flags(word):
    numbers, flags = np.full(18, 7.0, dtype=np.float32), np.zeros(40, dtype=np.bool_)
    bits = [word >> i & 1 for i in range(64)]
    assert write(word, numbers, flags) == sum(bits)
    assert numbers.tolist() == [7.0, *bits[:16], 7.0], "neither more nor fewer than 16"
    assert flags.tolist() == [False] * 2 + [bit == 1 for bit in bits[:32]] + [False] * 6
