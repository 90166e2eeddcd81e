"""The seven pieces: shapes, rotations and wall kicks of the Super Rotation System (SRS), as plain data.

Coordinates are those of the rules: row 0 is the top visible row and rows grow downwards, column 0 is the leftmost.
A piece lies in a square box (I: 4x4, O: 2x2, the others 3x3) whose top-left corner is its position ``(x, y)``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NUM_PIECES: Final = 7
NUM_ROTATIONS: Final = 4
NUM_COLUMNS: Final = 10
NUM_ROWS: Final = 20  #: visible rows, 0 to 19
HIDDEN_ROWS: Final = 4  #: rows above the visible ones, -4 to -1
NO_PIECE: Final = -1  #: an empty hold, and the current piece after a lock-out
GARBAGE: Final = 8  #: the cell value of a garbage row; a piece's cells hold its id + 1

I, O, T, S, Z, J, L = range(NUM_PIECES)  # noqa: E741
PIECE_NAMES: Final = "IOTSZJL"

_SPAWN_SHAPES: Final = (
    ("....", "####", "....", "...."),
    ("##", "##"),
    (".#.", "###", "..."),
    (".##", "##.", "..."),
    ("##.", ".##", "..."),
    ("#..", "###", "..."),
    ("..#", "###", "..."),
)

Kick = tuple[int, int]

#: Wall kicks of a clockwise turn out of rotation 0, 1, 2 and 3: ``(x, y)`` with x to the right and y *up*, the
#: convention in which the tables are published (https://tetris.wiki/Super_Rotation_System). A counter-clockwise turn
#: back takes the same offsets with the signs changed.
_JLSTZ_KICKS: Final[tuple[tuple[Kick, ...], ...]] = (
    ((0, 0), (-1, 0), (-1, 1), (0, -2), (-1, -2)),
    ((0, 0), (1, 0), (1, -1), (0, 2), (1, 2)),
    ((0, 0), (1, 0), (1, 1), (0, -2), (1, -2)),
    ((0, 0), (-1, 0), (-1, -1), (0, 2), (-1, 2)),
)
_I_KICKS: Final[tuple[tuple[Kick, ...], ...]] = (
    ((0, 0), (-2, 0), (1, 0), (-2, -1), (1, 2)),
    ((0, 0), (-1, 0), (2, 0), (-1, 2), (2, -1)),
    ((0, 0), (2, 0), (-1, 0), (2, 1), (-1, -2)),
    ((0, 0), (1, 0), (-2, 0), (1, -2), (-2, 1)),
)
_O_KICKS: Final[tuple[tuple[Kick, ...], ...]] = (((0, 0),),) * NUM_ROTATIONS


def _cells_of_rotations() -> NDArray[np.int64]:
    """
    :return: the box cells of each piece in each rotation, from top to bottom and left to right:
        shape (pieces, rotations, 4 cells, row and column)
    """
    cells = np.zeros((NUM_PIECES, NUM_ROTATIONS, 4, 2), dtype=np.int64)
    for piece, picture in enumerate(_SPAWN_SHAPES):
        box = np.array([[character == "#" for character in row] for row in picture])
        for rotation in range(NUM_ROTATIONS):
            cells[piece, rotation] = np.argwhere(np.rot90(box, -rotation))
    return cells


CELLS: Final = _cells_of_rotations()
BOX_SIZES: Final = np.array([len(picture) for picture in _SPAWN_SHAPES], dtype=np.int64)
SPAWN_X: Final = np.where(BOX_SIZES == 2, 4, 3).astype(np.int64)
SPAWN_Y: Final = -CELLS[:, 0, :, 0].min(axis=1)  #: puts the top cells into visible row 0

#: The rectangle around the cells of each piece and rotation: its corner in the box, and its size.
TOPS: Final = CELLS[..., 0].min(axis=2)
LEFTS: Final = CELLS[..., 1].min(axis=2)
HEIGHTS: Final = CELLS[..., 0].max(axis=2) - TOPS + 1
WIDTHS: Final = CELLS[..., 1].max(axis=2) - LEFTS + 1


def kicks(piece: int, rotation: int, clockwise: bool) -> tuple[Kick, ...]:
    """
    :param piece: the piece's id
    :param rotation: the rotation before the turn
    :param clockwise: the direction of the turn
    :return: the offsets to test in this order, x to the right and y up
    """
    table = _I_KICKS if piece == I else _O_KICKS if piece == O else _JLSTZ_KICKS
    if clockwise:
        return table[rotation]
    return tuple((-x, -y) for x, y in table[(rotation - 1) % NUM_ROTATIONS])


def spawn_cells(piece: int) -> tuple[tuple[int, int], ...]:
    """
    :param piece: the piece's id
    :return: the (row, column) of its four cells on the field where it spawns
    """
    return tuple((int(SPAWN_Y[piece] + row), int(SPAWN_X[piece] + column)) for row, column in CELLS[piece, 0])
