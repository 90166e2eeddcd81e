"""The outcome of a step: all that a reward may depend on."""

from __future__ import annotations

from typing import NamedTuple

from tetris_gym.compiling import compiled
from tetris_gym.layout import (
    AGGREGATE_HEIGHT,
    AGGREGATE_HEIGHT_CHANGE,
    BUMPINESS,
    BUMPINESS_CHANGE,
    GAME_OVER,
    HOLES,
    HOLES_CHANGE,
    LEVEL,
    LINES_CLEARED,
    MAX_HEIGHT,
    PIECE_PLACED,
    PIECES_PLACED,
    SCORE,
    TOTAL_LINES,
    Game,
)


class Outcome(NamedTuple):
    """
    What one step did, the only thing that a reward may depend on. All numbers are those after the step.

    :param lines: lines that this step cleared, 0 to 4
    :param placed: whether this step locked a piece
    :param game_over: whether the game is over
    :param level: total lines // 10
    :param total_lines: lines cleared in this episode
    :param pieces_placed: pieces locked in this episode
    :param score: guideline score of this episode
    :param aggregate_height: sum of the column heights of the stack
    :param holes: empty cells below a filled one in their column
    :param bumpiness: sum of the absolute height differences of neighbouring columns
    :param max_height: height of the highest column
    :param aggregate_height_change: change since the previous lock (at the first: since reset); 0 if none was locked
    :param holes_change: likewise
    :param bumpiness_change: likewise
    """

    lines: int
    placed: bool
    game_over: bool
    level: int
    total_lines: int
    pieces_placed: int
    score: int
    aggregate_height: int
    holes: int
    bumpiness: int
    max_height: int
    aggregate_height_change: int
    holes_change: int
    bumpiness_change: int


@compiled
def read_outcome(game: Game | list[int]) -> Outcome:
    """
    :param game: a game's row
    :return: the outcome of its last step
    """
    return Outcome(
        game[LINES_CLEARED],
        game[PIECE_PLACED] != 0,
        game[GAME_OVER] != 0,
        game[LEVEL],
        game[TOTAL_LINES],
        game[PIECES_PLACED],
        game[SCORE],
        game[AGGREGATE_HEIGHT],
        game[HOLES],
        game[BUMPINESS],
        game[MAX_HEIGHT],
        game[AGGREGATE_HEIGHT_CHANGE],
        game[HOLES_CHANGE],
        game[BUMPINESS_CHANGE],
    )
