"""The info dictionaries of the environments, from the columns of a game's row.

Building a dictionary of a dozen keys takes longer than a compiled step, and on most steps hardly any value changes. So
environments that step fast keep, for each game, the info of a step on which nothing happens (its *idle* info): they
bring it up to date when something has happened, and hand out copies.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym.layout import GAME_OVER, LINES_CLEARED, Game

INFO_COLUMNS: Final = slice(LINES_CLEARED, GAME_OVER + 1)

#: Keys of every info, in the order of the columns, and their types.
INFO_TYPES: Final[dict[str, type]] = {
    "lines_cleared": int,
    "piece_placed": bool,
    "total_lines": int,
    "pieces_placed": int,
    "level": int,
    "score": int,
    "aggregate_height": int,
    "holes": int,
    "bumpiness": int,
    "max_height": int,
    "game_over": bool,
}


def info_rows(games: Game, chosen: NDArray[np.int64] | slice = slice(None)) -> list[list[int]]:
    """
    :param games: rows of games, shape (n, STATE_SIZE)
    :param chosen: numbers of some of them
    :return: their info columns, a list for each
    """
    return games[:, INFO_COLUMNS][chosen].tolist()


def read_info(row: list[int]) -> dict[str, Any]:
    """
    :param row: a game's info columns
    :return: the info of its last step, without what only some action modes have
    """
    lines_cleared, placed, total_lines, pieces_placed, level, score, height, holes, bumpiness, max_height, over = row
    return {
        "lines_cleared": lines_cleared,
        "piece_placed": placed == 1,
        "total_lines": total_lines,
        "pieces_placed": pieces_placed,
        "level": level,
        "score": score,
        "aggregate_height": height,
        "holes": holes,
        "bumpiness": bumpiness,
        "max_height": max_height,
        "game_over": over == 1,
    }


def update_idle_info(idle: dict[str, Any], row: list[int]) -> None:
    """
    :param idle: a game's idle info, changed in place
    :param row: its info columns after a lock
    """
    (
        _,
        _,
        idle["total_lines"],
        idle["pieces_placed"],
        idle["level"],
        idle["score"],
        idle["aggregate_height"],
        idle["holes"],
        idle["bumpiness"],
        idle["max_height"],
        _,
    ) = row


def idle_info(info: dict[str, Any]) -> dict[str, Any]:
    """
    :param info: the info of a step
    :return: the idle info that follows from it
    """
    return {**info, "lines_cleared": 0, "piece_placed": False}


def read_info_arrays(games: Game) -> dict[str, NDArray[Any]]:
    """
    :param games: rows of games, shape (n, STATE_SIZE)
    :return: the info of the last step, an array of shape (n,) for each key
    """
    columns = np.ascontiguousarray(games[:, INFO_COLUMNS].T)
    return {
        key: column if kind is int else column != 0
        for (key, kind), column in zip(INFO_TYPES.items(), columns, strict=True)
    }
