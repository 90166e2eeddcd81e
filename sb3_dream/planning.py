"""Planning: before each action, sequences of actions are tried in the world model, and the best one's first is played.

The sequences are the policy's own samples, and what lies beyond them is left to the critic, as in TD-MPC (Hansen et al.
2022, *Temporal Difference Learning for Model Predictive Control*, section 3). A policy that has not learned a thing yet
can so find it by trying, as long as the world model is right about what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_dream.actor_critic import ActorCritic
from sb3_dream.imagination import imagine, lambda_returns
from sb3_dream.world_models.base import State, WorldModel


@dataclass(frozen=True)
class Planner:
    """
    :param samples: sequences of actions to try, K
    :param horizon: their length in steps, H
    :param gamma: discount factor
    :raises ValueError: if that is not two positive whole numbers and a number between 0 and 1
    """

    samples: int
    horizon: int
    gamma: float

    def __post_init__(self) -> None:
        whole = all(type(count) is int and count > 0 for count in (self.samples, self.horizon))
        if not (whole and isinstance(self.gamma, (int, float)) and 0 <= self.gamma <= 1):
            raise ValueError(f"expected positive whole numbers and a discount between 0 and 1, not {self}")

    def choose(
        self, world_model: WorldModel, actor_critic: ActorCritic, state: State, mask: th.Tensor | None
    ) -> th.Tensor:
        """
        :param state: N states in which to act
        :param mask: (N, K) bool of the actions allowed there, or None
        :return: (N, n) the first actions of the sequences with the largest discounted return
        """
        n = len(state.memory)
        start = State(*(part.repeat_interleave(self.samples, 0) for part in state))  # (N K, ...)
        first_mask = None if mask is None else mask.repeat_interleave(self.samples, 0)
        rollout = imagine(world_model, actor_critic, start, self.horizon, first_mask)
        values = rollout.rewards.new_zeros(self.horizon + 1, n * self.samples)
        values[-1] = actor_critic.slow_values(rollout.features[-1])  # the others have no weight
        returns = lambda_returns(rollout.rewards, rollout.continues, values, self.gamma, gae_lambda=1.0)[0]
        best = returns.view(n, self.samples).argmax(1)
        return rollout.actions[0].unflatten(0, (n, self.samples))[th.arange(n, device=best.device), best]


@contextmanager
def without_planning(model: BaseAlgorithm) -> Iterator[None]:
    """
    While it lasts, ``predict`` gives what the policy says.

    :param model: a DREAM, or any other algorithm, of which nothing changes
    """
    policy: Any = model.policy
    planner = getattr(policy, "planner", None)
    if planner is not None:
        policy.planner = None
    try:
        yield
    finally:
        if planner is not None:
            policy.planner = planner
