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
REWARDS = (-5.0, 0.0, 2.0, 0.0, 3.0, 0.0, 0.0, 1.0)
"""For arriving at each cell; arriving at the first ends the episode."""


class Corridor(gym.Env[np.ndarray, np.int64]):
    """Left or right, between a pit at the left end and a wall at the right one.

    :param observation_space: ``BITS`` or ``HEIGHT``
    :param start: first cell, random if None
    :param masks: forbid going left from the last cell
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
        return look(self.observation_space, self.cell), REWARDS[self.cell], self.cell == 0, False, {}


def look(space: spaces.Space, cell: int) -> np.ndarray:
    return np.eye(CELLS, dtype=np.int8)[cell] if space is BITS else np.array([10.0 * cell, 5.0], np.float32)


class ExactWorldModel(WorldModel):
    """
    Percepts are observations; the memory counts the steps.

    :param stuck: believe that nothing ever moves
    :param reward: factor of the rewards
    :param only_pit: believe that nothing but the pit has a reward
    :param ending: how probable an end is believed to be outside of the pit
    """

    memory_size = 1

    def __init__(
        self, observation_spec: Any, action_spec: Any, mask_size: int | None = None, *,
        stuck: bool = False, reward: float = 1.0, only_pit: bool = False, ending: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(observation_spec, action_spec, mask_size)
        self.stuck, self.ending = stuck, ending
        self.rewards = reward * th.tensor(REWARDS) * (th.arange(CELLS) < (1 if only_pit else CELLS))
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
        return Outcome(self.rewards[cell], 1 - th.where(cell == 0, 1.0, self.ending))

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
        actor_critic_kwargs={"net_arch": (16,)},
        mask_size=mask_size,
    )
