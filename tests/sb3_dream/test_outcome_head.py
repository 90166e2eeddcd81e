"""What the world model learns of rewards: large ones at the end beside small ones on the way, and those of changes."""

from __future__ import annotations

import pytest
import torch as th
from gymnasium import spaces

from sb3_dream.nn.grid import Layout, Parts
from sb3_dream.spaces import VECTOR, ActionSpec, ObservationSpec
from sb3_dream.world_models import make_world_model
from sb3_dream.world_models.base import RareRewards, Sequences
from sb3_dream.world_models.outcome_head import OutcomeHead

PENALTY, STEP = -100.0, 0.1


def steps(noise: float = 0.0, count: int = 256) -> tuple[Parts, th.Tensor, th.Tensor]:
    """What is seen, rewards, and ends. Every fourth step ends with a penalty; the others bring a step either way."""
    way = th.arange(count) % 2 * 2.0 - 1.0
    ends = (th.arange(count) % 4 == 0).float()
    reward = th.where(ends > 0, PENALTY + noise * th.randn(count), STEP * way)
    return Parts(None, th.stack((way, ends), -1)), reward, ends


@pytest.mark.parametrize("bins", [1, 63])
def test_small_rewards_are_learned_beside_a_large_penalty(bins: int) -> None:
    th.manual_seed(0)
    head = OutcomeHead(Layout(2), 16, 1, bins)
    optimizer = th.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(100):
        seen, reward, ends = steps(noise=20.0)
        loss = sum(head.losses(head(seen), reward, ends, th.ones_like(ends)).values(), th.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seen, reward, ends = steps()
    with th.no_grad():
        logits = head(seen)
        ending, alive = (kind.decode(part) for kind, part in zip(head.kinds, logits.amount.unbind(1), strict=True))
    assert (ending - reward)[ends > 0].abs().max() < 0.1 * abs(PENALTY)
    assert (alive - reward)[ends == 0].abs().max() < 0.2 * STEP


def test_each_kind_is_measured_in_its_own_units() -> None:
    head = OutcomeHead(Layout(2), 8, 1, 1)
    seen, reward, ends = steps()
    head.losses(head(seen), reward, ends, th.ones_like(ends))
    ending, alive = (kind.targets.rms.item() for kind in head.kinds)
    assert ending == pytest.approx(abs(PENALTY))
    assert alive == pytest.approx(STEP)


def test_units_of_older_files_serve_both_kinds() -> None:
    head = OutcomeHead(Layout(2), 8, 1, 1)
    old = {key.replace("kinds.0.", "bins."): value for key, value in head.state_dict().items() if "kinds.1." not in key}
    old["bins.targets.square"] = th.tensor([9.0])
    head.load_state_dict(old)
    assert [kind.targets.rms.item() for kind in head.kinds] == [3.0, 3.0]


def rare_steps(count: int, pays: float, usual: float) -> tuple[Parts, th.Tensor]:
    """What is seen is one of two kinds; the first one has a reward with the probability ``pays``, the other never."""
    kind = (th.rand(count) < usual).float()
    return Parts(None, kind[:, None]), (kind == 0).float() * (th.rand(count) < pays).float()


@pytest.mark.parametrize("corrected", [True, False])
def test_further_rewarded_steps_do_not_make_rewards_seem_frequent(corrected: bool) -> None:
    """Of a hundred steps one is of the kind that has a reward, every fourth time."""
    th.manual_seed(0)
    head = OutcomeHead(Layout(1), 16, 1, 1)
    optimizer = th.optim.Adam(head.parameters(), lr=3e-3)
    share = th.tensor(0.25)  # of steps that have a reward, all of the first kind
    rare = RareRewards(share, (share / 0.0025).log1p() if corrected else th.zeros(()))
    one, further = th.ones(400), Parts(None, th.zeros(100, 1))
    for _ in range(600):
        seen, reward = rare_steps(400, 0.25, 0.99)
        nothing = th.zeros(400)
        losses = head.losses(head(seen), reward, nothing, one, rare)
        losses |= head.rare_losses(head(further), one[:100], nothing[:100], one[:100], rare)
        optimizer.zero_grad()
        (losses["rewarded"] + losses["rare_rewarded"]).backward()
        optimizer.step()
    with th.no_grad():
        pays, never = th.sigmoid(head(Parts(None, th.tensor([[0.0], [1.0]]))).rewarded[:, 1]).tolist()
    assert never < 0.01
    assert 0.1 < pays < 0.5 if corrected else pays > 0.9


def walk(length: int = 16) -> Sequences:
    """Numbers that go up or down a little where they are widely spread, and a reward for going up."""
    change = 0.01 * th.randn(16, length, 3)
    position = th.randn(16, 1, 3) + change.cumsum(1)
    reward = 100 * change[..., 0]
    ones, zeros = th.ones(16, length), th.zeros(16, length)
    return Sequences({VECTOR: position}, th.zeros(16, length, 2), reward, zeros, ones, th.zeros(16, 9), None)


def test_rewards_of_small_changes_are_learned() -> None:
    errors = {}
    for scaled in (True, False):
        th.manual_seed(0)
        space = ObservationSpec(spaces.Box(-9.0, 9.0, (3,)))
        kwargs = {"width": 16, "depth": 2, "memory": 8, "practice": 0.0, "scaled_changes": scaled}
        model = make_world_model("recurrent", space, ActionSpec(spaces.Discrete(2)), **kwargs)
        optimizer = th.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(100):
            observed = model.observe(walk())
            optimizer.zero_grad()
            sum(observed.losses.values(), th.zeros(())).backward()
            optimizer.step()
        errors[scaled] = observed.losses["reward"].item()  # a half is what is left by who predicts nothing
    assert errors[True] < 0.1
    assert errors[False] > 0.4
