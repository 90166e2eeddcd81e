"""A corridor as an environment, and a world model that knows it without learning: what is measured on it is known."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_dream.policies import DreamPolicy
from sb3_dream.spaces import VECTOR, Observation
from sb3_dream.world_models.base import Observed, Outcome, Sequences, State, WorldModel, allowed_actions

CELLS = 8
BITS = spaces.MultiBinary(CELLS)
HEIGHT = spaces.Box(0.0, 10.0 * CELLS, (2,), np.float32)
"""Ten times the cell, and a value that is always 5."""


class Corridor(gym.Env[np.ndarray, np.int64]):
    """Left or right; 1 for arriving at the right end, where one cannot go left; the left end is a pit.

    :param observation_space: ``BITS`` or ``HEIGHT``
    :param start: first cell, random if None
    """

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space: spaces.Space = BITS, start: int | None = None, masks: bool = False) -> None:
        self.observation_space = observation_space
        self.start, self.cell = start, 1
        if masks:
            self.action_masks = lambda: np.array([self.cell < CELLS - 1, True])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.cell = int(self.np_random.integers(1, CELLS)) if self.start is None else self.start
        return look(self.observation_space, self.cell), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.cell = min(max(self.cell + 2 * int(action) - 1, 0), CELLS - 1)
        reward = float(self.cell == CELLS - 1)
        return look(self.observation_space, self.cell), reward, self.cell == 0, False, {}


def look(space: spaces.Space, cell: int) -> np.ndarray:
    return np.eye(CELLS, dtype=np.int8)[cell] if space is BITS else np.array([10.0 * cell, 5.0], np.float32)


class ExactWorldModel(WorldModel):
    """
    Percepts are observations; the memory counts the steps.

    :param stuck: believe that nothing ever moves
    :param reward: what arriving at the right end is believed to be worth
    :param ending: how probable an end is believed to be outside of the pit
    """

    memory_size = 1

    def __init__(
        self, observation_spec: Any, action_spec: Any, mask_size: int | None = None, *,
        stuck: bool = False, reward: float = 1.0, ending: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(observation_spec, action_spec, mask_size)
        self.stuck, self.reward, self.ending = stuck, reward, ending
        self.feature_layout = observation_spec.layout
        self.bits = observation_spec.vector_size == CELLS
        self.unused = nn.Parameter(th.zeros(1))

    def _cell(self, percept: th.Tensor) -> th.Tensor:
        return percept.argmax(-1) if self.bits else (percept[:, 0] / 10).long()

    def _percept(self, cell: th.Tensor) -> th.Tensor:
        return th.eye(CELLS)[cell] if self.bits else th.stack((10.0 * cell, th.full(cell.shape, 5.0)), -1)

    def perceive(self, memory: th.Tensor, observation: Observation) -> State:
        return State(memory, observation[VECTOR])

    def remember(self, state: State, action: th.Tensor) -> th.Tensor:
        return state.memory + 1

    def imagine(self, memory: th.Tensor, state: State, action: th.Tensor) -> State:
        cell = self._cell(state.percept)
        moved = cell if self.stuck else (cell + 2 * action.argmax(-1) - 1).clamp(0, CELLS - 1)
        return State(memory, self._percept(moved))

    def features(self, state: State) -> th.Tensor:
        return state.percept

    def outcome(self, previous: State, action: th.Tensor, state: State) -> Outcome:
        cell = self._cell(state.percept)
        return Outcome(self.reward * (cell == CELLS - 1), 1 - th.where(cell == 0, 1.0, self.ending))

    def reconstruct(self, state: State) -> Observation:
        return {VECTOR: state.percept}

    def action_mask(self, state: State) -> th.Tensor | None:
        if self.mask_size is None:
            return None
        left = th.where(self._cell(state.percept) == CELLS - 1, -1.0, 1.0)
        return allowed_actions(th.stack((left, th.ones_like(left)), -1), self.action_spec.choices)

    def observe(self, sequences: Sequences) -> Observed:
        steps = th.arange(sequences.reward.shape[1])[None, :, None]
        return Observed(
            sequences.memory[:, None] + steps, sequences.observation[VECTOR], {"none": self.unused.sum() * 0}, {}
        )


def policy(space: spaces.Space = BITS, mask_size: int | None = None, **kwargs: Any) -> DreamPolicy:
    return DreamPolicy(
        space,
        spaces.Discrete(2),
        lambda _: 1e-3,
        world_model=ExactWorldModel,
        world_model_kwargs=kwargs,
        actor_critic_kwargs={"width": 16, "depth": 1},
        mask_size=mask_size,
    )
