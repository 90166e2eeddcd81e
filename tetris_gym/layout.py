"""How a game lies in one row of int64 numbers.

All state of a game is there, its random stream included: a snapshot is a copy of the row, and many games are the rows
of one array.

The row begins with the field, one number per field row: bits 0 to 15 say which columns are occupied (column ``c``
is bit ``c + 3``; the bits outside are the walls, always set) and 4 bits per column from bit 16 on hold the value of
the cell (piece id + 1, 8 for garbage). Three full rows above and below close the field, so that a collision test is
one AND of four rows with the piece, without any special case.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym.pieces import HIDDEN_ROWS, NUM_COLUMNS, NUM_ROWS

Game = NDArray[np.int64]

# Field rows: visible row y is number y + ROW_0 of the game's row.
WALL: Final = 3  #: rows that close the field above and below, and columns to the left of column 0
ROW_0: Final = WALL + HIDDEN_ROWS
TOP: Final = WALL  #: the highest row of the field
BOTTOM: Final = ROW_0 + NUM_ROWS - 1
FIELD_END: Final = BOTTOM + 1 + WALL

# The rest of the row.
(
    PIECE,  # the falling piece, or NO_PIECE after a lock-out
    ROTATION,
    X,
    Y,
    NEXT,
    HOLD,  # the held piece, or NO_PIECE
    HOLD_USED,  # 1 from a hold to the next lock
    BAG,  # the pieces left in the bag, 4 bits each, the next one lowest
    BAG_LEFT,
    RANDOM,  # the bits of the random stream's uint64 state
    STEPS,  # in this episode
    GRAVITY_INTERVAL,
    GRAVITY_LEFT,  # steps until gravity acts, this one included
    INVALID,  # 1 if the last placement was not reachable
    RUNNING,  # 1 from reset to game over
    AGGREGATE_HEIGHT_CHANGE,  # the outcome of the last step: the changes of the stack, and all from LINES_CLEARED on
    HOLES_CHANGE,
    BUMPINESS_CHANGE,
    LINES_CLEARED,
    PIECE_PLACED,
    TOTAL_LINES,
    PIECES_PLACED,
    LEVEL,
    SCORE,
    AGGREGATE_HEIGHT,
    HOLES,
    BUMPINESS,
    MAX_HEIGHT,
    GAME_OVER,
    DIFFICULTY,  # from the next reset on; this and the next survive a reset
    GIVEN_GRAVITY,  # the gravity interval at every difficulty, or 0
) = range(FIELD_END, FIELD_END + 31)
STATE_SIZE: Final = 64  # whole cache lines

# Masks of a field row.
LANE: Final = 0xFFFF  #: the bits that say which columns are occupied, walls included
COLUMNS: Final = ((1 << NUM_COLUMNS) - 1) << WALL
EMPTY_ROW: Final = LANE ^ COLUMNS


def new_games(count: int, difficulty: int = 0, gravity_interval: int | None = None) -> Game:
    """
    :param count: number of games
    :param difficulty: 0 to 10, from the first reset on
    :param gravity_interval: steps per row of gravity; None leaves it to the difficulty
    :return: rows of games that have not begun, shape (count, STATE_SIZE)
    """
    games = np.zeros((count, STATE_SIZE), dtype=np.int64)
    games[:, DIFFICULTY] = difficulty
    games[:, GIVEN_GRAVITY] = gravity_interval or 0
    return games


def read_field(game: Game) -> NDArray[np.uint8]:
    """
    :param game: a game's row
    :return: the stack's cell values (0 empty, piece id + 1, 8 garbage), hidden rows first: shape (24, 10)
    """
    rows = game[TOP : BOTTOM + 1, None] >> (16 + 4 * np.arange(NUM_COLUMNS))
    return (rows & 15).astype(np.uint8)
