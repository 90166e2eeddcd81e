"""Predicting the next observation vector as a change to the last one."""

from __future__ import annotations

import math
from dataclasses import replace

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.distributions import sample_categorical, softmax, symexp, symlog
from sb3_dream.nn.grid import ColumnOutput, Layout
from sb3_dream.nn.moments import RunningMoments
from sb3_dream.spaces import Segment

_LARGEST = 20.0  # of a change in units of its usual size, and of an imagined value in symlog units


class ObservationHead(nn.Module):
    """A distribution of the next observation, given features and the observation before.

    Bits: two logits each, one for going out and one for coming on. Codes and one-hots: a categorical.
    Continuous values: Student's t with 4 degrees of freedom over the change in symlog units, in units of the running
    size of such changes. With a Gaussian one step that is far off, such as a collision, can count more than a thousand
    others (Lange, Little and Taylor 1989, *Robust Statistical Modeling Using the t Distribution*). Those whose bounds
    are 0 and 1 and that were never anything else are bits, which a space of floats cannot say, such as a leg's contact
    with the ground in LunarLander: the most probable change of such a value is almost always none.

    :param segments: what the observation's values are
    :param layout: where its grids are
    :param width: features a column
    :param heavy_tails: False for a Gaussian in place of Student's t
    :param find_bits: False to take bits of a space of floats for continuous values
    """

    numbers: th.Tensor

    def __init__(
        self,
        segments: tuple[Segment, ...],
        layout: Layout,
        width: int,
        heavy_tails: bool = True,
        find_bits: bool = True,
    ) -> None:
        super().__init__()
        self.segments = segments if find_bits else tuple(replace(s, unit=False) for s in segments)
        self.heavy_tails = heavy_tails
        self.values = ColumnOutput(layout, width, copies=2)
        self.codes = nn.ModuleDict(
            {str(s.start): nn.Linear(width, _classes(s)) for s in segments if s.kind in ("code", "onehot")}
        )
        self.changes = RunningMoments(layout.size)
        self.units = any(s.unit for s in self.segments)
        if self.units:
            self.register_buffer("numbers", th.zeros(layout.size))  # above 0 where a value was neither 0 nor 1

    def update_scale(self, before: th.Tensor, after: th.Tensor, valid: th.Tensor) -> None:
        """Track how far continuous values move in a step, and which of them are not bits.

        :param before: (N, V) observations
        :param after: (N, V) the observations that followed
        :param valid: (N,) 1 where both are real
        """
        self.changes.update(symlog(after) - symlog(before), valid)
        if self.units:
            other = ((after != 0) & (after != 1)) * valid[:, None]
            self.numbers.copy_(self.numbers.maximum(other.amax(0)))

    def forward(self, features: th.Tensor, before: th.Tensor) -> dict[str, th.Tensor]:
        """
        :param features: (N, J, D)
        :param before: (N, V)
        :return: the distribution's parameters, for :meth:`loss` and :meth:`sample`
        """
        values = self.values(features)  # (2, N, V)
        pooled = features.mean(1)
        parameters = {start: layer(pooled) for start, layer in self.codes.items()}
        parameters["values"] = values
        parameters["bits"] = th.where(before > 0.5, 2.0 - values[0], values[1] - 2.0)  # (N, V)
        return parameters

    def loss(self, parameters: dict[str, th.Tensor], before: th.Tensor, after: th.Tensor) -> th.Tensor:
        """
        :param before: (N, V)
        :param after: (N, V) the observation to predict
        :return: (N,) negative log-likelihood in nats
        """
        total = after.new_zeros(after.shape[0])
        for s in self.segments:
            target = after[:, s.slice]
            if s.kind == "bits":
                total = total + _bit_nats(parameters, s, target).sum(-1)
            elif s.kind == "continuous":
                mean, log_scale = self._center(parameters, s)
                change = (symlog(target) - symlog(before[:, s.slice])) / self.changes.rms[s.slice]
                nats = self._nats((change - mean) / log_scale.exp()) + log_scale
                if s.unit:
                    nats = th.where(self.numbers[s.slice] > 0, nats, _bit_nats(parameters, s, target))
                total = total + nats.sum(-1)
            else:
                total = total + F.cross_entropy(parameters[str(s.start)], _to_class(s, target), reduction="none")
        return total

    def sample(
        self, parameters: dict[str, th.Tensor], before: th.Tensor, temperature: float = 1.0, noise: float = 1.0
    ) -> th.Tensor:
        """
        :param before: (N, V)
        :param temperature: of bits; 0 takes the more probable value. Codes and one-hots always vary
        :param noise: of continuous values, as a share of what was learned; 0 takes the most probable value
        :return: (N, V) a next observation
        """
        parts = []
        for s in self.segments:
            if s.kind == "bits":
                parts.append(_sample_bits(parameters, s, temperature))
            elif s.kind == "continuous":
                change, log_scale = self._center(parameters, s)
                if noise > 0:
                    deviation = _heavy_noise(change) if self.heavy_tails else th.randn_like(change)
                    change = change + noise * log_scale.exp() * deviation
                # a dream that runs away stays finite
                change = change.clamp(-_LARGEST, _LARGEST)
                after = symlog(before[:, s.slice]) + change * self.changes.rms[s.slice]
                after = symexp(after.clamp(-_LARGEST, _LARGEST))
                if s.unit:
                    after = th.where(self.numbers[s.slice] > 0, after, _sample_bits(parameters, s, temperature))
                parts.append(after)
            else:
                index = sample_categorical(softmax(parameters[str(s.start)])).squeeze(-1)
                parts.append(_from_class(s, index))
        return parts[0] if len(parts) == 1 else th.cat(parts, -1)

    def _nats(self, error: th.Tensor) -> th.Tensor:
        """Negative log-density of errors in units of the scale."""
        if not self.heavy_tails:
            return 0.5 * error**2 + 0.5 * math.log(2 * math.pi)
        return 2.5 * th.log1p(error**2 / 4) + math.log(8 / 3)

    def _center(self, parameters: dict[str, th.Tensor], s: Segment) -> tuple[th.Tensor, th.Tensor]:
        """The most probable change, and the logarithm of the distribution's scale, between -5 and 1."""
        mean, raw = parameters["values"][..., s.slice].unbind(0)
        return mean, -2.0 + 3.0 * th.tanh((raw + 1.0) / 3.0)


def _bit_nats(parameters: dict[str, th.Tensor], s: Segment, target: th.Tensor) -> th.Tensor:
    return F.binary_cross_entropy_with_logits(parameters["bits"][:, s.slice], target, reduction="none")


def _sample_bits(parameters: dict[str, th.Tensor], s: Segment, temperature: float) -> th.Tensor:
    logits = parameters["bits"][:, s.slice]
    if temperature > 0:
        uniform = th.rand_like(logits).clamp_(1e-6, 1 - 1e-6)
        logits = logits + temperature * th.logit(uniform)
    return (logits > 0).to(logits.dtype)


def _heavy_noise(like: th.Tensor) -> th.Tensor:
    """Student's t with 4 degrees of freedom: the mean of two exponentials is a chi-square with 4, over 4."""
    spread = th.empty((2, *like.shape), dtype=like.dtype, device=like.device).exponential_().mean(0)
    return th.randn_like(like) / spread.clamp(min=1e-6).sqrt()


def _classes(s: Segment) -> int:
    return 2**s.size if s.kind == "code" else s.size


def _powers(s: Segment, like: th.Tensor) -> th.Tensor:
    return 2 ** th.arange(s.size, device=like.device)


def _to_class(s: Segment, value: th.Tensor) -> th.Tensor:
    if s.kind == "onehot":
        return value.argmax(-1)
    return (value.round().long() * _powers(s, value)).sum(-1)


def _from_class(s: Segment, index: th.Tensor) -> th.Tensor:
    if s.kind == "onehot":
        return F.one_hot(index, s.size).float()
    return (index[:, None] // _powers(s, index) % 2).float()
