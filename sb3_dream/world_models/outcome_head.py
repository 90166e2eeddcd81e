"""Predicting what a step brings: its reward, and whether the episode goes on.

The reward is a hurdle model (Cragg 1971): whether there is one at all, and how much it is if there is. The second
part may then be trained on as many rewarded steps as one likes without making rewards look more frequent than they
are. The first may, too, if its logit is raised, while it learns, by as much as the further steps raise the odds: what
it says without that is as frequent as what occurs (King & Zeng 2001, *Logistic Regression in Rare Events Data*, section
4.1). One reward in fifty thousand steps is hardly ever expected otherwise. Both parts are doubled, for steps that end
the episode and steps that do not, each in units of its own size: the large penalty or prize at an end would otherwise
drown the small rewards on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.distributions import TwoHot
from sb3_dream.nn.grid import GridNet, Layout, Parts
from sb3_dream.nn.moments import Scalar
from sb3_dream.world_models.base import Outcome, RareRewards, masked_mean


class OutcomeLogits(NamedTuple):
    """
    :param amount: (N, 2, bins) of how much the reward is, if the episode ends and if it does not
    :param rewarded: (N, 2) of there being a reward, likewise
    :param continues: (N,) of the episode going on
    """

    amount: th.Tensor
    rewarded: th.Tensor
    continues: th.Tensor


class OutcomeHead(nn.Module):
    """
    :param layout: what the input holds
    :param width: features of a column
    :param depth: residual blocks
    :param bins: of a two-hot amount; 1 for a plain number with a squared loss
    """

    def __init__(self, layout: Layout, width: int, depth: int, bins: int) -> None:
        super().__init__()
        self.net = GridNet(layout, width, depth)
        self.kinds = nn.ModuleList(TwoHot(bins) if bins > 1 else Scalar() for _ in range(2))
        self.amount = nn.Linear(width, 2 * bins)
        self.flags = nn.Linear(width, 3)
        nn.init.zeros_(self.amount.weight)
        nn.init.zeros_(self.amount.bias)

    def forward(self, x: Parts) -> OutcomeLogits:
        """
        :param x: laid out as ``layout`` says
        """
        pooled = self.net(x).mean(1)
        flags = self.flags(pooled)
        return OutcomeLogits(self.amount(pooled).unflatten(-1, (2, -1)), flags[:, :2], flags[:, 2])

    def expect(self, logits: OutcomeLogits) -> Outcome:
        """The expected reward and the probability that the episode goes on."""
        rewarded = th.sigmoid(logits.rewarded).unbind(-1)
        ending, alive = (p * kind.decode(part) for p, (kind, part) in zip(rewarded, self._amounts(logits), strict=True))
        continues = th.sigmoid(logits.continues)
        return Outcome(th.lerp(ending, alive, continues), continues)

    def losses(
        self,
        logits: OutcomeLogits,
        reward: th.Tensor,
        terminated: th.Tensor,
        valid: th.Tensor,
        rare: RareRewards | None = None,
    ) -> dict[str, th.Tensor]:
        """
        :param reward: (N,)
        :param terminated: (N,) 1 where the step ended the episode
        :param valid: (N,) 1 for rows that count
        :param rare: of the further steps that :meth:`rare_losses` learns from, or None
        """
        for kind, here in zip(self.kinds, (terminated, 1 - terminated), strict=True):
            if isinstance(kind, Scalar):
                kind.update(reward, valid * here * (reward != 0))
        return {
            "reward": self._amount_loss(logits, reward, terminated, valid),
            "rewarded": masked_mean(self._hurdle_loss(logits, reward, terminated, rare), valid),
            "continue": masked_mean(_binary(logits.continues, 1 - terminated), valid),
        }

    def rare_losses(
        self,
        logits: OutcomeLogits,
        reward: th.Tensor,
        terminated: th.Tensor,
        valid: th.Tensor,
        rare: RareRewards | None = None,
    ) -> dict[str, th.Tensor]:
        """Of further steps that have a reward; the arguments are those of :meth:`losses`."""
        amount = {"rare_reward": self._amount_loss(logits, reward, terminated, valid)}
        if rare is None:
            return amount
        hurdle = masked_mean(self._hurdle_loss(logits, reward, terminated, rare), valid * (reward != 0))
        return amount | {"rare_rewarded": rare.share * hurdle}

    def _amount_loss(
        self, logits: OutcomeLogits, reward: th.Tensor, terminated: th.Tensor, valid: th.Tensor
    ) -> th.Tensor:
        """Of how much the rewards are where there are any; the arguments are those of :meth:`losses`."""
        ending, alive = (kind.loss(part, reward) for kind, part in self._amounts(logits))
        return masked_mean(th.where(terminated > 0, ending, alive), valid * (reward != 0))

    def _hurdle_loss(
        self, logits: OutcomeLogits, reward: th.Tensor, terminated: th.Tensor, rare: RareRewards | None
    ) -> th.Tensor:
        """(N,) of whether there is a reward."""
        rewarded = th.where(terminated > 0, logits.rewarded[:, 0], logits.rewarded[:, 1])
        return _binary(rewarded if rare is None else rewarded + rare.log_odds, (reward != 0).float())

    def _amounts(self, logits: OutcomeLogits) -> Iterator[tuple[Any, th.Tensor]]:
        """The two kinds of amounts, and (N, bins) each of what is predicted of them."""
        return zip(self.kinds, logits.amount.unbind(1), strict=True)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for key in [key for key in state_dict if key.startswith(f"{prefix}bins.")]:  # one for both kinds, until 0.1
            value = state_dict.pop(key)
            state_dict |= {key.replace(f"{prefix}bins.", f"{prefix}kinds.{i}."): value for i in range(2)}
        super()._load_from_state_dict(state_dict, prefix, *args)


def _binary(logits: th.Tensor, target: th.Tensor) -> th.Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
