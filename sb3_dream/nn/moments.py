"""Running means and deviations, to bring continuous values to a common scale."""

from __future__ import annotations

import torch as th
from torch import nn


class RunningMoments(nn.Module):
    """Mean and standard deviation of vectors: an exact average at first, a moving one later.

    :param size: length of the vectors
    :param rate: of the moving average
    """

    mean: th.Tensor
    square: th.Tensor
    updates: th.Tensor

    def __init__(self, size: int, rate: float = 0.002) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("mean", th.zeros(size))
        self.register_buffer("square", th.ones(size))
        self.register_buffer("updates", th.zeros(()))  # a float: the policy's state dict holds no integers

    @th.no_grad()
    def update(self, x: th.Tensor, valid: th.Tensor) -> None:
        """
        :param x: (N, size)
        :param valid: (N,) 1 for rows that count, 0 for others; where none does, nothing changes
        """
        count = valid.sum()
        any_valid = count > 0  # as a number, since a GPU would have to be waited for to branch
        self.updates += any_valid
        rate = any_valid * (1 / self.updates).clamp(min=self.rate, max=1.0)
        weight = valid[:, None] / count.clamp(min=1.0)
        self.mean.lerp_((x * weight).sum(0), rate)
        self.square.lerp_((x**2 * weight).sum(0), rate)

    @property
    def std(self) -> th.Tensor:
        """(size,) standard deviation, never below 1e-3."""
        return (self.square - self.mean**2).clamp(min=1e-6).sqrt()

    @property
    def rms(self) -> th.Tensor:
        """(size,) root of the mean square, never below 1e-3."""
        return self.square.clamp(min=1e-6).sqrt()

    def normalize(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: (..., size)
        :return: (..., size) in standard deviations from the mean, at most 10
        """
        return ((x - self.mean) / self.std).clamp(-10.0, 10.0)


class Scalar(nn.Module):
    """A number predicted with a squared loss, in units of the running size of the targets.

    Takes the place of :class:`~sb3_dream.nn.distributions.TwoHot`. Where targets are sums over the parts of what is
    seen, this learns them from fewer examples than classes do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.targets = RunningMoments(1)

    def update(self, target: th.Tensor, weight: th.Tensor) -> None:
        """
        :param target: (N,)
        :param weight: (N,) 1 for those that count
        """
        self.targets.update(target[:, None], weight)

    def decode(self, outputs: th.Tensor) -> th.Tensor:
        """
        :param outputs: (..., 1)
        :return: (...)
        """
        return outputs[..., 0] * self.targets.rms

    def loss(self, outputs: th.Tensor, target: th.Tensor) -> th.Tensor:
        """
        :param outputs: (..., 1)
        :param target: (...)
        :return: (...)
        """
        return 0.5 * (outputs[..., 0] - target / self.targets.rms) ** 2
