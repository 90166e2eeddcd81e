"""Distributions of the world model, the critic and the actor, as plain tensor functions.

No ``torch.distributions`` here: on a CPU its checks and its sampling cost more than the networks around them.
"""

from __future__ import annotations

import torch as th
import torch.nn.functional as F
from torch import nn


def symlog(x: th.Tensor) -> th.Tensor:
    """sign(x) ln(1 + abs(x)) (DreamerV3, Hafner et al. 2023, eq. 9)."""
    return th.sign(x) * th.log1p(x.abs())


def symexp(x: th.Tensor) -> th.Tensor:
    """The inverse of :func:`symlog`."""
    return th.sign(x) * th.expm1(x.abs())


def log_unimix(logits: th.Tensor, unimix: float, mask: th.Tensor | None = None) -> th.Tensor:
    """Log-probabilities of a categorical mixed with a uniform one (DreamerV3, "Actor learning" and "World model").

    :param logits: (..., K)
    :param unimix: share of the uniform distribution, over the allowed classes
    :param mask: (..., K) bool, True where a class is allowed; at least one must be
    :return: (..., K) normalised log-probabilities; a masked class has a probability of exactly 0 (-inf)
    """
    if mask is not None:
        logits = logits.masked_fill(~mask, -th.inf)
    if unimix == 0.0:
        return F.log_softmax(logits, -1)
    probabilities = F.softmax(logits, -1)
    if mask is None:
        return th.log((1 - unimix) * probabilities + unimix / logits.shape[-1])
    uniform = mask / mask.sum(-1, keepdim=True)
    mixed = (1 - unimix) * probabilities + unimix * uniform
    # the logarithm of 1 instead of 0 keeps the gradient of masked classes 0 rather than NaN
    return th.log(th.where(mask, mixed, 1.0)).masked_fill(~mask, -th.inf)


def sample_categorical(log_probs: th.Tensor) -> th.Tensor:
    """One uniform number and a cumulative sum: on a CPU 14 times faster than ``torch.multinomial``'s race.

    :param log_probs: (..., K) normalised
    :return: (...) int64 indices; a class of probability 0 is never drawn
    """
    cumulative = log_probs.exp().cumsum(-1)
    # the cumulative sum may end a rounding error away from 1; scaling by its end keeps every draw inside the support
    threshold = th.rand_like(cumulative[..., :1]) * cumulative[..., -1:]
    index = (cumulative <= threshold).sum(-1)
    # rounding up to exactly the total would fall behind the last class: take the most probable one then
    return th.where(index < log_probs.shape[-1], index, log_probs.argmax(-1))


def categorical_entropy(log_probs: th.Tensor) -> th.Tensor:
    """
    :param log_probs: (..., K) normalised, -inf where masked
    :return: (...) entropy in nats
    """
    finite = log_probs.masked_fill(log_probs == -th.inf, 0.0)
    return -(log_probs.exp() * finite).sum(-1)


def categorical_kl(log_p: th.Tensor, log_q: th.Tensor) -> th.Tensor:
    """
    :param log_p: (..., K) normalised
    :param log_q: (..., K) normalised
    :return: (...) KL(p || q) in nats
    """
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class TwoHot(nn.Module):
    """A scalar as a categorical over bins that are evenly spaced in symlog space (DreamerV3, "Critic learning").

    :param bins: number of bins, odd so that 0 is one of them
    :param low: first bin, in symlog units
    :param high: last bin, in symlog units
    """

    centers: th.Tensor

    def __init__(self, bins: int = 255, low: float = -20.0, high: float = 20.0) -> None:
        super().__init__()
        if bins < 3 or bins % 2 == 0:
            raise ValueError(f"two-hot needs an odd number of bins, at least 3, not {bins}")
        half = symexp(th.linspace(low, 0.0, bins // 2 + 1)) if low == -high else None
        centers = symexp(th.linspace(low, high, bins)) if half is None else th.cat((half, -half[:-1].flip(0)))
        self.register_buffer("centers", centers, persistent=False)

    def decode(self, logits: th.Tensor) -> th.Tensor:
        """
        :param logits: (..., K)
        :return: (...) the expected value; exactly 0 for uniform logits, because mirrored bins are summed together
        """
        probabilities = F.softmax(logits, -1)
        half = self.centers.shape[0] // 2
        if self.centers[0] != -self.centers[-1]:
            return (probabilities * self.centers).sum(-1)
        mirrored = probabilities[..., half + 1 :] - probabilities[..., :half].flip(-1)
        return (mirrored * self.centers[half + 1 :]).sum(-1)

    def encode(self, target: th.Tensor) -> th.Tensor:
        """
        :param target: (...) values
        :return: (..., K) weights on the two bins around each value, summing to 1
        """
        last = self.centers.shape[0] - 1
        target = target.clamp(self.centers[0], self.centers[-1])
        above = th.searchsorted(self.centers, target.contiguous()).clamp(1, last)
        low, high = self.centers[above - 1], self.centers[above]
        weight = ((target - low) / (high - low)).unsqueeze(-1)
        encoded = target.new_zeros(*target.shape, last + 1)
        encoded.scatter_(-1, above.unsqueeze(-1) - 1, 1 - weight)
        return encoded.scatter_(-1, above.unsqueeze(-1), weight)

    def loss(self, logits: th.Tensor, target: th.Tensor) -> th.Tensor:
        """
        :param logits: (..., K)
        :param target: (...)
        :return: (...) cross-entropy in nats
        """
        return -(self.encode(target) * F.log_softmax(logits, -1)).sum(-1)
