"""A task that needs a memory, after the T-maze of Bakker 2001, *Reinforcement Learning with Long Short-Term Memory*.

Importing this module registers it. A sign at the beginning of a corridor says whether the prize lies to the left or to
the right of the far end, and is not seen again. Who does not remember it is right half of the time: a mean return of 0
at best, where remembering gives 1.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ENV_ID = "Recall-v0"
LEFT, RIGHT, FORWARD = range(3)


class Recall(gym.Env[np.ndarray, int]):
    """
    What is seen: the sign, as one of two bits, at the beginning; a third bit at the far end; nothing in between, where
    turning left or right runs into a wall. At the end, forward does nothing, and a turn ends the episode with 1 or -1.

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

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """
        :param action: left, right or forward
        """
        turned = self.position == self.length and action != FORWARD
        if action == FORWARD:
            self.position = min(self.position + 1, self.length)
        return self._seen(), float(turned) * (1.0 if action == self.prize else -1.0), turned, False, {}

    def _seen(self, sign: bool = False) -> np.ndarray:
        seen = [sign and self.prize == LEFT, sign and self.prize == RIGHT, self.position == self.length]
        return np.array(seen, np.int8)


gym.register(ENV_ID, Recall, max_episode_steps=100)
