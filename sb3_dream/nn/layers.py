"""PyTorch's layers, without what takes them as long as multiplying a few rows: a policy that acts has no more."""

from __future__ import annotations

import torch as th
import torch.nn.functional as F
from torch import nn


class Linear(nn.Linear):
    """Finds its weights where they are; PyTorch's looks for each among the attributes of its class first."""

    def forward(self, x: th.Tensor) -> th.Tensor:
        own = self._parameters
        return F.linear(x, own["weight"], own["bias"])  # type: ignore[arg-type]


class LayerNorm(nn.LayerNorm):
    """Finds its weights as :class:`Linear` does."""

    def forward(self, x: th.Tensor) -> th.Tensor:
        own = self._parameters
        return F.layer_norm(x, self.normalized_shape, own["weight"], own["bias"], self.eps)


class Chain(nn.Sequential):
    """Layers one after the other, none of which is called as a module: hooks of single layers do not run."""

    def forward(self, x: th.Tensor) -> th.Tensor:
        for layer in self:
            x = layer.forward(x)
        return x
