"""Distributions over actions."""

from __future__ import annotations

import math
from typing import Protocol

import torch as th

from sb3_dream.nn.distributions import categorical_entropy, log_unimix, sample_categorical


class ActionDistribution(Protocol):
    """What a policy needs of a distribution over N actions of n components each."""

    def sample(self) -> th.Tensor:
        """(N, n) float actions: indices, or values; differentiable where the distribution is."""

    def mode(self) -> th.Tensor:
        """(N, n) the most probable actions."""

    def log_prob(self, action: th.Tensor) -> th.Tensor:
        """(N,) of (N, n) actions."""

    def entropy(self) -> th.Tensor:
        """(N,) in nats."""


class CategoricalActions:
    """Independent categoricals, one for each component of the action.

    :param logits: (N, sum(choices))
    :param choices: number of choices of each component
    :param unimix: share of the uniform distribution over the allowed choices
    :param mask: (N, sum(choices)) bool, or None
    """

    def __init__(
        self, logits: th.Tensor, choices: tuple[int, ...], unimix: float = 0.0, mask: th.Tensor | None = None
    ) -> None:
        masks = [None] * len(choices) if mask is None else mask.split(choices, -1)
        parts = zip(logits.split(choices, -1), masks, strict=True)
        self.log_probs = [log_unimix(part, unimix, part_mask) for part, part_mask in parts]

    def sample(self) -> th.Tensor:
        return th.stack([sample_categorical(log_probs) for log_probs in self.log_probs], -1).float()

    def mode(self) -> th.Tensor:
        return th.stack([log_probs.argmax(-1) for log_probs in self.log_probs], -1).float()

    def log_prob(self, action: th.Tensor) -> th.Tensor:
        index = action.long().unbind(-1)
        gathered = [p.gather(-1, i[..., None]).squeeze(-1) for p, i in zip(self.log_probs, index, strict=True)]
        return th.stack(gathered, -1).sum(-1)

    def entropy(self) -> th.Tensor:
        return th.stack([categorical_entropy(log_probs) for log_probs in self.log_probs], -1).sum(-1)


class GaussianActions:
    """Independent Gaussians with a mean in (-1, 1) and a bounded deviation (DreamerV3's bounded normal).

    Samples may leave [-1, 1]; whoever acts clips them.

    :param parameters: (N, 2 n) raw means and deviations
    :param min_std: smallest standard deviation
    :param max_std: largest standard deviation
    """

    def __init__(self, parameters: th.Tensor, min_std: float = 0.1, max_std: float = 1.0) -> None:
        mean, std = parameters.chunk(2, -1)
        self.mean = th.tanh(mean)
        self.std = min_std + (max_std - min_std) * th.sigmoid(std + 2.0)

    def sample(self) -> th.Tensor:
        return self.mean + self.std * th.randn_like(self.mean)

    def mode(self) -> th.Tensor:
        return self.mean

    def log_prob(self, action: th.Tensor) -> th.Tensor:
        error = (action - self.mean) / self.std
        return (-0.5 * error**2 - th.log(self.std) - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> th.Tensor:
        return (0.5 + 0.5 * math.log(2 * math.pi) + th.log(self.std)).sum(-1)
