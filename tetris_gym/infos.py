"""The info dictionaries of the environments, from the columns of a game's row."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym.engine import INFO_COLUMNS, Game

#: Keys of every info, in the order of the engine's columns, and their types.
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

#: What the info of a step on which nothing happens has in place of the previous one's.
NOTHING_HAPPENED: Final[dict[str, Any]] = {"lines_cleared": 0, "piece_placed": False}


def read_infos(games: Game) -> list[dict[str, Any]]:
    """
    :param games: rows of games, shape (n, STATE_SIZE)
    :return: the info of the last step of each, without what only some action modes have
    """
    # One literal: twice as fast as a loop over the keys, and this is where batches spend their time.
    return [
        {
            "lines_cleared": lines_cleared,
            "piece_placed": piece_placed == 1,
            "total_lines": total_lines,
            "pieces_placed": pieces_placed,
            "level": level,
            "score": score,
            "aggregate_height": aggregate_height,
            "holes": holes,
            "bumpiness": bumpiness,
            "max_height": max_height,
            "game_over": game_over == 1,
        }
        for (
            lines_cleared,
            piece_placed,
            total_lines,
            pieces_placed,
            level,
            score,
            aggregate_height,
            holes,
            bumpiness,
            max_height,
            game_over,
        ) in games[:, INFO_COLUMNS].tolist()
    ]


def read_info_arrays(games: Game) -> dict[str, NDArray[Any]]:
    """
    :param games: rows of games, shape (n, STATE_SIZE)
    :return: the info of the last step, an array of shape (n,) for each key
    """
    columns = games[:, INFO_COLUMNS].T
    return {
        key: np.array(column, dtype=np.int64) if kind is int else column != 0
        for (key, kind), column in zip(INFO_TYPES.items(), columns, strict=True)
    }
