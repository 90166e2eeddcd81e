"""Placements: where the current piece can come to rest, and putting it there in one step.

The search keeps a whole field row of positions in one integer: lane ``r`` of 16 bits holds rotation ``r``, and its
bit ``x + 3`` the position ``x`` of the box. Moving is a shift, turning a rotation of the word by one lane, falling
a step to the next row's word; what does not fit is masked away.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym import engine
from tetris_gym.compiling import compiled, lowest_bit
from tetris_gym.engine import Game
from tetris_gym.pieces import (
    CELLS,
    LEFTS,
    NUM_COLUMNS,
    NUM_PIECES,
    NUM_ROTATIONS,
    NUM_ROWS,
    SPAWN_X,
    SPAWN_Y,
    TOPS,
    WIDTHS,
    I,
    O,
    S,
    Z,
)

Words = NDArray[np.int64]

NUM_PLACEMENTS: Final = NUM_ROWS * NUM_COLUMNS * NUM_ROTATIONS

_LANE: Final = 0xFFFF
_BOX_ROWS: Final = engine.ROW_0 + NUM_ROWS  #: box rows -7 to 19, of which the search has a word each
SEARCH_ROWS: Final = _BOX_ROWS + 1  #: and one below them, in which nothing fits
_OUTSIDE: Final = 0xF << 16  #: what lies beyond the right wall

#: Pieces that cover the same cells in rotations 0 and 2, and in 1 and 3.
_SYMMETRIC: Final = np.array([piece in (I, S, Z) for piece in range(NUM_PIECES)])


def new_resting_places(count: int) -> Words:
    """
    :param count: number of games
    :return: room for where the current piece of each game can come to rest, shape (count, 20): for each visible row of
        the rectangle around the piece's cells a word with a lane per rotation and a bit per column
    """
    return np.zeros((count, NUM_ROWS), dtype=np.int64)


@compiled
def _cells_at(game: Game, row: int, right: int) -> int:
    """The cells of a field row as a lane, moved to the left; the walls go on outside."""
    return ((game[row] & _LANE) | _OUTSIDE) >> right


@compiled
def _find_valid(game: Game, first: int, valid: Words) -> None:
    """Write the positions of the current piece that overlap nothing, from box row number ``first`` on."""
    for row in range(first, SEARCH_ROWS):
        valid[row] = 0
    for rotation in range(NUM_ROTATIONS):
        cells = CELLS[game[engine.PIECE], rotation]
        down_0, down_1, down_2, down_3 = cells[0, 0], cells[1, 0], cells[2, 0], cells[3, 0]
        right_0, right_1, right_2, right_3 = cells[0, 1], cells[1, 1], cells[2, 1], cells[3, 1]
        for row in range(first, _BOX_ROWS):
            blocked = (
                _cells_at(game, row + down_0, right_0)
                | _cells_at(game, row + down_1, right_1)
                | _cells_at(game, row + down_2, right_2)
                | _cells_at(game, row + down_3, right_3)
            )
            valid[row] |= (~blocked & _LANE) << (16 * rotation)


@compiled
def _spread(word: int, free: int) -> int:
    """Move all positions of a row left and right as far as they can go."""
    left, right = word, word
    left_free, right_free = free, free
    for shift in (1, 2, 4, 8):
        left |= left_free & (left << shift)
        left_free &= left_free << shift
        right |= right_free & (right >> shift)
        right_free &= right_free >> shift
    return left | right


@compiled
def _turn(word: int, direction: int) -> int:
    """Turn all positions of a row in place."""
    if direction == 0:
        return (word << 16) | ((word >> 48) & _LANE)
    return ((word >> 16) & (_LANE << 32 | _LANE << 16 | _LANE)) | (word << 48)


@compiled
def _flood(valid: Words, reached: Words, first: int) -> None:
    """Complete the reached positions by moves, turns without a kick, and falls, from a box row on downwards."""
    for row in range(first, _BOX_ROWS):
        word = reached[row]
        before = np.int64(0)
        while word != before and word != valid[row]:
            before = word
            word = _spread(word, valid[row])
            word |= (_turn(word, 0) | _turn(word, 1)) & valid[row]
        reached[row] = word
        reached[row + 1] |= word & valid[row + 1]


@compiled
def _kick(piece: int, valid: Words, reached: Words, row: int) -> int:
    """Add the positions to which kicks lead from one box row; the highest row that has gained some."""
    highest = _BOX_ROWS
    for direction in range(2):
        failed = _turn(reached[row], direction) & ~valid[row]
        for turned in range(NUM_ROTATIONS):
            lane = (failed >> (16 * turned)) & _LANE
            if lane == 0:
                continue
            rotation = (turned - 1 + 2 * direction) & 3
            for test in range(1, 5):
                x = engine.KICKS[piece, direction, rotation, test, 0]
                target = row + engine.KICKS[piece, direction, rotation, test, 1]
                if target < 0 or target >= _BOX_ROWS:
                    continue
                moved = (lane << x if x >= 0 else lane >> -x) & _LANE
                passed = moved & (valid[target] >> (16 * turned))
                lane &= ~(passed >> x if x >= 0 else passed << -x)
                gained = (passed << (16 * turned)) & ~reached[target]
                if gained != 0:
                    reached[target] |= gained
                    highest = min(highest, target)
    return highest


@compiled
def _unreached(valid: Words, reached: Words, first: int, end: int) -> int:
    """Positions in some box rows that overlap nothing and that nothing has reached, all rows in one word."""
    positions = 0
    for row in range(first, end):
        positions |= valid[row] & ~reached[row]
    return positions


@compiled
def find_resting_places(game: Game, resting: Words, search: Words) -> None:
    """Write where the current piece can come to rest; nowhere, if the game is over."""
    for row in range(NUM_ROWS):
        resting[row] = 0
    if game[engine.RUNNING] == 0:
        return
    valid, reached = search[0], search[1]
    piece = game[engine.PIECE]
    spawn_row = SPAWN_Y[piece] + engine.ROW_0
    # In the free rows above the stack a piece can be turned and moved at will. So if the spawn box lies in them, all
    # positions in the lowest box row that lies in them are reached, and what is above need not be searched.
    first = engine.ROW_0 + NUM_ROWS - game[engine.MAX_HEIGHT] - 4
    if first < spawn_row:
        first = 0
    _find_valid(game, first, valid)
    for row in range(first, _BOX_ROWS + 1):
        reached[row] = 0
    if first > 0:
        reached[first] = valid[first]
    else:
        reached[spawn_row] = 1 << (SPAWN_X[piece] + engine.WALL)
    changed = first
    while changed < _BOX_ROWS:
        _flood(valid, reached, changed)
        changed = np.int64(_BOX_ROWS)
        if _unreached(valid, reached, first, _BOX_ROWS) != 0:
            for row in range(first, _BOX_ROWS):
                if _unreached(valid, reached, max(row - 2, first), min(row + 3, _BOX_ROWS)) != 0:
                    changed = min(changed, _kick(piece, valid, reached, row))
    for row in range(first, _BOX_ROWS):
        resting_here = reached[row] & ~valid[row + 1]
        if resting_here != 0:
            for rotation in range(NUM_ROTATIONS):
                y = row - engine.ROW_0 + TOPS[piece, rotation]
                if y >= 0:
                    lane = (resting_here >> (16 * rotation)) & _LANE
                    resting[y] |= (lane >> (engine.WALL - LEFTS[piece, rotation])) << (16 * rotation)


@compiled
def write_mask(game: Game, resting: Words, mask: NDArray[np.bool_]) -> None:
    """Mark the resting places, one of those that cover the same cells; everything, if there is none."""
    for action in range(NUM_PLACEMENTS):
        mask[action] = False
    piece = game[engine.PIECE]
    found = False
    for y in range(NUM_ROWS):
        word = resting[y]
        if word != 0:
            found = True
            if piece == O:
                word &= _LANE
            elif _SYMMETRIC[piece]:
                word &= ~((word & (_LANE << 16 | _LANE)) << 32)
            while word != 0:
                bit = lowest_bit(word)
                mask[y * 40 + (bit & 15) * 4 + (bit >> 4)] = True
                word &= word - 1
    if not found:
        for action in range(NUM_PLACEMENTS):
            mask[action] = True


@compiled
def place(game: Game, resting: Words, action: int) -> None:
    """Put the current piece to rest where an action says or, if it cannot come there, drop it from above."""
    engine.begin_step(game)
    piece = game[engine.PIECE]
    y, rest = divmod(action, NUM_COLUMNS * NUM_ROTATIONS)
    x, rotation = divmod(rest, NUM_ROTATIONS)
    if (resting[y] >> (16 * rotation + x)) & 1:
        game[engine.INVALID] = 0
        game[engine.ROTATION] = rotation
        game[engine.X] = x - LEFTS[piece, rotation]
        game[engine.Y] = y - TOPS[piece, rotation]
    else:
        game[engine.INVALID] = 1
        x = min(x, NUM_COLUMNS - WIDTHS[piece, rotation]) - LEFTS[piece, rotation]
        y = SPAWN_Y[piece]
        if not engine.fits(game, engine.SHAPES[piece, rotation], x, y):
            rotation = 0
            x = SPAWN_X[piece]
        game[engine.ROTATION] = rotation
        game[engine.X] = x
        game[engine.Y] = engine.landing_row(game, engine.SHAPES[piece, rotation], x, y)
    engine.lock(game)
