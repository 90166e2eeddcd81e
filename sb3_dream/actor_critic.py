"""Actor, critic and slow critic, and their losses on imagined rollouts."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Literal

import torch as th
import torch.nn.functional as F
from stable_baselines3.common.utils import polyak_update
from torch import nn

from sb3_dream.nn.actions import ActionDistribution, CategoricalActions, GaussianActions
from sb3_dream.nn.distributions import TwoHot
from sb3_dream.nn.grid import ColumnLogits, GridNet, Layout
from sb3_dream.nn.layers import Chain, LayerNorm, Linear
from sb3_dream.nn.precision import products_in_bfloat16
from sb3_dream.spaces import ActionSpec

NetArch = tuple[int, ...] | Literal["auto"] | None


class Trunk(Chain):
    """Features (N, F) to (N, out_size).

    :param layout: what the features hold
    :param width: features a column
    :param depth: residual blocks
    :param net_arch: sizes of a plain perceptron's layers, to have that instead; "auto" for two of 256 where there are
        no pictures
    """

    def __init__(self, layout: Layout, width: int, depth: int, net_arch: NetArch) -> None:
        if net_arch == "auto":
            net_arch = (256, 256) if layout.columns == 1 else None
        if net_arch is not None:
            sizes = (layout.size, *net_arch)
            layers = [(Linear(a, b), nn.SiLU()) for a, b in pairwise(sizes)]
            super().__init__(*(module for layer in layers for module in layer))
            self.out_size = sizes[-1]
        elif layout.columns == 1:
            super().__init__(GridNet(layout, width, depth), nn.Flatten())
            self.out_size = width
        else:
            self.out_size = 2 * width
            join = (Linear(width * layout.columns, self.out_size), LayerNorm(self.out_size), nn.SiLU())
            super().__init__(GridNet(layout, width, depth), nn.Flatten(), *join)


class ActorCritic(nn.Module):
    """
    :param layout: what the world model's features hold
    :param action_spec: what the actions are. Where each is about a cell of the layout's pictures, the actor is a
        residual network over the columns, unless it shares its trunk, and learns for all of them what it learns in one
    :param critic_layout: the same and more that follows it in the features, which the actor is not told unless it
        shares its trunk; None for the same
    :param net_arch: sizes of the layers of plain perceptron trunks; None for residual ones over the layout's columns,
        which is what "auto" means where the layout has pictures; where it has none, it means two layers of 256
    :param width: of residual trunks, features a column
    :param depth: of residual trunks, number of blocks
    :param share_trunk: one trunk for actor and critic; the slow critic is then a second head on it
    :param critic_bins: bins of the two-hot critic; 1 for a plain scalar with a squared loss
    :param unimix: share of the uniform distribution in discrete policies
    :param matrix_step: root mean square of the change of a matrix's entries in an update, in learning rates, by the
        orthogonal steps of :class:`~sb3_dream.nn.muon.MuonAdam`; 0 for Adam's steps
    :param bfloat16: multiply matrices in bfloat16; everything else stays float32
    """

    def __init__(
        self,
        layout: Layout,
        action_spec: ActionSpec,
        critic_layout: Layout | None = None,
        *,
        width: int = 64,
        depth: int = 2,
        net_arch: NetArch = "auto",
        share_trunk: bool = False,
        critic_bins: int = 63,
        unimix: float = 0.01,
        matrix_step: float = 0.0,
        bfloat16: bool = False,
    ) -> None:
        super().__init__()
        self.action_spec, self.unimix, self.in_bfloat16 = action_spec, unimix, bfloat16
        self.matrix_step = matrix_step
        critic_layout = layout if critic_layout is None else critic_layout
        layout = critic_layout if share_trunk else layout
        self.actor_size = layout.size
        in_columns = layout.columns == action_spec.layout.columns > 1 and not share_trunk
        trunk = Trunk(layout, width, depth, net_arch)
        self.actor_trunk: nn.Module = GridNet(layout, width, depth) if in_columns else trunk
        self.critic_trunk = None if share_trunk else Trunk(critic_layout, width, depth, net_arch)
        outputs = 2 * action_spec.vector_size if action_spec.continuous else action_spec.vector_size
        self.actor_head: nn.Module = (
            ColumnLogits(action_spec.layout, width) if in_columns else Linear(trunk.out_size, outputs)
        )
        for parameter in self.actor_head.parameters():
            if parameter.ndim > 1:
                nn.init.orthogonal_(parameter, 0.01)
            else:
                nn.init.zeros_(parameter)
        self.critic_head = Linear(trunk.out_size, critic_bins)
        nn.init.zeros_(self.critic_head.weight)
        nn.init.zeros_(self.critic_head.bias)
        self.bins = TwoHot(critic_bins) if critic_bins > 1 else None
        critic = self.critic_head if self.critic_trunk is None else nn.Sequential(self.critic_trunk, self.critic_head)
        self.slow_critic = deepcopy(critic).requires_grad_(False)

    def actor_parameters(self) -> list[nn.Parameter]:
        return [*self.actor_trunk.parameters(), *self.actor_head.parameters()]

    def critic_parameters(self) -> list[nn.Parameter]:
        trunk = [] if self.critic_trunk is None else list(self.critic_trunk.parameters())
        return [*trunk, *self.critic_head.parameters()]

    def actions(self, features: th.Tensor, mask: th.Tensor | None = None) -> ActionDistribution:
        """
        :param features: (N, F)
        :param mask: (N, K) bool of allowed actions, or None
        """
        with products_in_bfloat16(self.in_bfloat16, features.device):
            outputs = self.actor_head(self.actor_trunk(self._actors(features)))
        return self._distribution(outputs.float(), mask)

    def _actors(self, features: th.Tensor) -> th.Tensor:
        """What the actor sees of features (N, F)."""
        return features[:, : self.actor_size]

    def _distribution(self, outputs: th.Tensor, mask: th.Tensor | None) -> ActionDistribution:
        if self.action_spec.continuous:
            return GaussianActions(outputs)
        return CategoricalActions(outputs, self.action_spec.choices, self.unimix, mask)

    def evaluate(self, features: th.Tensor, mask: th.Tensor | None) -> tuple[ActionDistribution, th.Tensor]:
        """
        :param features: (N, F)
        :return: the policy, and the critic's raw outputs (N, bins), each trunk computed once
        """
        with products_in_bfloat16(self.in_bfloat16, features.device):
            hidden = self.actor_trunk(self._actors(features))
            critic_hidden = hidden if self.critic_trunk is None else self.critic_trunk(features)
            actor, critic = self.actor_head(hidden), self.critic_head(critic_hidden)
        return self._distribution(actor.float(), mask), critic.float()

    def slow_values(self, features: th.Tensor) -> th.Tensor:
        """
        :param features: (N, F)
        :return: (N,) values by the slow critic
        """
        with products_in_bfloat16(self.in_bfloat16, features.device):
            outputs = self.slow_critic(self.actor_trunk(features) if self.critic_trunk is None else features)
        return self.decode(outputs.float())

    def values(self, features: th.Tensor) -> th.Tensor:
        """
        :param features: (N, F)
        :return: (N,) values by the critic
        """
        with products_in_bfloat16(self.in_bfloat16, features.device):
            hidden = self.actor_trunk(features) if self.critic_trunk is None else self.critic_trunk(features)
            outputs = self.critic_head(hidden)
        return self.decode(outputs.float())

    def decode(self, outputs: th.Tensor) -> th.Tensor:
        """Raw critic outputs (N, bins) to values (N,)."""
        return outputs.squeeze(-1) if self.bins is None else self.bins.decode(outputs)

    def value_loss(self, outputs: th.Tensor, *targets: th.Tensor) -> th.Tensor:
        """
        :param outputs: (N, bins) raw critic outputs
        :param targets: (N,) values, one or several of them
        :return: (N,) summed over the targets
        """
        if self.bins is None:
            value = outputs.squeeze(-1)
            return sum(F.smooth_l1_loss(value, target, reduction="none") for target in targets)  # type: ignore[return-value]
        return self.bins.loss(outputs, *targets)

    def update_slow_critic(self, tau: float) -> None:
        """
        :param tau: share of the critic that the slow critic takes over, 1 for a copy
        """
        critic = self.critic_head if self.critic_trunk is None else nn.Sequential(self.critic_trunk, self.critic_head)
        polyak_update(critic.parameters(), self.slow_critic.parameters(), tau)


class ReturnScale(nn.Module):
    """Moving 5-95 percentile range of returns (DreamerV3, "Actor learning"): it divides gains, and never enlarges them.

    :param rate: of the moving average
    """

    ends: th.Tensor
    low: th.Tensor
    high: th.Tensor
    started: th.Tensor

    def __init__(self, rate: float = 0.01) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("ends", th.tensor([0.05, 0.95]), persistent=False)
        for name in ("low", "high", "started"):
            self.register_buffer(name, th.zeros(()))

    @th.no_grad()
    def update(self, returns: th.Tensor) -> th.Tensor:
        """
        :param returns: any shape; where one is not finite, nothing changes
        :return: scalar to divide advantages by, at least 1
        """
        finite = th.isfinite(returns).all()
        low, high = th.quantile(returns.flatten(), self.ends).unbind()
        rate = th.where(self.started > 0, self.rate, 1.0)
        for end, now in ((self.low, low), (self.high, high)):
            end.copy_(th.where(finite, end.lerp(now, rate), end))
        self.started.copy_(th.maximum(self.started, finite.float()))
        return (self.high - self.low).clamp(min=1.0)
