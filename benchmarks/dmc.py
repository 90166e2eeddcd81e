"""Tasks of the DeepMind Control Suite as Gymnasium environments, played as Dreamer's papers play them.

Needs the extra ``dmc``. Importing this module registers them: what the joints say as one flat vector, each action
played twice, and an end after 1,000 steps of the suite, which is a time limit and no terminal state. So 500 decisions
an episode, and a million steps in the papers' counting are half a million here.
"""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

TASKS = {"cartpole": ("swingup",), "reacher": ("easy",), "walker": ("walk",)}
REPEAT = 2


class ControlTask(gym.Wrapper):
    """
    A task of the suite with a flat observation, each action played ``repeat`` times.

    :param domain: of the suite, such as ``"walker"``
    :param task: of the domain, such as ``"walk"``
    :param repeat: steps of the suite for each action; their rewards are added
    """

    def __init__(self, domain: str, task: str, repeat: int = REPEAT) -> None:
        os.environ.setdefault("MUJOCO_GL", "disable")  # nothing is drawn, and machines without a display are not asked
        from dm_control import suite  # takes seconds: not for whoever only asks which tasks there are
        from shimmy.dm_control_compatibility import DmControlCompatibilityV0

        super().__init__(DmControlCompatibilityV0(suite.load(domain, task)))
        self.repeat = repeat
        assert isinstance(self.env.observation_space, spaces.Dict) and isinstance(self.env.action_space, spaces.Box)
        self.keys = tuple(self.env.observation_space.spaces)
        size = sum(int(np.prod(part.shape or ())) for part in self.env.observation_space.values())
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = spaces.Box(
            self.env.action_space.low.astype(np.float32), self.env.action_space.high.astype(np.float32)
        )

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """:return: the first observation of an episode, and nothing else that is worth knowing"""
        observation, _ = self.env.reset(**kwargs)
        return self._flat(observation), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        :param action: played ``repeat`` times, less where the episode ends before
        """
        total, terminated, truncated = 0.0, False, False
        for _ in range(self.repeat):
            observation, reward, terminated, truncated, _ = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return self._flat(observation), total, terminated, truncated, {}

    def _flat(self, observation: dict[str, Any]) -> np.ndarray:
        return np.concatenate([np.ravel(observation[key]) for key in self.keys]).astype(np.float32)


def env_id(domain: str, task: str) -> str:
    """
    :return: Gymnasium's id, such as ``"DMC-walker_walk-v0"``
    """
    return f"DMC-{domain}_{task}-v0"


for _domain, _tasks in TASKS.items():
    for _task in _tasks:
        gym.register(env_id(_domain, _task), f"{__name__}:ControlTask", kwargs={"domain": _domain, "task": _task})
