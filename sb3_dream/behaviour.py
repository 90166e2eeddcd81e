"""What the actor and the critic learn from rollouts in the world model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch as th

from sb3_dream.actor_critic import ActorCritic
from sb3_dream.imagination import Rollout, lambda_returns
from sb3_dream.nn.transfers import to_device
from sb3_dream.replay_samples import SequenceRows
from sb3_dream.world_models.base import Observed, State


def draw_starts(rows: SequenceRows, observed: Observed, count: int) -> State:
    """
    :param rows: of the sequences that were observed
    :param count: how many at most
    :return: states to imagine from, drawn without replacement among those that are real and not terminal
    """
    usable = np.flatnonzero(np.arange(observed.memory.shape[1]) < rows.n_open[:, None])
    chosen = to_device(th.from_numpy(usable)[th.randperm(len(usable))[:count]], observed.memory.device)
    return State(observed.memory.flatten(0, 1)[chosen], observed.percept.flatten(0, 1)[chosen])


class Evaluated(NamedTuple):
    """A rollout and what it is worth.

    :param rollout: H steps from N starts
    :param returns: (H, N) lambda-returns, differentiable where the rollout is
    :param values: (H + 1, N) by the slow critic
    """

    rollout: Rollout
    returns: th.Tensor
    values: th.Tensor


class Experience(NamedTuple):
    """Imagined steps, all in a row.

    :param features: (N, F)
    :param actions: (N, n)
    :param log_probs: (N,) under the policy that acted
    :param gains: (N,) advantages, or returns that are differentiable through the world model
    :param returns: (N,) targets of the critic
    :param values: (N,) by the slow critic
    :param weights: (N,) how probably the step is still part of the episode
    :param masks: (N, K) allowed actions, or None
    """

    features: th.Tensor
    actions: th.Tensor
    log_probs: th.Tensor
    gains: th.Tensor
    returns: th.Tensor
    values: th.Tensor
    weights: th.Tensor
    masks: th.Tensor | None

    def rows(self, index: th.Tensor | slice) -> Experience:
        """
        :param index: which steps, (M,) or a slice
        """
        if isinstance(index, slice):
            return Experience(*(None if part is None else part[index] for part in self))  # type: ignore[arg-type]
        # what brackets do too, but four times as slowly
        return Experience(*(None if part is None else part.index_select(0, index) for part in self))  # type: ignore[arg-type]

    def batches(self, epochs: int, parts: int, size: int) -> Iterator[Experience]:
        """
        :param epochs: how often to go through the steps
        :param parts: random ones, of each epoch
        :param size: how many steps of each epoch to use, at most: as many as other ranks have
        :return: ``epochs * parts`` batches, fewer only where there are hardly more steps than parts
        """
        for _ in range(epochs):
            if parts == 1 and size >= len(self.returns):
                yield self
                continue
            for rows in th.randperm(len(self.returns), device=self.returns.device)[:size].chunk(parts):
                yield self.rows(rows)


def evaluate(rollout: Rollout, actor_critic: ActorCritic, gamma: float | th.Tensor, gae_lambda: float) -> Evaluated:
    """
    :param gamma: discount factor, a number or a scalar
    :param gae_lambda: lambda of the lambda-returns
    """
    # step by step, since all at once would leave a processor's cache
    values = th.stack([actor_critic.slow_values(features) for features in rollout.features])
    return Evaluated(rollout, lambda_returns(rollout.rewards, rollout.continues, values, gamma, gae_lambda), values)


def experience(evaluated: Evaluated, scale: th.Tensor, through_model: bool, normalize_advantage: bool) -> Experience:
    """
    :param scale: what gains are divided by, see :class:`~sb3_dream.actor_critic.ReturnScale`
    :param through_model: the gains are the returns themselves, differentiable, instead of advantages
    :param normalize_advantage: standardise the advantages instead of dividing them by ``scale``
    """
    rollout, returns, values = evaluated
    if through_model:
        gains = returns / scale
    else:
        gains = returns - values[:-1]
        several = gains.numel() > 1  # one alone has no standard deviation
        gains = (gains - gains.mean()) / (gains.std() + 1e-8) if normalize_advantage and several else gains / scale
    return Experience(
        rollout.features[:-1].detach().flatten(0, 1),
        rollout.actions.detach().flatten(0, 1),
        rollout.log_probs.detach().flatten(),
        gains.flatten(),
        returns.detach().flatten(),
        values[:-1].detach().flatten(),
        rollout.weights().flatten(),
        None if rollout.masks is None else rollout.masks.flatten(0, 1),
    )


_PIECE = 1024  # steps whose activations, a few megabytes, stay in a processor's cache until the backward pass


def losses_in_pieces(
    actor_critic: ActorCritic, steps: Experience, through_model: bool, clip_range: th.Tensor, ent_coef: float
) -> Iterator[dict[str, th.Tensor]]:
    """
    :param steps: any number
    :return: losses and metrics, as :func:`behaviour_losses` gives them, in pieces that add up. There is one alone
        where gradients go on into the rollout, and on a GPU, which is fastest with all steps at once
    """
    count = len(steps.returns)
    size = _PIECE if steps.features.device.type == "cpu" and not through_model else count
    for start in range(0, count, size):
        piece = steps.rows(slice(start, start + size))
        losses, metrics = behaviour_losses(actor_critic, piece, through_model, clip_range, ent_coef)
        share = len(piece.returns) / count
        yield {name: share * scalar for name, scalar in (losses | metrics).items()}


def behaviour_losses(
    actor_critic: ActorCritic, steps: Experience, through_model: bool, clip_range: th.Tensor, ent_coef: float
) -> tuple[dict[str, th.Tensor], dict[str, th.Tensor]]:
    """
    :param through_model: whether ``steps.gains`` are differentiable
    :param clip_range: of the probability ratio (Schulman et al. 2017, eq. 7), a scalar
    :param ent_coef: weight of the entropy
    :return: losses, whose sum is to be minimised, and metrics to log
    """
    actor, outputs = actor_critic.evaluate(steps.features, steps.masks)
    if through_model:
        gain = steps.gains
    else:
        ratio = (actor.log_prob(steps.actions) - steps.log_probs).exp()
        gain = th.minimum(ratio * steps.gains, ratio.clamp(1 - clip_range, 1 + clip_range) * steps.gains)
    entropy = actor.entropy()
    # the regulariser keeps the critic near its slow copy, on whose returns it learns (DreamerV3, "Critic learning")
    value_loss = actor_critic.value_loss(outputs, steps.returns, steps.values)
    losses = {
        "actor_loss": -(gain * steps.weights).mean(),
        "entropy_loss": -ent_coef * (entropy * steps.weights).mean(),
        "critic_loss": (value_loss * steps.weights).mean(),
    }
    return losses, {"entropy": entropy.detach().mean()}
