"""Products in bfloat16: the same learning within rounding, float32 wherever anything adds up, and off by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch as th
from gymnasium import spaces

from sb3_dream.actor_critic import ActorCritic
from sb3_dream.behaviour import Experience, behaviour_losses
from sb3_dream.dream import DREAM
from sb3_dream.nn.grid import Layout
from sb3_dream.nn.recurrence import BlockGRU
from sb3_dream.spaces import ActionSpec
from sb3_dream.world_models.base import State
from sb3_dream.world_models.rssm import RSSMWorldModel
from tests.sb3_dream.corridor import ACTION_SPEC, spec
from tests.sb3_dream.tiny import RSSM, parameters, tiny


@pytest.fixture(scope="module")
def steps() -> Experience:
    th.manual_seed(1)
    features, actions, log_probs = th.randn(500, 40), th.randint(4, (500, 1)).float(), th.full((500,), -1.4)
    gains, returns, values = th.randn(500), 3 * th.randn(500), 3 * th.randn(500)
    return Experience(features, actions, log_probs, gains, returns, values, th.ones(500), None)


def actor_critic(**kwargs: Any) -> ActorCritic:
    th.manual_seed(0)
    network = ActorCritic(Layout(40), ActionSpec(spaces.Discrete(4)), net_arch=(64, 64), **kwargs)
    th.nn.init.normal_(network.critic_head.weight, std=0.1)
    return network


def gradients(network: ActorCritic, steps: Experience) -> tuple[th.Tensor, th.Tensor]:
    losses, _ = behaviour_losses(network, steps, False, 0.2, 0.01)
    loss = th.stack(list(losses.values())).sum()
    loss.backward()
    learned = [p.grad for p in network.parameters() if p.requires_grad]
    assert all(gradient is not None and gradient.dtype == th.float32 for gradient in learned)
    return loss, th.cat([gradient.flatten() for gradient in learned if gradient is not None])


@pytest.mark.parametrize("share_trunk", [False, True])
def test_the_actor_and_the_critic_learn_the_same(steps: Experience, share_trunk: bool) -> None:
    exact, rounded = (actor_critic(share_trunk=share_trunk, bfloat16=on) for on in (False, True))
    (loss, gradient), (other_loss, other) = gradients(exact, steps), gradients(rounded, steps)
    assert other_loss.dtype == th.float32
    th.testing.assert_close(other_loss, loss, rtol=5e-3, atol=0)
    assert not th.equal(other, gradient)  # it is on
    assert (other - gradient).norm() < 0.03 * gradient.norm()
    for values in (rounded.values, rounded.slow_values):
        assert values(steps.features).dtype == th.float32


def test_imagined_steps_are_the_same_within_rounding() -> None:
    th.manual_seed(0)
    exact, rounded = (RSSMWorldModel(spec("bits"), ACTION_SPEC, **RSSM, bfloat16=on) for on in (False, True))
    rounded.load_state_dict(exact.state_dict())
    memory = th.rand(300, exact.memory_size) * 2 - 1
    percept = th.rand(300, exact.groups * exact.classes).round()
    action = ACTION_SPEC.encode(th.zeros(300, 1))
    with th.no_grad():
        state = State(memory, percept)
        one, two = exact.step(state, action), rounded.step(state, action)
        outcome, other = exact.outcome(state, action, one), rounded.outcome(state, action, one)
    assert not th.equal(one.memory, two.memory)
    assert {x.dtype for x in (*two, *other)} == {th.float32}
    th.testing.assert_close(two.memory, one.memory, rtol=0, atol=0.02)
    th.testing.assert_close(other, outcome, rtol=0, atol=0.02)
    assert th.equal(exact.remember(state, action), rounded.remember(state, action))  # acting is exact


def test_it_is_an_option_that_is_saved(tmp_path: Path) -> None:
    networks = {
        "world_model": "rssm",
        "world_model_kwargs": {**RSSM, "bfloat16": True},
        "actor_critic_kwargs": {"net_arch": [8], "bfloat16": True},
    }
    model = tiny("CartPole-v1", policy_kwargs=networks)
    model.learn(24)
    assert {parameter.dtype for parameter in parameters(model).values()} == {th.float32}
    model.save(tmp_path / "model")
    loaded = DREAM.load(tmp_path / "model")
    assert loaded.policy.actor_critic.in_bfloat16 and loaded.policy.world_model.in_bfloat16
    assert not tiny("CartPole-v1").policy.actor_critic.in_bfloat16
    with pytest.raises(ValueError, match="bfloat16 must be True or False"):
        tiny("CartPole-v1", policy_kwargs={"actor_critic_kwargs": {"bfloat16": 1}})


def test_pieces_of_a_large_batch_are_the_batch() -> None:
    th.manual_seed(0)
    cell = BlockGRU(8, 24, 4)
    x, memory = th.randn(300, 8), th.rand(300, 24)
    with th.no_grad():
        pieces = cell(x, memory)
    th.testing.assert_close(pieces, cell(x, memory))  # with gradients there is one piece
