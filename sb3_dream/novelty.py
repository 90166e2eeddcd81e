"""How new a percept is: a reason to go somewhere before there is a reward to be found.

Random network distillation (Burda et al. 2019, *Exploration by Random Network Distillation*, section 2): a network
learns to predict what another one, random and never trained, makes of what has been perceived. Where nobody has been,
it is wrong. Here it learns from replayed percepts and is asked about imagined ones: the policy looks for what is new in
the world model before it goes there.
"""

from __future__ import annotations

import torch as th
from torch import nn

from sb3_dream.nn.mlp import mlp
from sb3_dream.nn.moments import RunningMoments
from sb3_dream.world_models.base import masked_mean

_WIDTH = 128
_OUTPUTS = 64
_MOST = 5.0  # a percept that is new in every way says nothing about where to go first


class Novelty(nn.Module):
    """
    :param size: of a percept
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.percepts = RunningMoments(size)
        self.errors = RunningMoments(1)
        self.target = mlp(size, _WIDTH, 1, _OUTPUTS).requires_grad_(False)
        self.predictor = mlp(size, _WIDTH, 2, _OUTPUTS)

    def loss(self, percept: th.Tensor, valid: th.Tensor) -> th.Tensor:
        """
        :param percept: (B, T, P) of what happened
        :param valid: (B, T) 1 for rows that count, 0 for others
        :return: scalar to minimise
        """
        percept, valid = percept.detach().flatten(0, 1), valid.flatten()
        self.percepts.update(percept, valid)
        error = self._error(percept)
        self.errors.update(error.detach()[:, None], valid)
        return masked_mean(error, valid)

    def forward(self, percept: th.Tensor) -> th.Tensor:
        """
        :param percept: (N, P)
        :return: (N,) how new each is, about 1 for what is replayed
        """
        return (self._error(percept) / self.errors.rms).clamp(max=_MOST)

    def _error(self, percept: th.Tensor) -> th.Tensor:
        scaled = self.percepts.normalize(percept)
        return (self.predictor(scaled) - self.target(scaled)).square().mean(-1)
