"""Rollouts inside a world model, and what they are worth."""

from __future__ import annotations

from typing import NamedTuple

import torch as th

from sb3_dream.actor_critic import ActorCritic
from sb3_dream.novelty import Novelty
from sb3_dream.world_models.base import State, WorldModel


class Rollout(NamedTuple):
    """Imagined from N starts over H steps.

    :param features: (H + 1, N, F) of every state
    :param actions: (H, N, n) as the policy drew them
    :param log_probs: (H, N) of the actions under the policy that drew them
    :param masks: (H, N, K) bool of allowed actions, or None
    :param rewards: (H, N) on arrival at the state after each action
    :param continues: (H, N) probability that the episode goes on from there
    :param last: the states in which the rollouts end
    :param novelty: (H, N) how new what is perceived after each action is, or None
    """

    features: th.Tensor
    actions: th.Tensor
    log_probs: th.Tensor
    masks: th.Tensor | None
    rewards: th.Tensor
    continues: th.Tensor
    last: State
    novelty: th.Tensor | None = None

    def weights(self) -> th.Tensor:
        """(H, N) how probably each step is still part of the episode."""
        alive = th.cat((th.ones_like(self.continues[:1]), self.continues[:-1]))
        return alive.cumprod(0).detach()

    def curious(self, weight: th.Tensor) -> Rollout:
        """
        :param weight: scalar, of a reward for what is new, as long as the episode goes on
        :return: the rollout with that reward in it; itself without ``novelty``
        """
        if self.novelty is None:
            return self
        return self._replace(rewards=self.rewards + weight * self.continues * self.novelty)


def imagine(
    world_model: WorldModel,
    actor_critic: ActorCritic,
    start: State,
    horizon: int,
    first_mask: th.Tensor | None = None,
    novelty: Novelty | None = None,
) -> Rollout:
    """Let the policy act in the world model. Gradients flow where autograd is on.

    :param start: N states, none of them terminal
    :param horizon: number of steps H
    :param first_mask: (N, K) bool of the actions allowed in ``start``; the world model's own belief when None
    :param novelty: what says how new what is imagined is
    """
    state, features = start, world_model.features(start)
    seen = _Stack(features, horizon + 1)
    actions, log_probs, masks, outcomes, new = [], [], [], [], []
    for step in range(horizon):
        mask = world_model.action_mask(state) if step or first_mask is None else first_mask
        policy = actor_critic.actions(features, mask)
        action = policy.sample()
        log_probs.append(policy.log_prob(action))
        state, outcome = world_model.advance(state, world_model.action_spec.encode(action))
        outcomes.append(outcome)
        if novelty is not None:
            new.append(novelty(state.percept))
        features = world_model.features(state)
        seen.append(features)
        actions.append(action)
        if mask is not None:
            masks.append(mask)
    return Rollout(
        seen.stacked(),
        th.stack(actions),
        th.stack(log_probs),
        th.stack(masks) if masks else None,
        th.stack([outcome.reward for outcome in outcomes]),
        th.stack([outcome.continues for outcome in outcomes]),
        state,
        th.stack(new) if new else None,
    )


class _Stack:
    """``th.stack`` of large tensors: without gradients each is copied at once, while it lies in the processor's cache.

    :param first: of the tensors
    :param count: how many there will be
    """

    def __init__(self, first: th.Tensor, count: int) -> None:
        self._whole = None if th.is_grad_enabled() else first.new_empty(count, *first.shape)
        self._parts: list[th.Tensor] = []
        self.append(first)

    def append(self, part: th.Tensor) -> None:
        """
        :param part: the next tensor
        """
        self._parts.append(part if self._whole is None else self._whole[len(self._parts)].copy_(part))

    def stacked(self) -> th.Tensor:
        """
        :return: all of them
        """
        return th.stack(self._parts) if self._whole is None else self._whole


def lambda_returns(
    rewards: th.Tensor, continues: th.Tensor, values: th.Tensor, gamma: float | th.Tensor, gae_lambda: float
) -> th.Tensor:
    """``R_t = r_t + gamma c_t ((1 - lambda) v_{t+1} + lambda R_{t+1})`` with ``R_H = v_H`` (DreamerV3, eq. 7).

    :param rewards: (H, N) on arrival at state t + 1
    :param continues: (H, N) whether the episode goes on from state t + 1
    :param values: (H + 1, N)
    :return: (H, N)
    """
    following, returns = values[-1], []
    for t in reversed(range(rewards.shape[0])):
        mixed = (1 - gae_lambda) * values[t + 1] + gae_lambda * following
        following = rewards[t] + gamma * continues[t] * mixed
        returns.append(following)
    return th.stack(returns[::-1])
