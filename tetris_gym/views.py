"""From a game's row to what people and agents see, where that is more than a flat observation."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym import layout
from tetris_gym.kernels import describe_game, observe_dict
from tetris_gym.layout import Game
from tetris_gym.observations import NUM_CELLS, PREVIEW_SIZE
from tetris_gym.pieces import NO_PIECE, NUM_COLUMNS, NUM_ROWS
from tetris_gym.rendering import SMALLEST_CELL, Scene, TetrisRenderer

#: Pixels per cell of the pictures that agents see: the smallest that the renderer draws.
OBSERVED_CELL: Final = SMALLEST_CELL


def read_scene(game: Game) -> Scene:
    """
    :param game: a game's row
    :return: what a picture of it shows
    """
    piece = int(game[layout.PIECE])
    hold = int(game[layout.HOLD])
    coming = np.empty(PREVIEW_SIZE, dtype=np.int64)
    cells = np.empty((2, 4, 2), dtype=np.int64)
    describe_game(game, coming, cells)
    falling, ghost = (tuple((row, column) for row, column in four) for four in cells.tolist())
    return Scene(
        field=layout.read_field(game),
        piece=None if piece == NO_PIECE else piece,
        piece_cells=() if piece == NO_PIECE else falling,
        ghost_cells=() if piece == NO_PIECE else ghost,
        preview=tuple(coming.tolist()),
        hold=None if hold == NO_PIECE else hold,
        can_hold=not game[layout.HOLD_USED],
        score=int(game[layout.SCORE]),
        lines=int(game[layout.TOTAL_LINES]),
        level=int(game[layout.LEVEL]),
        pieces=int(game[layout.PIECES_PLACED]),
        game_over=bool(game[layout.GAME_OVER]),
    )


def new_painter() -> TetrisRenderer:
    """
    :return: the renderer of "rgb" observations
    """
    return TetrisRenderer("rgb_array", cell=OBSERVED_CELL)


def observe_picture(renderer: TetrisRenderer, game: Game) -> NDArray[np.uint8]:
    """
    :param renderer: what :func:`new_painter` returned
    :param game: a game's row
    :return: the "rgb" observation, shape (height, width, 3)
    """
    return renderer.paint(read_scene(game))


def observe_dicts(games: Game) -> dict[str, NDArray[Any]]:
    """
    :param games: rows of games, shape (n, STATE_SIZE)
    :return: their "dict" observations as arrays, n rows each
    """
    count = len(games)
    stacks = np.empty((count, NUM_CELLS), dtype=np.int8)
    falling_pieces = np.empty_like(stacks)
    numbers = np.empty((count, 3 + PREVIEW_SIZE), dtype=np.int64)
    observe_dict(games, stacks, falling_pieces, numbers)
    return {
        "stack": stacks.reshape(count, NUM_ROWS, NUM_COLUMNS),
        "falling_piece": falling_pieces.reshape(count, NUM_ROWS, NUM_COLUMNS),
        "current": numbers[:, 0],
        "preview": numbers[:, 3:],
        "hold": numbers[:, 1],
        "can_hold": numbers[:, 2],
    }
