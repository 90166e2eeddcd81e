"""The algorithm: it runs on every space, it learns, it explores as told, and it stops before anything is spoiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_dream.actor_critic import ActorCritic
from sb3_dream.behaviour import Evaluated, evaluate
from sb3_dream.dream import DREAM
from sb3_dream.imagination import Rollout
from sb3_dream.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_dream.world_models.base import Observed, Sequences
from tests.sb3_dream.tiny import (
    NETWORKS,
    RSSM,
    Anything,
    MaskedWalk,
    Walk,
    assert_same,
    parameters,
    tiny,
    vectorized,
)

VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
TWO = spaces.Discrete(2)
IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)
ODD = spaces.Box(np.array([-0.1, 3.0, 2.0], np.float32), np.array([1e6, 3.5, 2.0], np.float32))
OBSERVATIONS: dict[str, spaces.Space] = {
    "box": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
    "bits": spaces.MultiBinary(4),
    "integers": spaces.Box(0, 1, (4,), np.uint8),
    "discrete": spaces.Discrete(4, start=-2),
    "multidiscrete": spaces.MultiDiscrete([2, 3], start=[1, -1]),
}
ACTIONS: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(3, start=5),
    "one choice": spaces.Discrete(1),
    "multidiscrete": spaces.MultiDiscrete([2, 1, 3], start=[1, 0, -4]),
    "multibinary": spaces.MultiBinary(3),
    "odd box": ODD,
    "integer box": spaces.Box(-2, 5, (2,), np.int32),
    "wide box": spaces.Box(-1.0, 1.0, (2, 2), np.float64),
}


def learns(model: DREAM, steps: int = 20) -> DREAM:
    before = parameters(model)
    model.learn(steps)
    after = parameters(model)
    assert model._n_updates > 0
    assert all(value.isfinite().all() for value in after.values())
    weights = [name for name in before if name.startswith("policy/")]
    assert any(not th.equal(before[name], after[name]) for name in weights)
    return model


# Spaces


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_observations(kind: str) -> None:
    model = learns(tiny(vectorized(lambda: Anything(OBSERVATIONS[kind], TWO), 2)))
    assert type(model.policy) is MlpPolicy


@pytest.mark.parametrize("kind", ACTIONS)
def test_actions(kind: str) -> None:
    space = ACTIONS[kind]
    model = learns(tiny(vectorized(lambda: Anything(VECTOR, space), 2)))
    for deterministic in (True, False):
        actions, _ = model.predict(np.zeros((4, 3), np.float32), deterministic=deterministic)
        assert all(space.contains(action) for action in actions)
        action, _ = model.predict(np.zeros(3, np.float32), deterministic=deterministic)
        assert space.contains(action if space.shape else space.dtype.type(action))  # type: ignore[union-attr]


def test_images() -> None:
    kwargs = {**NETWORKS, "world_model_kwargs": RSSM}
    model = learns(tiny(Anything(IMAGE, TWO), policy_kwargs=kwargs, batch_size=1), steps=16)
    assert type(model.policy) is CnnPolicy
    action, _ = model.predict(IMAGE.sample())
    assert action in (0, 1)


def test_dictionaries() -> None:
    space = spaces.Dict({"camera": IMAGE, "place": spaces.Discrete(3), "speed": VECTOR})
    kwargs = {**NETWORKS, "world_model_kwargs": RSSM}
    model = learns(tiny(Anything(space, TWO), policy_kwargs=kwargs, batch_size=1), steps=16)
    assert type(model.policy) is MultiInputPolicy
    action, _ = model.predict(space.sample())
    assert action in (0, 1)


@pytest.mark.parametrize("world_model", ["rssm", "compact"])
def test_other_world_models(world_model: str) -> None:
    sizes = RSSM if world_model == "rssm" else {"width": 8, "code": 4, "memory": 4}
    kwargs = {**NETWORKS, "world_model": world_model, "world_model_kwargs": sizes}
    learns(tiny(vectorized(Walk, 2), policy_kwargs=kwargs))


# Learning


def test_finds_the_optimal_policy() -> None:
    """Left is near and brings a little, right is far and brings more; a random player nearly always ends left."""
    networks = {
        "world_model_kwargs": {"width": 32, "depth": 1, "memory": 8},
        "actor_critic_kwargs": {"net_arch": (32,)},
    }
    model = tiny(
        vectorized(lambda: Walk(cells=6), 4),
        policy_kwargs=networks,
        learning_rate=3e-3,
        actor_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        buffer_size=2_000,
        learning_starts=200,
        batch_size=16,
        sequence_length=6,
        model_warmup=40,
        train_ratio=16.0,
        imagination_starts=32,
        imagination_horizon=6,
        gamma=0.95,
    )
    env = vectorized(lambda: Walk(cells=6), 4)
    assert evaluate_policy(model, env, 40, deterministic=False)[0] < 0.6
    model.learn(900)
    assert evaluate_policy(model, env, 40, deterministic=False)[0] > 0.9
    returns, lengths = evaluate_policy(model, env, 4, return_episode_rewards=True)
    assert returns == [1.0] * 4
    assert lengths == [4] * 4


def test_cartpole() -> None:
    model = learns(tiny("CartPole-v1"), steps=100)
    assert model.num_timesteps == 100
    returns, _ = evaluate_policy(model, model.get_env(), 2)
    assert returns > 0


# The amount of work


@pytest.mark.parametrize("count", [1, 4])
def test_train_ratio_does_not_depend_on_the_number_of_environments(count: int) -> None:
    model = tiny(vectorized(Walk, count), train_ratio=2.0, learning_starts=8).learn(64)
    assert model.num_timesteps == 64
    # 2 x 4 rows an update; the steps that learning starts with do not count
    assert model._n_updates == (64 - 8) * 2 / 8


def test_gradient_steps_and_train_freq() -> None:
    model = tiny(Walk(), train_ratio=None, train_freq=5, gradient_steps=2, learning_starts=10).learn(30)
    assert model._n_updates == 2 * 4  # after 15, 20, 25 and 30 steps
    assert tiny(Walk(), train_ratio=None, train_freq=(2, "episode"), gradient_steps=1).learn(30)._n_updates > 0


def test_warm_up_trains_the_model_alone() -> None:
    model = tiny(Walk(), model_warmup=3, train_ratio=0.01)
    before = parameters(model)
    model.learn(20)
    assert model._n_updates == 0  # nothing is owed yet
    model.train(1, batch_size=2)
    assert model._n_updates == 4
    model = tiny(Walk(), model_warmup=3, policy_delay=100)
    model.learn(24)
    after = parameters(model)
    changed = {name for name in before if not th.equal(before[name], after[name])}
    assert any(name.startswith("policy/world_model.") for name in changed)
    assert not any(name.startswith(("policy/actor_critic.actor", "policy/actor_critic.critic")) for name in changed)


def test_learns_from_the_ends_of_episodes_as_often_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[th.Tensor] = []
    train = DREAM._train_world_model

    def watched(self: DREAM, sequences: Sequences) -> Observed:
        learned.append(sequences.terminated.any(1))
        return train(self, sequences)

    monkeypatch.setattr(DREAM, "_train_world_model", watched)
    env = Walk(slip=0.3, limit=10**6)
    tiny(env, terminal_fraction=1.0, learning_starts=40).learn(80)
    assert len(learned) == 10
    assert th.stack(learned).all()


@pytest.mark.parametrize(("tau", "interval"), [(1.0, 3), (0.25, 1)])
def test_slow_critic_updates(tau: float, interval: int) -> None:
    model = tiny(Walk(), tau=tau, target_update_interval=interval)
    calls = []
    model.policy.actor_critic.update_slow_critic = lambda share: calls.append((model._n_updates, share))  # type: ignore
    model.learn(40)
    assert model._n_updates >= 6
    assert calls == [(n, tau) for n in range(interval, model._n_updates + 1, interval)]


def test_learning_rates_follow_their_schedules() -> None:
    model = tiny(
        Walk(),
        learning_rate=LinearSchedule(1e-2, 0.0, 1.0),
        actor_learning_rate=LinearSchedule(1e-3, 5e-4, 1.0),
        critic_learning_rate=4e-4,
    ).learn(40)
    assert model.policy.world_model_optimizer.param_groups[0]["lr"] == pytest.approx(0.0)
    actor, critic = model.policy.actor_critic_optimizer.param_groups
    assert (actor["lr"], critic["lr"]) == (pytest.approx(5e-4), pytest.approx(4e-4))
    model = tiny(Walk(), learning_rate=2e-3, actor_learning_rate=None, critic_learning_rate=None)
    rates = [
        g["lr"]
        for o in ("world_model_optimizer", "actor_critic_optimizer")
        for g in getattr(model.policy, o).param_groups
    ]
    assert set(rates) == {2e-3}


# Exploration


def share_of_left(model: DREAM, env: MaskedWalk | Any, steps: int) -> float:
    model.learn(steps, reset_num_timesteps=False)
    return float(np.mean(np.array(env.unwrapped.played[-steps:]) == 0))


class Recorder(Walk):
    def __init__(self) -> None:
        super().__init__(limit=1_000)
        self.played: list[int] = []

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.played.append(int(action))
        return super().step(action)


def prefer(model: DREAM, action: int) -> None:
    """Make the policy certain, but for its share of the uniform distribution."""
    with th.no_grad():
        model.policy.actor_critic.actor_head.bias.fill_(-1_000.0)
        model.policy.actor_critic.actor_head.bias[action] = 1_000.0


def test_epsilon_falls() -> None:
    env = Recorder()
    policy_kwargs = {**NETWORKS, "actor_critic_kwargs": {**NETWORKS["actor_critic_kwargs"], "unimix": 0.0}}
    model = tiny(
        env, policy_kwargs=policy_kwargs, train_ratio=0.001, epsilon_start=1.0, epsilon_end=0.1, epsilon_decay=100
    )
    prefer(model, 1)
    assert model.exploration_rate == 1.0
    model.learn(8 + 50)
    assert model.exploration_rate == pytest.approx(0.1 + 0.9 / 2, abs=0.01)
    assert 0.1 < np.mean(np.array(env.played) == 0) < 0.6
    model.learn(150, reset_num_timesteps=False)
    assert model.exploration_rate == pytest.approx(0.1)
    assert np.mean(np.array(env.played[-100:]) == 0) < 0.2


@pytest.mark.parametrize(("start", "gammas"), [(0.5, [0.5, 0.7, 0.9]), (0.95, [0.9, 0.9, 0.9])])
def test_discount_factor_rises(start: float, gammas: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def spy(rollout: Rollout, actor_critic: ActorCritic, gamma: float, gae_lambda: float) -> Evaluated:
        used.append(gamma)
        return evaluate(rollout, actor_critic, gamma, gae_lambda)

    monkeypatch.setattr("sb3_dream.dream.evaluate", spy)
    model = tiny(Walk(), gamma=0.9, gamma_start=start, gamma_rise=(50, 150), learning_starts=8, train_ratio=1.0)
    for steps, gamma in zip((50, 100, 170), gammas, strict=True):
        model.learn(steps - model.num_timesteps, reset_num_timesteps=False)
        assert used[-1] == pytest.approx(gamma, abs=0.02)
    assert used == sorted(used)


@pytest.mark.parametrize(("end", "delays"), [(2, [6, 4, 2]), (9, [6, 6, 6])])
def test_policy_delay_falls(end: int, delays: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(Walk(), policy_delay=6, policy_delay_end=end, gamma_rise=(50, 150)).learn(20)
    at: list[int] = []
    monkeypatch.setattr(model, "_train_actor_critic", lambda start: at.append(model._n_updates))
    for steps, delay in zip((50, 100, 150), delays, strict=True):
        model.num_timesteps = steps
        at.clear()
        model.train(24, model.batch_size)
        assert set(np.diff(at)) == {delay}


def test_learning_starts_with_random_actions_and_unimix_stays() -> None:
    env = Recorder()
    model = tiny(env, learning_starts=60, train_ratio=0.001)
    prefer(model, 1)
    model.learn(60)
    assert 0.25 < np.mean(np.array(env.played) == 0) < 0.75
    model.learn(60, reset_num_timesteps=False)
    assert np.mean(np.array(env.played[60:]) == 0) < 0.1  # unimix leaves half a percent


def test_who_has_learned_plays_until_learning_starts(tmp_path: Path) -> None:
    model = tiny(Walk(), learning_starts=8).learn(16)
    assert (learned := model._n_updates) > 0
    prefer(model, 1)
    model.save(tmp_path / "model")
    again = DREAM.load(tmp_path / "model", env=(env := Recorder()), learning_starts=60)
    again.learn(60)
    assert again._n_updates == learned
    assert np.mean(np.array(env.played) == 0) < 0.1


def test_masks_are_respected_while_collecting() -> None:
    """The environment raises an error at an action that is not allowed, at random ones at the beginning too."""
    model = tiny(vectorized(lambda: MaskedWalk(cells=6), 2), epsilon_start=0.5, epsilon_end=0.5, learning_starts=40)
    prefer(model, 2)
    model.learn(120)
    assert model.policy.mask_size == 3
    samples = model.replay_buffer.sample_sequences(20, 3)
    assert samples.masks is not None
    assert not samples.masks[samples.valid & ~samples.is_last][:, 2].any()
    assert samples.masks[..., 1].all()


def test_given_masks_go_before_believed_ones() -> None:
    model = tiny(MaskedWalk())
    prefer(model, 2)
    observations = np.eye(5, dtype=np.int8)[[1, 1, 2]]
    masks = np.array([[True, False, False], [False, True, False], [False, False, True]])
    for deterministic in (True, False):
        actions, _ = model.predict(observations, deterministic=deterministic, action_masks=masks)
        assert actions.tolist() == [0, 1, 2]
    action, _ = model.predict(observations[0], action_masks=masks[1])
    assert action == 1
    assert tiny(MaskedWalk(), use_masking=False).policy.mask_size is None


def test_action_noise() -> None:
    env = vectorized(lambda: Anything(VECTOR, spaces.Box(-2.0, 4.0, (1,))), 2)
    noise = OrnsteinUhlenbeckActionNoise(np.full(1, 50.0), np.zeros(1), theta=1.0, dt=1.0)
    model = tiny(env, action_noise=noise, learning_starts=0, train_ratio=0.001).learn(8)
    stored = model.replay_buffer.sample_sequences(8, 2)
    assert (stored.actions[stored.valid & ~stored.is_last] == 1.0).all()  # the noise sends all of them to the bound
    learns(tiny(env, action_noise=NormalActionNoise(np.zeros(1), np.ones(1))))


# Stopping


class Bad(Walk):
    """Returns something that is not a number in its ninth step."""

    observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)

    def __init__(self, what: str) -> None:
        super().__init__(limit=1_000)
        self.observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)
        self.what, self.count = what, 0

    def _look(self) -> np.ndarray:
        look = super()._look().astype(np.float32)
        if self.what == "observation" and self.count >= 9:
            look[0] = np.nan
        return look

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        observation, reward, terminated, truncated, info = super().step(action)
        if self.what == "reward" and self.count >= 9:
            reward = np.inf
        return observation, float(reward), terminated, truncated, info


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_environments_that_return_nonsense(what: str) -> None:
    env = DummyVecEnv([lambda: Monitor(Walk()), lambda: Monitor(Bad(what))])
    env.observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)
    env.buf_obs[None] = env.buf_obs[None].astype(np.float32)
    model = tiny(env)
    with pytest.raises(ValueError, match=f"environment 1 returned NaN or infinity in its {what} at step 18"):
        model.learn(100)
    assert model.replay_buffer.n_rows >= 16
    stored = model.replay_buffer.sample_sequences(50, 4)
    assert stored.observations.isfinite().all() and stored.rewards.isfinite().all()  # type: ignore[union-attr]


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    model = tiny(Walk()).learn(20)
    before = parameters(model)
    observe = model.policy.world_model.observe

    def broken(sequences: Any) -> Observed:
        observed = observe(sequences)
        return observed._replace(losses=observed.losses | {"reward": observed.losses["reward"] * th.nan})

    model.policy.world_model.observe = broken  # type: ignore[method-assign]
    update = model._n_updates + 1
    with pytest.raises(FloatingPointError, match=rf"world_model/reward became NaN.*update {update} \(step \d+\)"):
        model.learn(100, reset_num_timesteps=False)
    learned = {f"policy/{name}" for name, _ in model.policy.named_parameters()}
    after = parameters(model)
    kept = [name for name in before if name in learned or not name.startswith("policy/")]
    assert_same({name: before[name] for name in kept}, {name: after[name] for name in kept})
    del model.policy.world_model.observe
    learns(model)


def test_a_return_that_is_not_finite_does_not_spoil_the_scale() -> None:
    model = tiny(Walk()).learn(20)
    before = parameters(model)
    with th.no_grad():
        model.policy.actor_critic.slow_critic[-1].bias.fill_(th.nan)  # type: ignore[index]
    with pytest.raises(FloatingPointError, match="imagined_return became NaN"):
        model.learn(20, reset_num_timesteps=False)
    after = parameters(model)
    kept = [name for name in before if name.startswith(("policy/return_scale", "policy/actor_critic.actor"))]
    assert len(kept) > 3
    assert_same({name: before[name] for name in kept}, {name: after[name] for name in kept})


class Raises(Walk):
    broken = False

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.broken:
            raise KeyboardInterrupt
        return super().step(action)


def test_goes_on_after_an_interruption() -> None:
    env = Raises()
    model = tiny(env).learn(10)
    env.broken = True
    with pytest.raises(KeyboardInterrupt):
        model.learn(10, reset_num_timesteps=False)
    env.broken = False
    rows = model.replay_buffer.n_rows
    model.learn(10, reset_num_timesteps=False)
    assert model.num_timesteps == 20
    sequences = model.replay_buffer.sample_sequences(50, 10)
    moved = sequences.observations.argmax(-1).diff(dim=1).abs()  # type: ignore[union-attr]
    assert (moved[sequences.valid[:, 1:]] == 1).all()  # no sequence goes through the reset
    assert model.replay_buffer.n_rows > rows


class StopAt(BaseCallback):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        return self.num_timesteps < self.step


def test_the_step_in_which_a_callback_stops_is_stored() -> None:
    model = tiny(Recorder(), learning_starts=100).learn(50, callback=StopAt(7))
    stopped = model.replay_buffer.n_rows - model._episode_num  # each ended episode has one row more
    assert (model.num_timesteps, stopped) == (7, 7)
    model.learn(5, reset_num_timesteps=False)
    sequences = model.replay_buffer.sample_sequences(50, 6)
    moved = sequences.observations.argmax(-1).diff(dim=1)  # type: ignore[union-attr]
    valid = sequences.valid[:, 1:]
    assert th.equal(moved[valid], (2 * sequences.actions[:, :-1, 0] - 1)[valid].to(moved))


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1, not 0"),
        ({"sequence_length": 1}, "sequence_length must be a whole number, at least 2"),
        ({"imagination_horizon": 1.5}, "imagination_horizon must be a whole number"),
        ({"gamma": 1.1}, "gamma must be between 0 and 1, not 1.1"),
        ({"gamma_start": -0.1}, "gamma_start must be between 0 and 1, not -0.1"),
        ({"gamma_rise": 100}, "gamma_rise must be two whole numbers of steps, the second one larger, .*, not 100"),
        ({"gamma_rise": (9, 9)}, "gamma_rise must be two whole numbers of steps, the second one larger"),
        ({"dream_length_end": 0}, "dream_length_end must be a whole number, at least 1, or None, not 0"),
        ({"train_ratio": 0.0}, "train_ratio must be above 0"),
        ({"replay_buffer_class": -1}, "replay_buffer_class must be SequenceReplayBuffer, a subclass of it, or None"),
        ({"replay_buffer_class": ReplayBuffer}, "replay_buffer_class must be SequenceReplayBuffer, a subclass of it"),
        ({"overlap_updates": 1}, "overlap_updates must be True or False, not 1"),
        ({"overlap_updates": True, "train_ratio": None}, "overlap_updates must be False where train_ratio is None"),
        ({"rare_rewards": True, "reward_batch_size": 0}, "rare_rewards must be False .* reward_batch_size above 0"),
        (
            {"rare_rewards": True, "policy_kwargs": {"world_model": "rssm", "world_model_kwargs": RSSM}},
            "rare_rewards must be False .* as 'recurrent' has it",
        ),
        ({"ent_coef": -1.0}, "ent_coef must be at least 0"),
        ({"novelty_coef": "high"}, "novelty_coef must be at least 0, below 1e9, or a schedule, not 'high'"),
        ({"actor_gradient": "reinforce"}, "'score', 'dynamics', not 'reinforce'"),
        ({"actor_gradient": "dynamics"}, "'score' for actions out of Discrete"),
        ({"use_masking": True}, "no method action_masks"),
        ({"use_masking": "always"}, "True, False or 'auto', not 'always'"),
        ({"action_noise": NormalActionNoise(np.zeros(1), np.ones(1))}, "action_noise needs a Box"),
        ({"policy_kwargs": {"world_model": "dreamy"}}, "unknown world model 'dreamy'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(Walk(), **arguments)


@pytest.mark.parametrize("gradient", ["score", "dynamics"])
def test_several_passes_over_the_same_rollouts(gradient: str) -> None:
    """A gradient through the model serves once, whatever is asked for."""
    env = Anything(VECTOR, spaces.Box(-1.0, 1.0, (1,)))
    model = tiny(env, n_epochs=3, n_minibatches=2, actor_gradient=gradient)
    steps = []
    step = model.policy.actor_critic_optimizer.step
    model.policy.actor_critic_optimizer.step = lambda: (steps.append(1), step())  # type: ignore
    learns(model)
    assert len(steps) == model._n_updates * (6 if gradient == "score" else 1)


def test_numbers_written_as_floats() -> None:
    model = tiny(Walk(), buffer_size=1e3, learning_starts=1e1)
    assert (model.buffer_size, model.learning_starts) == (1_000, 10)


def test_arguments_of_the_caller_stay_as_they_are() -> None:
    kwargs = {"world_model_kwargs": dict(NETWORKS["world_model_kwargs"])}
    tiny(MaskedWalk(), policy_kwargs=kwargs)
    assert kwargs == {"world_model_kwargs": NETWORKS["world_model_kwargs"]}
    assert tiny(Walk(), policy_kwargs=kwargs).policy.mask_size is None


def test_masks_that_allow_nothing() -> None:
    class Stuck(MaskedWalk):
        def action_masks(self) -> np.ndarray:
            return np.zeros(3, bool)

    with pytest.raises(ValueError, match="environment 0 allows no action"):
        tiny(Stuck()).learn(10)


def test_seeds() -> None:
    def run(seed: int) -> dict[str, th.Tensor]:
        return parameters(tiny(vectorized(lambda: Walk(slip=0.3), 2), seed=seed).learn(40))

    first = run(3)
    th.rand(5)
    assert_same(first, run(3))
    other = run(4)
    assert any(not th.equal(first[name], other[name]) for name in first)


def test_without_a_seed_the_global_one_decides() -> None:
    def run(seed: int) -> dict[str, th.Tensor]:
        gym.utils.seeding.np_random(seed)
        np.random.seed(seed)
        th.manual_seed(seed)
        return parameters(tiny(Walk(), seed=None).learn(24))

    assert_same(run(1), run(1))


def test_rare_rewards_are_learned_where_every_replayed_row_stands_alone() -> None:
    assert tiny(Walk(), buffer_size=4, rare_rewards=True, reward_batch_size=2, seed=9).learn(60)._n_updates > 0
