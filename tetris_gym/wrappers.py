"""Wrappers: zeros after the observation, another reward, and exercises to begin with."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from tetris_gym.env import TetrisEnv
from tetris_gym.pieces import GARBAGE, NUM_COLUMNS, NUM_ROWS
from tetris_gym.rewards import RewardMode as Mode
from tetris_gym.rewards import evaluate, parse_reward_mode
from tetris_gym.settings import whole_number


class PadObservation(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """
    Appends zeros to a flat observation.

    :param env: an environment with one-dimensional ``Box`` observations
    :param size: number of entries after padding
    :raises TypeError: if the observations are no vectors, or the size is no integer
    :raises ValueError: if the observations are longer than that
    """

    def __init__(self, env: gym.Env[Any, Any], size: int = 212) -> None:
        RecordConstructorArgs.__init__(self, size=size)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise TypeError(f"PadObservation needs one-dimensional Box observations, got {space}.")
        zeros = whole_number(size, "size", space.shape[0]) - space.shape[0]
        low = np.append(space.low, np.full(zeros, min(space.low.min(), 0)))
        high = np.append(space.high, np.full(zeros, max(space.high.max(), 0)))
        self.observation_space = spaces.Box(low, high, dtype=space.dtype.type)
        self._zeros = zeros

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """
        :param observation: of the wrapped environment
        :return: the same with zeros after it
        """
        return np.pad(observation, (0, self._zeros))


def _tetris_under(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> TetrisEnv:
    env = wrapper.unwrapped
    if not isinstance(env, TetrisEnv):
        raise TypeError(f"{type(wrapper).__name__} needs a TetrisEnv, got {env}.")
    return env


class RewardMode(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """
    Replaces the reward by that of another mode. What wrappers below it make of the reward is lost.

    :param env: a Tetris environment, wrapped or not
    :param mode: "standard", "lines_only" or a callable that takes an :class:`~tetris_gym.outcome.Outcome`
    :raises TypeError: if it is another environment
    :raises ValueError: if there is no such mode
    """

    def __init__(self, env: gym.Env[Any, Any], mode: Mode) -> None:
        RecordConstructorArgs.__init__(self, mode=mode)
        super().__init__(env)
        self._tetris = _tetris_under(self)
        self._function = parse_reward_mode(mode)[1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """
        :param action: for the wrapped environment
        :return: its results with the reward of this mode
        """
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, evaluate(self._function, self._tetris.outcome()), terminated, truncated, info


class GapStart(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """
    Exercises for :class:`~sb3_dream.CurriculumCallback`: games that begin with a few rows which lack nothing but the
    same cells, side by side. Random play hardly ever completes a row of an empty field; it completes one of these now
    and then, and the wider the gap, the more there is to plan.

    Three to six rows have the gap, whose width is drawn from 1 up to the difficulty. One game in eight begins with an
    empty field, as all do at difficulty 0. ``info["is_success"]`` tells at the end of a game whether it cleared a line.

    :param env: a Tetris environment, wrapped or not
    :param difficulty: greatest width of the gap, 0 to 10
    :raises TypeError: if it is another environment, or the difficulty is no integer
    :raises ValueError: if the difficulty is out of range
    """

    def __init__(self, env: gym.Env[Any, Any], difficulty: int = 0) -> None:
        RecordConstructorArgs.__init__(self, difficulty=difficulty)
        super().__init__(env)
        self._tetris = _tetris_under(self)
        self.set_difficulty(difficulty)

    def set_difficulty(self, difficulty: int) -> None:
        """
        :param difficulty: greatest width of the gap in the coming games, 0 to 10
        """
        self.difficulty = whole_number(difficulty, "difficulty", 0, NUM_COLUMNS)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        :param seed: of the environment's generator, which draws the exercise, too
        :param options: of the wrapped environment; a field of the user's own is no exercise
        :return: the first observation and its info
        """
        if not self.difficulty or (options and "field" in options):
            return self.env.reset(seed=seed, options=options)
        if seed is not None:
            self.env.reset(seed=seed)
        rng = self._tetris.np_random
        field = np.zeros((NUM_ROWS, NUM_COLUMNS), dtype=np.uint8)
        if rng.random() >= 1 / 8:
            width = rng.integers(1, self.difficulty, endpoint=True)
            left = rng.integers(NUM_COLUMNS - width, endpoint=True)
            field[-rng.integers(3, 6, endpoint=True) :] = GARBAGE
            field[:, left : left + width] = 0
        return self.env.reset(options={**(options or {}), "field": field})

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """
        :param action: for the wrapped environment
        :return: its results, with ``info["is_success"]`` at the end of a game
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            info["is_success"] = info["total_lines"] > 0
        return observation, reward, terminated, truncated, info
