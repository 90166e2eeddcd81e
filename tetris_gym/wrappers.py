"""Wrappers: zeros after the observation, and another reward."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from tetris_gym.env import TetrisEnv
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
        if not isinstance(env.unwrapped, TetrisEnv):
            raise TypeError(f"RewardMode needs a TetrisEnv, got {env.unwrapped}.")
        self._tetris = env.unwrapped
        self._function = parse_reward_mode(mode)[1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """
        :param action: for the wrapped environment
        :return: its results with the reward of this mode
        """
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, evaluate(self._function, self._tetris.outcome()), terminated, truncated, info
