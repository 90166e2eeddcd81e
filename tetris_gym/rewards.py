"""Rewards: functions of the outcome of a step.

The built-in ones are plain functions, which a compiled step contains in compiled form. Any other callable
``f(outcome) -> float`` may stand in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

from tetris_gym.compiling import compiled
from tetris_gym.outcome import Outcome

RewardFunction = Callable[[Outcome], float]
RewardName = Literal["standard", "lines_only"]
RewardMode = RewardName | RewardFunction

REWARD_NAMES: Final[tuple[str, ...]] = get_args(RewardName)
CUSTOM, STANDARD, LINES_ONLY = range(3)  #: reward modes as compiled code knows them; a callable is called from Python

_PIECE: Final = 2.0
_DENSE_LINES: Final = (0.0, 3.0, 5.0, 8.0, 12.0)
_SPARSE_LINES: Final = (0.0, 1.0, 3.0, 5.0, 8.0)
_AGGREGATE_HEIGHT: Final = 0.05
_HOLES: Final = 0.25
_BUMPINESS: Final = 0.1
_GAME_OVER: Final = 10.0
_LOWEST: Final = -200.0
_HIGHEST: Final = 50.0


@compiled
def standard(outcome: Outcome) -> float:
    """
    The dense reward: every piece that is put down pays, more with cleared lines and less if it spoils the stack.

    :param outcome: what the step did
    :return: the reward, within [-200, 50]
    """
    reward = 0.0
    if outcome.placed:
        multiplier = min(outcome.level, 3) + 1
        reward += (
            _PIECE
            + multiplier * _DENSE_LINES[outcome.lines]
            - _AGGREGATE_HEIGHT * outcome.aggregate_height_change
            - _HOLES * outcome.holes_change
            - _BUMPINESS * outcome.bumpiness_change
        )
    if outcome.game_over:
        reward -= _GAME_OVER
    return min(max(reward, _LOWEST), _HIGHEST)


@compiled
def lines_only(outcome: Outcome) -> float:
    """
    The sparse reward: cleared lines and nothing else.

    :param outcome: what the step did
    :return: the reward, 0 to 32
    """
    return (min(outcome.level, 3) + 1) * _SPARSE_LINES[outcome.lines]


def parse_reward_mode(mode: RewardMode) -> tuple[int, RewardFunction]:
    """
    :param mode: "standard", "lines_only" or a callable that takes an :class:`~tetris_gym.outcome.Outcome`
    :return: the mode as compiled code knows it, and the function
    :raises ValueError: if there is no such mode
    """
    if isinstance(mode, str) and mode in REWARD_NAMES:
        return (STANDARD, standard) if mode == "standard" else (LINES_ONLY, lines_only)
    if callable(mode):
        return CUSTOM, mode
    raise ValueError(f"Unknown reward_mode {mode!r}: expected one of {REWARD_NAMES} or a callable f(outcome) -> float.")


def evaluate(function: RewardFunction, outcome: Outcome) -> float:
    """
    :param function: a reward function, perhaps a user's
    :param outcome: what a step did
    :return: its reward
    :raises TypeError: if the function returns no number
    """
    reward = function(outcome)
    try:
        return float(reward)
    except (TypeError, ValueError):
        raise TypeError(f"A reward function must return a number, got {reward!r}.") from None
