"""A DREAM that learns nothing but does everything, in a fraction of a second, and small environments for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_dream.dream import DREAM

NETWORKS: dict[str, Any] = {
    "world_model_kwargs": {"width": 8, "depth": 1, "memory": 4},
    "actor_critic_kwargs": {"net_arch": [8]},
}
RSSM = {"memory": 8, "blocks": 1, "groups": 2, "classes": 2, "hidden": 8, "width": 8, "depth": 1, "channels": 2}
LEARNING_STARTS = 8


def tiny(*args: Any, **kwargs: Any) -> DREAM:
    """A DREAM that makes an update every fourth step."""
    defaults: dict[str, Any] = {
        "policy_kwargs": NETWORKS,
        "buffer_size": 200,
        "learning_starts": LEARNING_STARTS,
        "batch_size": 2,
        "sequence_length": 4,
        "train_ratio": 2.0,
        "model_warmup": 0,
        "policy_delay": 1,
        "n_epochs": 1,
        "n_minibatches": 1,
        "imagination_starts": 4,
        "imagination_horizon": 2,
        "target_update_interval": 1,
        "seed": 0,
        "device": "cpu",
    }
    return DREAM(*args, **(defaults | kwargs))


class Walk(gym.Env[np.ndarray, Any]):
    """
    A corridor of ``cells`` bits. Left ends in a pit with a small reward, right at a prize; a step may slip.

    :param cells: its length
    :param slip: probability that a step goes the other way
    :param limit: steps before a time limit strikes
    :param start: cell in which episodes begin
    """

    action_space = spaces.Discrete(2)

    def __init__(self, cells: int = 5, slip: float = 0.0, limit: int = 20, start: int = 1) -> None:
        self.observation_space = spaces.MultiBinary(cells)
        self.cells, self.slip, self.limit, self.start = cells, slip, limit, start
        self.cell = self.steps = 0

    def _look(self) -> np.ndarray:
        return np.eye(self.cells, dtype=np.int8)[self.cell]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.cell, self.steps = self.start, 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        right = bool(action) != (self.np_random.random() < self.slip)
        self.cell += 1 if right else -1
        self.steps += 1
        won, lost = self.cell == self.cells - 1, self.cell == 0
        return self._look(), 1.0 if won else 0.2 * lost, won or lost, self.steps >= self.limit, {}


class SavedWalk(Walk):
    """One that can be snapshotted."""

    def get_state(self) -> tuple[int, int, dict[str, Any]]:
        return self.cell, self.steps, self.np_random.bit_generator.state

    def set_state(self, state: tuple[int, int, dict[str, Any]]) -> None:
        self.cell, self.steps, self.np_random.bit_generator.state = state


class MaskedWalk(Walk):
    """One with a third action, which is never allowed; going left is not, where it would end in the pit."""

    action_space = spaces.Discrete(3)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.played: list[int] = []

    def action_masks(self) -> np.ndarray:
        return np.array([self.cell > 1, True, False])

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_masks()[int(action)], "an action that is not allowed"
        self.played.append(int(action))
        return super().step(action)


class SavedMaskedWalk(SavedWalk, MaskedWalk):
    """One with masks that can be snapshotted."""


class Anything(gym.Env[Any, Any]):
    """Random observations; five steps an episode, every other one ended by a time limit. Refuses foreign actions."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.steps = self.episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        self.episodes += 1
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.steps += 1
        done = self.steps == 5
        timed_out = self.episodes % 2 == 0
        return self.observation_space.sample(), float(self.steps), done and not timed_out, done and timed_out, {}


def vectorized(make: Callable[[], gym.Env], count: int) -> VecEnv:
    """Several environments, each with a ``Monitor``."""
    return DummyVecEnv([lambda: Monitor(make())] * count)


def parameters(model: DREAM) -> dict[str, th.Tensor]:
    """Everything that training changes: weights, buffers, optimisers."""
    flat: dict[str, th.Tensor] = {}
    for name, state in model.get_parameters().items():
        flat |= _flat(name, state)
    return flat


def _flat(name: str, value: Any) -> dict[str, th.Tensor]:
    if isinstance(value, th.Tensor):
        return {name: value.detach().clone()}
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    flat: dict[str, th.Tensor] = {}
    for key, item in items:
        flat |= _flat(f"{name}/{key}", item)
    return flat


def assert_same(first: dict[str, th.Tensor], second: dict[str, th.Tensor]) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    different = [name for name in first if not th.equal(first[name], second[name])]
    assert not different, different
