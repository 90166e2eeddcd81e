"""Where a piece has room: its shape as bits, moved and turned over the rows of a field."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym.compiling import compiled
from tetris_gym.layout import LANE, PIECE, ROTATION, ROW_0, WALL, Game, X, Y
from tetris_gym.pieces import CELLS, NUM_COLUMNS, NUM_PIECES, NUM_ROTATIONS, NUM_ROWS, kicks


def _packed_shapes() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """
    :return: for each piece and rotation the four box rows in lanes of 16 bits, and for each box row the cell values in
        lanes of 4 bits
    """
    shapes = np.zeros((NUM_PIECES, NUM_ROTATIONS), dtype=np.int64)
    values = np.zeros((NUM_PIECES, NUM_ROTATIONS, 4), dtype=np.int64)
    for piece, rotation in np.ndindex(NUM_PIECES, NUM_ROTATIONS):
        for row, column in CELLS[piece, rotation]:
            shapes[piece, rotation] |= 1 << (16 * row + column)
            values[piece, rotation, row] |= (piece + 1) << (4 * column)
    return shapes, values


def _kick_table() -> NDArray[np.int64]:
    """
    :return: the five tests of each piece, direction (0 clockwise) and rotation before the turn, as (x, y) with y down
    """
    table = np.zeros((NUM_PIECES, 2, NUM_ROTATIONS, 5, 2), dtype=np.int64)
    for piece, direction, rotation in np.ndindex(*table.shape[:3]):
        for test, (x, y) in enumerate(kicks(piece, rotation, clockwise=direction == 0)):
            table[piece, direction, rotation, test] = x, -y
    return table


SHAPES, VALUES = _packed_shapes()
KICKS: Final = _kick_table()


@compiled
def fits(game: Game, shape: int, x: int, y: int) -> bool:
    """Whether a shape at (x, y) overlaps neither the stack nor the edges."""
    if x < -WALL or x > NUM_COLUMNS - 1 or y < -ROW_0 or y > NUM_ROWS - 1:
        return False
    row = y + ROW_0
    window = (
        (game[row] & LANE) | ((game[row + 1] & LANE) << 16) | ((game[row + 2] & LANE) << 32) | (game[row + 3] << 48)
    )
    return (window & (shape << (x + WALL))) == 0


@compiled
def find_turn(game: Game, direction: int) -> tuple[bool, int, int, int]:
    """The first wall-kick test that a turn passes: (passed, rotation, x, y)."""
    piece, rotation = game[PIECE], game[ROTATION]
    turned = (rotation + 1 + 2 * direction) & 3
    shape = SHAPES[piece, turned]
    for test in range(5):
        x = game[X] + KICKS[piece, direction, rotation, test, 0]
        y = game[Y] + KICKS[piece, direction, rotation, test, 1]
        if fits(game, shape, x, y):
            return True, turned, x, y
    return False, rotation, game[X], game[Y]


@compiled
def landing_row(game: Game, shape: int, x: int, y: int) -> int:
    """Where a shape comes to rest that falls from (x, y)."""
    while fits(game, shape, x, y + 1):
        y += 1
    return y
