"""Placements: where the current piece can come to rest, and putting it there in one step.

The search keeps all positions of a rotation in one vector: lane ``y + 7`` of 16 bits holds box row ``y``, and its bit
``x + 3`` the position ``x`` of the box. Moving is a shift of all lanes, falling a step to the next lane, and turning an
exchange between the vectors of two rotations; what does not fit is masked away.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym import engine, layout
from tetris_gym.compiling import compiled
from tetris_gym.instructions import write_bits
from tetris_gym.layout import Game
from tetris_gym.movement import KICKS, SHAPES, fits, landing_row
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
from tetris_gym.rows import (
    NUM_LANES,
    Rows,
    any_bit,
    first_rows,
    load_rows,
    moved_down,
    single_bit,
    store_rows,
    without,
)

Words = NDArray[np.int64]
Room = NDArray[np.uint16]

NUM_PLACEMENTS: Final = NUM_ROWS * NUM_COLUMNS * NUM_ROTATIONS

_BOX_ROWS: Final = layout.ROW_0 + NUM_ROWS  #: the box rows -7 to 19, of which each has a lane
_SYMMETRIC: Final = np.array([piece in (I, S, Z) for piece in range(NUM_PIECES)])  #: two rotations cover the same cells

# Resting places: a lane per visible row, so five words of four lanes per rotation. Vectors of 32 lanes are written
# there, each over the end of the one before, and the last one has room for its end.
_ROTATION_WORDS: Final = NUM_ROWS // 4
_RESTING_WORDS: Final = _ROTATION_WORDS * (NUM_ROTATIONS - 1) + NUM_LANES // 4

_ROW: Final = (1 << NUM_COLUMNS) - 1
_ROW_ACTIONS: Final = NUM_COLUMNS * NUM_ROTATIONS


def _spaced_rows() -> Words:
    """
    :return: for each set of columns, given by its bits, the same bits with room for the other rotations between them
    """
    columns = np.arange(NUM_COLUMNS)
    return (((np.arange(_ROW + 1)[:, None] >> columns) & 1) << (NUM_ROTATIONS * columns)).sum(axis=1)


_SPACED: Final = _spaced_rows()

# Room for vectors in the search, with empty lanes around each, so that a load with an offset moves all rows.
_SLOT: Final = 2 * NUM_LANES
_MARGIN: Final = NUM_LANES // 2
_VALID, _REACHED, _PASSED, _FREE = (_MARGIN + 4 * i * _SLOT for i in range(4))  #: four slots each, the last one alone
_ROOM: Final = _FREE + NUM_LANES + _MARGIN


def new_resting_places(count: int) -> Words:
    """
    :param count: number of games
    :return: room for where the current piece of each game can come to rest, shape (count, words): of the corner of the
        rectangle around its cells, for each rotation and visible row 16 bits, one for each column
    """
    return np.zeros((count, _RESTING_WORDS), dtype=np.int64)


@compiled
def new_room() -> Room:
    """Room for searches, which they may use again."""
    return np.zeros(_ROOM, dtype=np.uint16)


@compiled
def _find_valid(piece: int, rotation: int, room: Room) -> Rows:
    """The positions that overlap nothing."""
    valid = first_rows(_BOX_ROWS)
    for cell in range(4):
        row, column = CELLS[piece, rotation, cell]
        valid &= load_rows(room, _FREE + row) >> column
    return valid


@compiled
def _spread(reached: Rows, valid: Rows) -> Rows:
    """Move positions down, left and right, as far as they can go or nearly so: the distance doubles with each step."""
    run = valid
    reached |= run & moved_down(reached, 1)
    run &= moved_down(run, 1)
    reached |= run & moved_down(reached, 2)
    run &= moved_down(run, 2)
    reached |= run & moved_down(reached, 4)
    run &= moved_down(run, 4)
    reached |= run & moved_down(reached, 8)
    # To the right one sum does: it carries a bit through the valid ones that follow, and all that it passes change.
    reached |= ((valid + reached) ^ valid) & valid
    run = valid
    reached |= run & (reached >> 1)
    run &= run >> 1
    reached |= run & (reached >> 2)
    run &= run >> 2
    reached |= run & (reached >> 4)
    return reached


@compiled
def _flood(room: Room) -> bool:
    """Complete the reached positions by moves, falls and turns without a kick; whether valid ones are left."""
    valid_0, valid_1 = load_rows(room, _VALID), load_rows(room, _VALID + _SLOT)
    valid_2, valid_3 = load_rows(room, _VALID + 2 * _SLOT), load_rows(room, _VALID + 3 * _SLOT)
    reached_0, reached_1 = load_rows(room, _REACHED), load_rows(room, _REACHED + _SLOT)
    reached_2, reached_3 = load_rows(room, _REACHED + 2 * _SLOT), load_rows(room, _REACHED + 3 * _SLOT)
    growing = True
    while growing:
        before_0, before_1, before_2, before_3 = reached_0, reached_1, reached_2, reached_3
        sideways = reached_1 | reached_3
        reached_0 = _spread(reached_0 | (sideways & valid_0), valid_0)
        reached_2 = _spread(reached_2 | (sideways & valid_2), valid_2)
        upright = reached_0 | reached_2
        reached_1 = _spread(reached_1 | (upright & valid_1), valid_1)
        reached_3 = _spread(reached_3 | (upright & valid_3), valid_3)
        growing = any_bit(
            (reached_0 ^ before_0) | (reached_1 ^ before_1) | (reached_2 ^ before_2) | (reached_3 ^ before_3)
        )
    store_rows(room, _REACHED, reached_0)
    store_rows(room, _REACHED + _SLOT, reached_1)
    store_rows(room, _REACHED + 2 * _SLOT, reached_2)
    store_rows(room, _REACHED + 3 * _SLOT, reached_3)
    return any_bit((reached_0 ^ valid_0) | (reached_1 ^ valid_1) | (reached_2 ^ valid_2) | (reached_3 ^ valid_3))


@compiled
def _kick(piece: int, room: Room) -> bool:
    """Add the positions to which kicks lead; whether there are any."""
    gained = False
    for turned in range(NUM_ROTATIONS):
        valid = load_rows(room, _VALID + turned * _SLOT)
        reached = load_rows(room, _REACHED + turned * _SLOT)
        missing = without(valid, reached)
        if not any_bit(missing):
            continue
        for direction in range(2):
            rotation = (turned - 1 + 2 * direction) & 3
            failed = without(load_rows(room, _REACHED + rotation * _SLOT), valid)
            for test in range(1, 5):
                x = KICKS[piece, direction, rotation, test, 0]
                y = KICKS[piece, direction, rotation, test, 1]
                slot = _PASSED + (test - 1) * _SLOT
                target = load_rows(room, _VALID + turned * _SLOT + y)
                passed = failed & (target >> x if x >= 0 else target << -x)
                failed = failed ^ passed
                store_rows(room, slot, passed << x if x >= 0 else passed >> -x)
            for test in range(1, 5):
                y = KICKS[piece, direction, rotation, test, 1]
                reached |= load_rows(room, _PASSED + (test - 1) * _SLOT - y)
        store_rows(room, _REACHED + turned * _SLOT, reached)
        gained = gained or any_bit(missing & reached)
    return gained


@compiled
def find_resting_places(game: Game, resting: Words, room: Room) -> None:
    """Write where the current piece can come to rest; nowhere, if the game is over."""
    if game[layout.RUNNING] == 0:
        resting[:] = 0
        return
    piece = game[layout.PIECE]
    spawn_row = SPAWN_Y[piece] + layout.ROW_0
    # In the free rows above the stack a piece can be turned and moved at will. So if the spawn box lies in them, all
    # positions down to the lowest box row that lies in them can be taken as reached: from those above it, no turn needs
    # a kick to another row.
    free_rows = layout.ROW_0 + NUM_ROWS - game[layout.MAX_HEIGHT] - 3
    if free_rows <= spawn_row:
        free_rows = 0
    store_rows(room, _FREE, without(first_rows(NUM_LANES), load_rows(game, 0)))
    for rotation in range(NUM_ROTATIONS):
        valid = _find_valid(piece, rotation, room)
        store_rows(room, _VALID + rotation * _SLOT, valid)
        store_rows(room, _REACHED + rotation * _SLOT, valid & first_rows(free_rows))
    if free_rows == 0:
        store_rows(room, _REACHED, single_bit(spawn_row, SPAWN_X[piece] + layout.WALL))
    while _flood(room) and _kick(piece, room):
        pass
    for rotation in range(NUM_ROTATIONS):
        offset = rotation * _SLOT
        rests = without(load_rows(room, _REACHED + offset), load_rows(room, _VALID + offset + 1))
        store_rows(room, _PASSED, rests)
        visible = load_rows(room, _PASSED + layout.ROW_0 - TOPS[piece, rotation])
        store_rows(resting, rotation * _ROTATION_WORDS, visible >> (layout.WALL - LEFTS[piece, rotation]))


@compiled
def write_mask(game: Game, resting: Words, mask: NDArray[np.bool_]) -> None:
    """Mark the resting places, one of those that cover the same cells; everything, if there is none."""
    piece = game[layout.PIECE]
    twice = -1 if _SYMMETRIC[piece] else 0
    others = 0 if piece == O else -1
    found = 0
    for four_rows in range(_ROTATION_WORDS):
        word_0 = resting[four_rows]
        word_1 = resting[four_rows + _ROTATION_WORDS] & others
        word_2 = resting[four_rows + 2 * _ROTATION_WORDS] & others & ~(word_0 & twice)
        word_3 = resting[four_rows + 3 * _ROTATION_WORDS] & others & ~(word_1 & twice)
        found |= word_0 | word_1 | word_2 | word_3
        for row in range(4):
            bits = (
                _SPACED[(word_0 >> (16 * row)) & _ROW]
                | _SPACED[(word_1 >> (16 * row)) & _ROW] << 1
                | _SPACED[(word_2 >> (16 * row)) & _ROW] << 2
                | _SPACED[(word_3 >> (16 * row)) & _ROW] << 3
            )
            first = (4 * four_rows + row) * _ROW_ACTIONS
            write_bits(mask, first, bits, 32)
            write_bits(mask, first + 32, bits >> 32, 8)
    if found == 0:
        for action in range(NUM_PLACEMENTS):
            mask[action] = True


@compiled
def _rests(resting: Words, y: int, x: int, rotation: int) -> bool:
    """Whether the current piece can come to rest there."""
    return (resting[rotation * _ROTATION_WORDS + (y >> 2)] >> (16 * (y & 3) + x)) & 1 != 0


@compiled
def place(game: Game, resting: Words, action: int) -> None:
    """Put the current piece to rest where an action says or, if it cannot come there, drop it from above."""
    engine.begin_step(game)
    piece = game[layout.PIECE]
    y, rest = divmod(action, _ROW_ACTIONS)
    x, rotation = divmod(rest, NUM_ROTATIONS)
    if _rests(resting, y, x, rotation):
        game[layout.INVALID] = 0
        game[layout.ROTATION] = rotation
        game[layout.X] = x - LEFTS[piece, rotation]
        game[layout.Y] = y - TOPS[piece, rotation]
    else:
        game[layout.INVALID] = 1
        x = min(x, NUM_COLUMNS - WIDTHS[piece, rotation]) - LEFTS[piece, rotation]
        y = SPAWN_Y[piece]
        if not fits(game, SHAPES[piece, rotation], x, y):
            rotation = 0
            x = SPAWN_X[piece]
        game[layout.ROTATION] = rotation
        game[layout.X] = x
        game[layout.Y] = landing_row(game, SHAPES[piece, rotation], x, y)
    engine.lock(game)
