"""The rules of the game, over one row of integers.

All state of a game lies in one row of int64 numbers, its random stream included: a snapshot is a copy of the row,
and many games are the rows of one array. The functions here play one game; batches loop over them. Nothing here
knows of Gymnasium, pictures or rewards: a step leaves its outcome in the row.

The row begins with the field, one number per field row: bits 0 to 15 say which columns are occupied (column ``c``
is bit ``c + 3``; the bits outside are the walls, always set) and 4 bits per column from bit 16 on hold the value of
the cell (piece id + 1, 8 for garbage). Three full rows above and below close the field, so that a collision test is
one AND of four rows with the piece, without any special case.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym.compiling import compiled, entry_point
from tetris_gym.instructions import count_bits
from tetris_gym.pieces import (
    CELLS,
    GARBAGE,
    HIDDEN_ROWS,
    NO_PIECE,
    NUM_COLUMNS,
    NUM_PIECES,
    NUM_ROTATIONS,
    NUM_ROWS,
    SPAWN_X,
    SPAWN_Y,
    kicks,
)
from tetris_gym.randomness import below, draw

Game = NDArray[np.int64]

# Actions of a step.
MOVE_LEFT, MOVE_RIGHT, SOFT_DROP, ROTATE_CLOCKWISE, ROTATE_COUNTERCLOCKWISE, HARD_DROP, HOLD_PIECE, NO_OP = range(8)
NUM_ACTIONS: Final = 8

# Field rows: visible row y is number y + ROW_0 of the game's row.
WALL: Final = 3  #: rows that close the field above and below, and columns to the left of column 0
ROW_0: Final = WALL + HIDDEN_ROWS
TOP: Final = WALL  #: the highest row of the field
BOTTOM: Final = ROW_0 + NUM_ROWS - 1
FIELD_END: Final = BOTTOM + 1 + WALL

# The rest of the game's row.
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

_LANE: Final = 0xFFFF
_COLUMNS: Final = ((1 << NUM_COLUMNS) - 1) << WALL
_EMPTY_ROW: Final = _LANE ^ _COLUMNS
_LINE_SCORES: Final = (0, 100, 300, 500, 800)
_LINES_PER_LEVEL: Final = 10


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


SHAPES, _VALUES = _packed_shapes()
KICKS: Final = _kick_table()


# Pieces to come


@compiled
def _draw_next(game: Game) -> None:
    game[NEXT], game[BAG], game[BAG_LEFT], game[RANDOM] = draw(game[BAG], game[BAG_LEFT], game[RANDOM])


@compiled
def preview(game: Game, pieces: Game) -> None:
    """Write the coming pieces, without disturbing the game's stream."""
    pieces[0] = game[NEXT]
    bag, left, random = game[BAG], game[BAG_LEFT], game[RANDOM]
    for i in range(1, pieces.size):
        pieces[i], bag, left, random = draw(bag, left, random)


# Movement


@compiled
def fits(game: Game, shape: int, x: int, y: int) -> bool:
    """Whether a shape at (x, y) overlaps neither the stack nor the edges."""
    if x < -WALL or x > NUM_COLUMNS - 1 or y < -ROW_0 or y > NUM_ROWS - 1:
        return False
    row = y + ROW_0
    window = (
        (game[row] & _LANE) | ((game[row + 1] & _LANE) << 16) | ((game[row + 2] & _LANE) << 32) | (game[row + 3] << 48)
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


@compiled
def spawn(game: Game, piece: int) -> None:
    """Bring in a piece; the game is over if it overlaps the stack."""
    game[PIECE] = piece
    game[ROTATION] = 0
    game[X] = SPAWN_X[piece]
    game[Y] = SPAWN_Y[piece]
    if not fits(game, SHAPES[piece, 0], game[X], game[Y]):
        end(game)


@compiled
def end(game: Game) -> None:
    game[GAME_OVER] = 1
    game[RUNNING] = 0


@compiled
def _hold(game: Game) -> None:
    if game[HOLD_USED] == 0:
        held = game[HOLD]
        game[HOLD] = game[PIECE]
        game[HOLD_USED] = 1
        if held == NO_PIECE:
            held = game[NEXT]
            _draw_next(game)
        spawn(game, held)


# The stack


@compiled
def _measure(game: Game) -> tuple[int, int, int, int]:
    """Statistics of the stack: (aggregate height, holes, bumpiness, greatest height)."""
    height = 0
    holes = 0
    bumpiness = 0
    greatest = 0
    covered = 0  # columns with a cell in this row or above
    for row in range(TOP, BOTTOM + 1):
        cells = game[row] & _COLUMNS
        covered |= cells
        if covered != 0:
            greatest += 1
            height += count_bits(covered)
            holes += count_bits(covered & ~cells)
            # Heights of neighbours differ by the number of rows in which only one of the two is covered.
            bumpiness += count_bits((covered ^ (covered >> 1)) & (_COLUMNS >> 1) & _COLUMNS)
    return height, holes, bumpiness, greatest


@compiled
def measure(game: Game) -> None:
    """Bring the statistics in the game's row up to date, and the changes with them."""
    height, holes, bumpiness, greatest = _measure(game)
    game[AGGREGATE_HEIGHT_CHANGE] = height - game[AGGREGATE_HEIGHT]
    game[HOLES_CHANGE] = holes - game[HOLES]
    game[BUMPINESS_CHANGE] = bumpiness - game[BUMPINESS]
    game[AGGREGATE_HEIGHT] = height
    game[HOLES] = holes
    game[BUMPINESS] = bumpiness
    game[MAX_HEIGHT] = greatest


@compiled
def _clear_lines(game: Game, lowest: int) -> None:
    """Remove the full rows, the lowest of which is given."""
    target = lowest
    for row in range(lowest, TOP - 1, -1):
        if game[row] & _LANE != _LANE:
            game[target] = game[row]
            target -= 1
    for row in range(TOP, target + 1):
        game[row] = _EMPTY_ROW


@compiled
def lock(game: Game) -> None:
    """Make the falling piece part of the stack, clear lines and bring in the next piece."""
    piece, rotation, x = game[PIECE], game[ROTATION], game[X]
    shape = SHAPES[piece, rotation] << (x + WALL)
    lines = 0
    lowest = 0
    for i in range(4):
        cells = (shape >> (16 * i)) & _LANE
        if cells != 0:
            row = game[Y] + ROW_0 + i
            filled = game[row] | cells | (_VALUES[piece, rotation, i] << (16 + 4 * x))
            game[row] = filled
            if filled & _LANE == _LANE:
                lines += 1
                lowest = row
    game[PIECE_PLACED] = 1
    game[PIECES_PLACED] += 1
    if lines > 0:
        _clear_lines(game, lowest)
        game[LINES_CLEARED] = lines
        game[SCORE] += _LINE_SCORES[lines] * (game[LEVEL] + 1)
        game[TOTAL_LINES] += lines
        game[LEVEL] = game[TOTAL_LINES] // _LINES_PER_LEVEL
    measure(game)
    game[HOLD_USED] = 0
    if game[MAX_HEIGHT] > NUM_ROWS:
        game[PIECE] = NO_PIECE
        end(game)
    else:
        piece = game[NEXT]
        _draw_next(game)
        spawn(game, piece)


# Episodes


@compiled
def _forget_changes(game: Game) -> None:
    game[AGGREGATE_HEIGHT_CHANGE] = 0
    game[HOLES_CHANGE] = 0
    game[BUMPINESS_CHANGE] = 0


@compiled
def begin_step(game: Game) -> None:
    """Forget the previous step's outcome."""
    game[STEPS] += 1
    if game[PIECE_PLACED] != 0:
        game[PIECE_PLACED] = 0
        game[LINES_CLEARED] = 0
        _forget_changes(game)


@compiled
def _fall(game: Game, shape: int) -> int:
    """One row down, or a lock: the rows fallen."""
    if fits(game, shape, game[X], game[Y] + 1):
        game[Y] += 1
        return 1
    lock(game)
    return 0


@compiled
def step(game: Game, action: int) -> None:
    """Play one of the eight actions, then gravity. The game must be running."""
    begin_step(game)
    shape = SHAPES[game[PIECE], game[ROTATION]]
    if action <= MOVE_RIGHT:
        x = game[X] + 2 * action - 1
        if fits(game, shape, x, game[Y]):
            game[X] = x
    elif action == SOFT_DROP:
        fallen = _fall(game, shape)  # a lock changes the score, too
        game[SCORE] += fallen
    elif action <= ROTATE_COUNTERCLOCKWISE:
        _, game[ROTATION], game[X], game[Y] = find_turn(game, action - ROTATE_CLOCKWISE)
    elif action == HARD_DROP:
        y = landing_row(game, shape, game[X], game[Y])
        game[SCORE] += 2 * (y - game[Y])
        game[Y] = y
        lock(game)
    elif action == HOLD_PIECE:
        _hold(game)

    game[GRAVITY_LEFT] -= 1
    if game[GRAVITY_LEFT] == 0:
        game[GRAVITY_LEFT] = game[GRAVITY_INTERVAL]
        if game[PIECE_PLACED] == 0 and game[RUNNING] != 0:
            _fall(game, SHAPES[game[PIECE], game[ROTATION]])


@compiled
def useful_actions(game: Game, mask: NDArray[np.bool_]) -> None:
    """Write which actions would change something; both drops always do, and no-op is always marked."""
    for action in range(NUM_ACTIONS):
        mask[action] = True
    if game[RUNNING] != 0:
        shape = SHAPES[game[PIECE], game[ROTATION]]
        mask[MOVE_LEFT] = fits(game, shape, game[X] - 1, game[Y])
        mask[MOVE_RIGHT] = fits(game, shape, game[X] + 1, game[Y])
        mask[ROTATE_CLOCKWISE] = find_turn(game, 0)[0]
        mask[ROTATE_COUNTERCLOCKWISE] = find_turn(game, 1)[0]
        mask[HOLD_PIECE] = game[HOLD_USED] == 0


@compiled
def reset(game: Game, seed: int) -> None:
    """Begin an episode whose random stream starts from the bits of a seed."""
    difficulty = game[DIFFICULTY]
    for row in range(FIELD_END):
        game[row] = _EMPTY_ROW if TOP <= row <= BOTTOM else _LANE
    for column in range(PIECE, DIFFICULTY):
        game[column] = 0
    game[GRAVITY_INTERVAL] = game[GIVEN_GRAVITY] if game[GIVEN_GRAVITY] > 0 else max(1, 5 - difficulty // 2)
    game[GRAVITY_LEFT] = game[GRAVITY_INTERVAL]
    game[HOLD] = NO_PIECE
    game[RUNNING] = 1
    random = seed
    for row in range(BOTTOM, BOTTOM - difficulty, -1):
        gap, random = below(random, NUM_COLUMNS)
        for column in range(NUM_COLUMNS):
            if column != gap:
                game[row] |= (1 << (column + WALL)) | (GARBAGE << (16 + 4 * column))
    game[RANDOM] = random
    measure(game)
    _forget_changes(game)
    _draw_next(game)
    piece = game[NEXT]
    _draw_next(game)
    spawn(game, piece)


# Games by hand


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


@entry_point
def _measure_afresh(game: Game) -> None:
    """Measure a stack that no lock has made."""
    measure(game)
    _forget_changes(game)


def read_field(game: Game) -> NDArray[np.uint8]:
    """
    :param game: a game's row
    :return: the stack's cell values (0 empty, piece id + 1, 8 garbage), hidden rows first: shape (24, 10)
    """
    rows = game[TOP : BOTTOM + 1, None] >> (16 + 4 * np.arange(NUM_COLUMNS))
    return (rows & 15).astype(np.uint8)


def write_field(game: Game, values: NDArray[np.uint8]) -> None:
    """
    Replace the stack of a running game, for tests and exercises. The falling piece stays where it is.

    :param game: a game's row, changed in place
    :param values: cell values as :func:`read_field` returns them, shape (24, 10)
    """
    cells = np.asarray(values, dtype=np.int64)
    if cells.shape != (HIDDEN_ROWS + NUM_ROWS, NUM_COLUMNS) or cells.min() < 0 or cells.max() > GARBAGE:
        raise ValueError(
            f"A field is an array of shape ({HIDDEN_ROWS + NUM_ROWS}, {NUM_COLUMNS}) with values from 0 to {GARBAGE}."
        )
    columns = np.arange(NUM_COLUMNS)
    game[TOP : BOTTOM + 1] = _EMPTY_ROW | ((cells > 0) << (columns + WALL) | cells << (16 + 4 * columns)).sum(axis=1)
    _measure_afresh(game)
