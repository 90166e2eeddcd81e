"""What an agent sees: the observation spaces, and the compiled functions that fill them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tetris_gym.compiling import compiled
from tetris_gym.engine import preview
from tetris_gym.instructions import write_bits
from tetris_gym.layout import HOLD, HOLD_USED, NEXT, PIECE, ROTATION, ROW_0, WALL, Game, X, Y
from tetris_gym.pieces import CELLS, NO_PIECE, NUM_COLUMNS, NUM_PIECES, NUM_ROWS

NUM_CELLS: Final = NUM_ROWS * NUM_COLUMNS
ID_BITS: Final = 3
FLAT_SIZE: Final = NUM_CELLS + 2 * ID_BITS
PREVIEW_SIZE: Final = 5
_ROW: Final = (1 << NUM_COLUMNS) - 1
NOTHING: Final = NUM_PIECES  #: in "dict" observations, an empty hold and the current piece after a lock-out

#: What a flat observation holds, for networks and models that treat pictures and numbers in their own way: cells in
#: rows, and the ids of the current and the next piece as binary numbers.
FLAT_LAYOUT: Final[dict[str, Any]] = {
    "binary": True,
    "grids": [{"start": 0, "rows": NUM_ROWS, "columns": NUM_COLUMNS}],
    "codes": [{"start": NUM_CELLS, "bits": ID_BITS}, {"start": NUM_CELLS + ID_BITS, "bits": ID_BITS}],
}


def flat_space(size: int = FLAT_SIZE) -> spaces.Box:
    """
    :param size: number of entries, zeros beyond the first 206
    :return: the space of flat observations
    """
    return spaces.Box(0.0, 1.0, shape=(size,), dtype=np.float32)


def dict_space() -> spaces.Dict:
    """
    :return: the space of dictionary observations; piece ids are 0 to 6, and 7 stands for none
    """
    field = spaces.MultiBinary((NUM_ROWS, NUM_COLUMNS))
    return spaces.Dict(
        {
            "stack": field,
            "falling_piece": field,
            "current": spaces.Discrete(NUM_PIECES + 1),
            "preview": spaces.MultiDiscrete([NUM_PIECES] * PREVIEW_SIZE),
            "hold": spaces.Discrete(NUM_PIECES + 1),
            "can_hold": spaces.Discrete(2),
        }
    )


@compiled
def _write_piece(game: Game, field: NDArray[Any]) -> None:
    """Mark the cells of the falling piece that are visible."""
    piece, rotation = game[PIECE], game[ROTATION]
    if piece != NO_PIECE:
        for i in range(4):
            cell = (game[Y] + CELLS[piece, rotation, i, 0]) * NUM_COLUMNS + game[X] + CELLS[piece, rotation, i, 1]
            if cell >= 0:
                field[cell] = 1


@compiled
def _rows(game: Game, first: int, count: int) -> int:
    """The cells of up to six visible rows of the stack as bits, 10 each."""
    word = 0
    for y in range(count):
        word |= ((game[ROW_0 + first + y] >> WALL) & _ROW) << (NUM_COLUMNS * y)
    return word


@compiled
def write_flat(game: Game, observation: NDArray[np.float32]) -> None:
    """Write a flat observation: field, current and next piece in 3 bits each, zeros."""
    for first in range(0, 18, 6):
        word = _rows(game, first, 6)
        for bit in range(0, 64, 16):  # four bits too many, which the next rows overwrite
            write_bits(observation, NUM_COLUMNS * first + bit, word >> bit, 16)
    word = _rows(game, 18, 2)
    if game[PIECE] != NO_PIECE:
        word |= (game[PIECE] | game[NEXT] << 3) << 20
    write_bits(observation, 180, word, 16)
    write_bits(observation, FLAT_SIZE - 16, word >> 10, 16)
    for i in range(FLAT_SIZE, observation.size):
        observation[i] = 0.0
    _write_piece(game, observation)


@compiled
def write_dict(
    game: Game, stack: NDArray[np.int8], falling_piece: NDArray[np.int8], numbers: NDArray[np.int64]
) -> None:
    """Write the parts of a dictionary observation; numbers are the current piece, hold, can_hold and the preview."""
    for y in range(NUM_ROWS):
        row = game[ROW_0 + y] >> WALL
        for column in range(NUM_COLUMNS):
            stack[y * NUM_COLUMNS + column] = (row >> column) & 1
    for cell in range(NUM_CELLS):
        falling_piece[cell] = 0
    _write_piece(game, falling_piece)
    numbers[0] = game[PIECE] if game[PIECE] != NO_PIECE else NOTHING
    numbers[1] = game[HOLD] if game[HOLD] != NO_PIECE else NOTHING
    numbers[2] = 1 - game[HOLD_USED]
    preview(game, numbers[3:])
