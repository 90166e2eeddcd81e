"""Distributions over actions."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Protocol

import torch as th
import torch.nn.functional as F

from sb3_dream.nn.distributions import (
    allowed_logits,
    categorical_entropy,
    log_unimix,
    sample_categorical,
    unimix_probabilities,
)

_INSIDE = 1 - 1e-6  # what single precision still tells from 1


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
        self._unimix = unimix
        masks = [None] * len(choices) if mask is None else mask.split(choices, -1)
        self._parts = list(zip(logits.split(choices, -1), masks, strict=True))

    @cached_property
    def log_probs(self) -> list[th.Tensor]:
        """(N, choices) each, computed when asked for: acting needs none."""
        return [log_unimix(logits, self._unimix, mask) for logits, mask in self._parts]

    def sample(self) -> th.Tensor:
        mixtures = (unimix_probabilities(logits.detach(), self._unimix, mask) for logits, mask in self._parts)
        return th.cat([sample_categorical(mixture) for mixture in mixtures], -1).float()

    def mode(self) -> th.Tensor:
        return th.stack([allowed_logits(logits, mask).argmax(-1) for logits, mask in self._parts], -1).float()

    def log_prob(self, action: th.Tensor) -> th.Tensor:
        index = action.long().unbind(-1)
        gathered = [p.gather(-1, i[..., None]).squeeze(-1) for p, i in zip(self.log_probs, index, strict=True)]
        return th.stack(gathered, -1).sum(-1)

    def entropy(self) -> th.Tensor:
        return th.stack([categorical_entropy(log_probs) for log_probs in self.log_probs], -1).sum(-1)


class GaussianActions:
    """Independent Gaussians, squashed into (-1, 1) by a hyperbolic tangent (Haarnoja et al. 2018, *Soft Actor-Critic*,
    appendix C). Entropy is that of the squashed actions, so that it also keeps them away from the bounds, where
    another action is hardly ever tried again.

    :param parameters: (N, 2 n) raw means and deviations; means before squashing stay within ``limit`` (Hafner et al.
        2020, *Dream to Control*, appendix A)
    :param min_std: smallest standard deviation before squashing
    :param max_std: largest standard deviation before squashing
    :param limit: largest mean before squashing
    """

    def __init__(self, parameters: th.Tensor, min_std: float = 0.05, max_std: float = 1.0, limit: float = 5.0) -> None:
        mean, std = parameters.chunk(2, -1)
        self.mean = limit * th.tanh(mean / limit)
        self.std = min_std + (max_std - min_std) * th.sigmoid(std + 1.0)

    def _draw(self) -> th.Tensor:
        """(N, n) before squashing."""
        return self.mean + self.std * th.randn_like(self.mean)

    def sample(self) -> th.Tensor:
        return th.tanh(self._draw())

    def mode(self) -> th.Tensor:
        """(N, n) the squashed means."""
        return th.tanh(self.mean)

    def log_prob(self, action: th.Tensor) -> th.Tensor:
        return self._log_density(th.atanh(action.clamp(-_INSIDE, _INSIDE)))

    def _log_density(self, drawn: th.Tensor) -> th.Tensor:
        """(N,) of the actions that (N, n) ``drawn`` become."""
        error = (drawn - self.mean) / self.std
        slope = 2 * (math.log(2) - drawn - F.softplus(-2 * drawn))  # log(1 - tanh(x)^2), exact for large x, too
        return (-0.5 * error**2 - th.log(self.std) - 0.5 * math.log(2 * math.pi) - slope).sum(-1)

    def entropy(self) -> th.Tensor:
        """(N,) in nats, estimated from one draw each: it has no closed form."""
        return -self._log_density(self._draw())
