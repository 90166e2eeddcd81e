"""A task that needs a memory, after the T-maze of Bakker 2001, *Reinforcement Learning with Long Short-Term Memory*.

Importing this module registers it. A sign at the beginning of a corridor says whether the prize lies to the left or to
the right of the far end, and is not seen again. Who does not remember it is right half of the time: a mean return of 0
at best, where remembering gives 1. Standing still costs 0.1, as there.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ENV_ID = "Recall-v0"
LEFT, RIGHT, FORWARD = range(3)


class Recall(gym.Env[np.ndarray, np.int64]):
    """
    What is seen: the sign, as one of two bits, at the beginning; a third bit at the far end; nothing in between. A turn
    at the far end ends the episode with 1 or -1; before, it runs into a wall, as forward does at the end.

    :param length: steps forward from the beginning to the far end
    """

    def __init__(self, length: int = 10) -> None:
        if length < 1:
            raise ValueError(f"a corridor is at least 1 step long, not {length}")
        self.length = length
        self.observation_space = spaces.MultiBinary(3)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """:return: the sign, the one time that it is seen"""
        super().reset(seed=seed)
        self.position, self.prize = 0, int(self.np_random.integers(2))
        return self._seen(sign=True), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        """
        :param action: left, right or forward
        """
        at_end = self.position == self.length
        if at_end and action != FORWARD:
            return self._seen(), 1.0 if action == self.prize else -1.0, True, False, {}
        stands_still = at_end or action != FORWARD
        self.position += not stands_still
        return self._seen(), -0.1 if stands_still else 0.0, False, False, {}

    def _seen(self, sign: bool = False) -> np.ndarray:
        seen = [sign and self.prize == LEFT, sign and self.prize == RIGHT, self.position == self.length]
        return np.array(seen, np.int8)


gym.register(ENV_ID, f"{__name__}:Recall", max_episode_steps=100)
