"""The rules of the game, over one row of integers, whose layout is that of :mod:`tetris_gym.layout`.

The functions here play one game; batches loop over them. Nothing here knows of Gymnasium, pictures or rewards: a step
leaves its outcome in the row.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym.compiling import compiled, entry_point
from tetris_gym.instructions import count_bits
from tetris_gym.layout import (
    AGGREGATE_HEIGHT,
    AGGREGATE_HEIGHT_CHANGE,
    BAG,
    BAG_LEFT,
    BOTTOM,
    BUMPINESS,
    BUMPINESS_CHANGE,
    COLUMNS,
    DIFFICULTY,
    EMPTY_ROW,
    FIELD_END,
    GAME_OVER,
    GIVEN_GRAVITY,
    GRAVITY_INTERVAL,
    GRAVITY_LEFT,
    HOLD,
    HOLD_USED,
    HOLES,
    HOLES_CHANGE,
    LANE,
    LEVEL,
    LINES_CLEARED,
    MAX_HEIGHT,
    NEXT,
    PIECE,
    PIECE_PLACED,
    PIECES_PLACED,
    RANDOM,
    ROTATION,
    ROW_0,
    RUNNING,
    SCORE,
    STEPS,
    TOP,
    TOTAL_LINES,
    WALL,
    Game,
    X,
    Y,
)
from tetris_gym.movement import SHAPES, VALUES, find_turn, fits, landing_row
from tetris_gym.pieces import (
    GARBAGE,
    HIDDEN_ROWS,
    NO_PIECE,
    NUM_COLUMNS,
    NUM_ROWS,
    SPAWN_X,
    SPAWN_Y,
)
from tetris_gym.randomness import below, draw

# Actions of a step.
MOVE_LEFT, MOVE_RIGHT, SOFT_DROP, ROTATE_CLOCKWISE, ROTATE_COUNTERCLOCKWISE, HARD_DROP, HOLD_PIECE, NO_OP = range(8)
NUM_ACTIONS: Final = 8

_LINE_SCORES: Final = (0, 100, 300, 500, 800)
_LINES_PER_LEVEL: Final = 10


# Pieces


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
        cells = game[row] & COLUMNS
        covered |= cells
        if covered != 0:
            greatest += 1
            height += count_bits(covered)
            holes += count_bits(covered & ~cells)
            # Heights of neighbours differ by the number of rows in which only one of the two is covered.
            bumpiness += count_bits((covered ^ (covered >> 1)) & (COLUMNS >> 1) & COLUMNS)
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
    """Remove the full rows, none of which lies below the given one."""
    target = lowest
    for row in range(lowest, TOP - 1, -1):
        if game[row] & LANE != LANE:
            game[target] = game[row]
            target -= 1
    for row in range(TOP, target + 1):
        game[row] = EMPTY_ROW


@compiled
def lock(game: Game) -> None:
    """Make the falling piece part of the stack, clear lines and bring in the next piece."""
    piece, rotation, x = game[PIECE], game[ROTATION], game[X]
    shape = SHAPES[piece, rotation] << (x + WALL)
    lines = 0
    for i in range(4):
        cells = (shape >> (16 * i)) & LANE
        if cells != 0:
            row = game[Y] + ROW_0 + i
            filled = game[row] | cells | (VALUES[piece, rotation, i] << (16 + 4 * x))
            game[row] = filled
            if filled & LANE == LANE:
                lines += 1
    game[PIECE_PLACED] = 1
    game[PIECES_PLACED] += 1
    if lines > 0:
        _clear_lines(game, min(game[Y] + ROW_0 + 3, BOTTOM))
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
        game[row] = EMPTY_ROW if TOP <= row <= BOTTOM else LANE
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


@entry_point
def _measure_afresh(game: Game) -> None:
    """Measure a stack that no lock has made."""
    measure(game)
    _forget_changes(game)


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
    game[TOP : BOTTOM + 1] = EMPTY_ROW | ((cells > 0) << (columns + WALL) | cells << (16 + 4 * columns)).sum(axis=1)
    _measure_afresh(game)
