"""MinAtar's Breakout (Young & Tian 2019), whose screen of 10 x 10 cells is a picture of bits, for all algorithms alike.

Needs ``pip install MinAtar``. Importing this module registers the game. Its four planes (paddle, ball, the ball's
trail, bricks) are one flat vector here, with an ``observation_layout`` that says where the pictures are.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from minatar import Environment

ENV_ID = "MinAtarBreakout-v0"


class Breakout(gym.Env[np.ndarray, np.int64]):
    """The game with its three actions (stay, left, right), one in ten of which is replaced by the one before."""

    def __init__(self) -> None:
        self.game = Environment("breakout")
        rows, columns, planes = self.game.state_shape()
        self.moves = self.game.minimal_action_set()
        self.observation_space = spaces.MultiBinary(planes * rows * columns)
        self.action_space = spaces.Discrete(len(self.moves))
        grids = [{"start": plane * rows * columns, "rows": rows, "columns": columns} for plane in range(planes)]
        self.observation_layout = {"binary": True, "grids": grids}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """
        :param seed: of this and all further episodes
        """
        super().reset(seed=seed)
        if seed is not None:
            self.game.seed(seed)
        self.game.reset()
        return self._seen(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        """
        :param action: index of a move
        """
        reward, lost = self.game.act(self.moves[int(action)])
        return self._seen(), float(reward), bool(lost), False, {}

    def _seen(self) -> np.ndarray:
        return self.game.state().transpose(2, 0, 1).astype(np.int8).ravel()


gym.register(ENV_ID, f"{__name__}:Breakout", max_episode_steps=1_000)
