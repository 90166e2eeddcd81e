"""Rollouts in a world model, their returns, and what the policy learns from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_dream.actor_critic import ActorCritic, ReturnScale
from sb3_dream.behaviour import behaviour_losses, draw_starts, evaluate, experience, losses_in_pieces
from sb3_dream.imagination import Rollout, imagine, lambda_returns
from sb3_dream.nn.grid import Layout
from sb3_dream.nn.optimization import FiniteCheck, descend, frozen, gradients
from sb3_dream.replay import SequenceRows
from sb3_dream.spaces import VECTOR, ActionSpec, Observation, ObservationSpec
from sb3_dream.world_models.base import Observed, Outcome, Sequences, State, WorldModel


class Point(WorldModel):
    """
    A world that is known: a point on a line, moved by actions in [-1, 1], or one step left or right. The nearer it is
    to 2, the better; at 3 or beyond, the episode ends. Memory counts the steps. Left is not allowed below 0.
    """

    memory_size = 1
    feature_layout = Layout(1)

    def __init__(self, action_spec: ActionSpec, mask_size: int | None = None) -> None:
        super().__init__(ObservationSpec(spaces.Box(-10.0, 10.0, (1,))), action_spec, mask_size)
        self.gain = th.nn.Parameter(th.ones(()))

    def perceive(self, memory: th.Tensor, observation: Observation) -> State:
        return State(memory, observation[VECTOR])

    def remember(self, state: State, action: th.Tensor) -> th.Tensor:
        return state.memory + 1

    def imagine(self, memory: th.Tensor, state: State, action: th.Tensor) -> State:
        move = action if self.action_spec.continuous else action[:, 1:] - action[:, :1]
        return State(memory, state.percept + self.gain * move)

    def features(self, state: State) -> th.Tensor:
        return state.percept

    def outcome(self, previous: State, action: th.Tensor, state: State) -> Outcome:
        x = state.percept.squeeze(-1)
        return Outcome(-((x - 2) ** 2), (x < 3).float())

    def reconstruct(self, state: State) -> Observation:
        return {VECTOR: state.percept}

    def action_mask(self, state: State) -> th.Tensor | None:
        if self.mask_size is None:
            return None
        return th.cat((state.percept >= 0, th.ones_like(state.percept, dtype=th.bool)), -1)

    def observe(self, sequences: Sequences) -> Observed:
        raise NotImplementedError


CONTINUOUS, DISCRETE = ActionSpec(spaces.Box(-1.0, 1.0, (1,))), ActionSpec(spaces.Discrete(2))


def actor_critic(spec: ActionSpec, **kwargs: Any) -> ActorCritic:
    th.manual_seed(0)
    return ActorCritic(Layout(1), spec, net_arch=(16,), **kwargs)


def starts(count: int) -> State:
    th.manual_seed(1)
    return State(th.zeros(count, 1), 2 * th.rand(count, 1) - 1)


def brute_force_return(
    rewards: th.Tensor, continues: th.Tensor, values: th.Tensor, gamma: float, gae_lambda: float
) -> float:
    """The definition: a mixture of n-step returns, (1 - lambda) lambda^(n - 1) of each, the rest of the last."""
    horizon, mixture = len(rewards), 0.0
    for n in range(1, horizon + 1):
        discount, n_step = 1.0, 0.0
        for t in range(n):
            n_step += discount * rewards[t].item()
            discount *= gamma * continues[t].item()
        n_step += discount * values[n].item()
        mixture += gae_lambda ** (n - 1) * (1.0 if n == horizon else 1 - gae_lambda) * n_step
    return mixture


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_lambda_returns_are_mixtures_of_n_step_returns(gae_lambda: float) -> None:
    th.manual_seed(0)
    rewards, continues, values = th.randn(6, 4), th.rand(6, 4), th.randn(7, 4)
    continues[2, 1] = 0.0  # an episode that ends
    returns = lambda_returns(rewards, continues, values, 0.9, gae_lambda)
    for t in range(6):
        for i in range(4):
            expected = brute_force_return(rewards[t:, i], continues[t:, i], values[t:, i], 0.9, gae_lambda)
            assert returns[t, i].item() == pytest.approx(expected, abs=1e-5)


def test_weights_are_the_probability_of_being_there() -> None:
    continues = th.tensor([[1.0, 0.5], [0.0, 0.5], [1.0, 1.0]])
    last = State(th.zeros(2, 0), th.zeros(2, 1))
    rollout = Rollout(th.zeros(4, 2, 1), *[th.zeros(3, 2)] * 2, None, th.zeros(3, 2), continues, last)
    assert rollout.weights().tolist() == [[1.0, 1.0], [1.0, 0.5], [0.0, 0.25]]


@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE])
def test_a_rollout_is_what_the_model_does(spec: ActionSpec) -> None:
    model, policy = Point(spec), actor_critic(spec)
    rollout = imagine(model, policy, starts(5), horizon=4)
    played = rollout.actions if spec.continuous else 2 * rollout.actions - 1
    th.testing.assert_close(rollout.features[1:], rollout.features[:-1] + played)
    x = rollout.features[1:].squeeze(-1)
    th.testing.assert_close(rollout.rewards, -((x - 2) ** 2))
    assert th.equal(rollout.continues, (x < 3).float())
    again = policy.actions(rollout.features[:-1].flatten(0, 1)).log_prob(rollout.actions.flatten(0, 1))
    th.testing.assert_close(again, rollout.log_probs.flatten())


def test_masked_actions_are_never_imagined() -> None:
    model, policy = Point(DISCRETE, mask_size=2), actor_critic(DISCRETE, unimix=0.3)
    rollout = imagine(model, policy, starts(200), horizon=3)
    assert rollout.masks is not None
    below = rollout.features[:-1].squeeze(-1) < 0
    assert below.any() and not below.all()
    assert th.equal(rollout.masks[..., 0], ~below)
    assert (rollout.actions.squeeze(-1)[below] == 1).all()
    assert (rollout.log_probs[below] == 0).all()  # the only action that is left
    log_probs = policy.actions(rollout.features[0], rollout.masks[0]).log_probs[0]  # type: ignore[attr-defined]
    assert (log_probs.exp()[below[0], 0] == 0).all()


def test_unimix_reaches_the_policy() -> None:
    policy = actor_critic(DISCRETE, unimix=0.2)
    with th.no_grad():
        policy.actor_head.bias.copy_(th.tensor([100.0, -100.0]))
    probabilities = policy.actions(th.zeros(1, 1)).log_probs[0].exp()  # type: ignore[attr-defined]
    th.testing.assert_close(probabilities, th.tensor([[0.9, 0.1]]))


def test_gradients_of_the_policy_survive_masks() -> None:
    model, policy = Point(DISCRETE, mask_size=2), actor_critic(DISCRETE)
    evaluated = evaluate(imagine(model, policy, starts(20), 3), policy, 0.9, 0.95)
    steps = experience(evaluated, th.ones(()), through_model=False, normalize_advantage=False)
    losses, _ = behaviour_losses(policy, steps, through_model=False, clip_range=th.tensor(0.2), ent_coef=0.1)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    gradients = [p.grad for p in policy.actor_parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any((g != 0).any() for g in gradients if g is not None)


def test_pieces_of_a_batch_add_up_to_the_batch() -> None:
    model, policy = Point(DISCRETE, mask_size=2), actor_critic(DISCRETE)
    with th.no_grad():
        evaluated = evaluate(imagine(model, policy, starts(900), 3), policy, 0.9, 0.95)
    steps = experience(evaluated, th.ones(()), through_model=False, normalize_advantage=False)
    optimizer = th.optim.SGD(policy.parameters(), lr=0.0)
    results = []
    for whole in (False, True):
        arguments = (policy, steps, False, th.tensor(0.2), 0.1)
        losses, metrics = behaviour_losses(*arguments)
        found = gradients(optimizer, losses | metrics if whole else losses_in_pieces(*arguments))
        scalars = descend(optimizer, found, 1e9, FiniteCheck(late=False), "test")
        results.append((scalars, [p.grad for p in policy.parameters() if p.grad is not None]))
    assert len(list(losses_in_pieces(policy, steps, False, th.tensor(0.2), 0.1))) == 3
    th.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "through_model", "normalize", "reached"),
    [
        (CONTINUOUS, True, False, -1.0),
        (CONTINUOUS, False, False, -1.0),
        (CONTINUOUS, False, True, -1.0),
        (DISCRETE, False, False, -1.6),  # three whole steps from somewhere in [-1, 1] end at -4 / 3 on average
    ],
)
def test_the_policy_improves(spec: ActionSpec, through_model: bool, normalize: bool, reached: float) -> None:
    """Both gradients move the point to where it is best."""
    model, policy, scale = Point(spec), actor_critic(spec), ReturnScale()
    optimizer = th.optim.Adam(policy.parameters(), lr=0.01)

    def reward() -> float:
        with th.no_grad():
            return imagine(model, policy, starts(200), horizon=3).rewards[-1].mean().item()

    before = reward()
    for i in range(120):
        th.manual_seed(i)
        start = State(th.zeros(64, 1), 2 * th.rand(64, 1) - 1)
        with frozen(model), th.set_grad_enabled(through_model):
            evaluated = evaluate(imagine(model, policy, start, horizon=3), policy, 0.9, 0.95)
        factor = scale.update(evaluated.returns.detach())
        steps = experience(evaluated, factor, through_model, normalize)
        losses, _ = behaviour_losses(policy, steps, through_model, clip_range=th.tensor(0.2), ent_coef=1e-3)
        descend(optimizer, gradients(optimizer, losses), 10.0, FiniteCheck(late=False), "test")
        policy.update_slow_critic(0.1)
    assert model.gain.grad is None
    assert before < -3.0
    assert reward() > reached


def test_return_scale_divides_and_never_amplifies() -> None:
    scale = ReturnScale(rate=0.5)
    assert scale.update(th.linspace(-0.01, 0.01, 101)) == 1.0
    spread = ReturnScale(rate=0.5)
    assert spread.update(th.linspace(0.0, 100.0, 101)).item() == pytest.approx(90.0)  # the first range counts in full
    assert spread.update(th.linspace(0.0, 200.0, 101)).item() == pytest.approx(135.0)
    assert spread.update(th.zeros(10)).item() == pytest.approx(67.5)


def test_return_scale_is_saved() -> None:
    scale, other = ReturnScale(), ReturnScale()
    scale.update(th.linspace(0.0, 100.0, 101))
    other.load_state_dict(scale.state_dict())
    assert th.equal(scale.update(th.zeros(3)), other.update(th.zeros(3)))


@pytest.mark.parametrize("tau", [0.25, 1.0])
@pytest.mark.parametrize("share_trunk", [False, True])
def test_slow_critic(tau: float, share_trunk: bool) -> None:
    policy = actor_critic(CONTINUOUS, share_trunk=share_trunk)
    with th.no_grad():
        for parameter in policy.critic_parameters():
            parameter += 1.0
    slow = [p.clone() for p in policy.slow_critic.parameters()]
    critic = policy.critic_parameters()
    assert len(slow) == len(critic)
    policy.update_slow_critic(tau)
    for before, after, target in zip(slow, policy.slow_critic.parameters(), critic, strict=True):
        th.testing.assert_close(after, before + tau * (target - before))
        assert not th.equal(after, before)


def test_starts_are_real_and_not_terminal() -> None:
    memory, number = th.arange(6.0).reshape(2, 3, 1), np.zeros(2, dtype=np.int64)
    # of three rows, the last one terminal, and of two that go on
    rows = SequenceRows(number, number, length=np.array([3, 2]), n_open=np.array([2, 2]))
    drawn = draw_starts(rows, Observed(memory, 10 * memory, {}, {}), count=10)
    assert sorted(drawn.memory.flatten().tolist()) == [0.0, 1.0, 3.0, 4.0]
    assert th.equal(drawn.percept, 10 * drawn.memory)
    assert len(draw_starts(rows, Observed(memory, memory, {}, {}), count=3).memory) == 3


@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_spoilt_when_a_loss_is_not_finite(late: bool) -> None:
    layer = th.nn.Linear(2, 1)
    optimizer, check = th.optim.Adam(layer.parameters(), lr=0.1), FiniteCheck(late)
    x = th.ones(1, 2)

    def step(losses: dict[str, th.Tensor], when: str) -> None:
        descend(optimizer, gradients(optimizer, losses, guarded=late), 1.0, check, when)
        check.settle()

    before = [p.clone() for p in layer.parameters()]
    with pytest.raises(FloatingPointError, match=r"^bad became NaN or infinite in update 7"):
        step({"good": layer(x).sum(), "bad": layer(x).sum() * th.inf}, "update 7")
    # 0 times the square root of 0: a finite loss with a gradient that is not
    with pytest.raises(FloatingPointError, match=r"^the gradient of root became NaN or infinite in update 8"):
        step({"root": ((layer(x) - layer(x)) ** 2).sum().sqrt()}, "update 8")
    assert all(th.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    assert late or not optimizer.state
    step({"good": layer(x).sum()}, "update 9")
    assert all((a > b).all() for a, b in zip(before, layer.parameters(), strict=True))


def test_a_late_check_raises_at_the_next_step() -> None:
    layer = th.nn.Linear(2, 1)
    optimizer, check = th.optim.SGD(layer.parameters(), lr=0.1), FiniteCheck(late=True)
    for when, factor in (("update 1", 1.0), ("update 2", th.nan)):
        losses = {"loss": factor * layer(th.ones(1, 2)).sum()}
        descend(optimizer, gradients(optimizer, losses, guarded=True), 1.0, check, when)
    before = [p.clone() for p in layer.parameters()]
    losses = {"loss": layer(th.ones(1, 2)).sum()}
    with pytest.raises(FloatingPointError, match=r"^loss became NaN or infinite in update 2; no parameter"):
        descend(optimizer, gradients(optimizer, losses, guarded=True), 1.0, check, "update 3")
    assert all(th.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
