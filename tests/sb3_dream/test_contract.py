"""DREAM as one more algorithm of Stable-Baselines3: names, predictions, callbacks, files, environments, logs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

import sb3_dream
from sb3_dream.dream import DREAM
from sb3_dream.env_snapshots import restore_snapshot, take_snapshot
from sb3_dream.policies import CnnPolicy, DreamPolicy, MlpPolicy, MultiInputPolicy
from tests.sb3_dream.resume_cases import FloatWalk
from tests.sb3_dream.tiny import (
    NETWORKS,
    RSSM,
    Anything,
    MaskedWalk,
    SavedMaskedWalk,
    Walk,
    assert_same,
    parameters,
    tiny,
    vectorized,
)

# Names


def test_environment_or_policy_first() -> None:
    env = Walk()
    for arguments in (("CartPole-v1",), (env,), (DummyVecEnv([Walk]),), ("MlpPolicy", env), (MlpPolicy, "CartPole-v1")):
        model = tiny(*arguments)
        assert type(model.policy) is MlpPolicy
        assert model.get_env() is not None
    assert type(tiny(env=env).policy) is MlpPolicy
    image, table = spaces.Box(0, 255, (3, 8, 8), np.uint8), spaces.Dict({"a": spaces.Discrete(2)})
    kwargs = {**NETWORKS, "world_model_kwargs": RSSM}
    assert type(tiny(Anything(image, spaces.Discrete(2)), policy_kwargs=kwargs).policy) is CnnPolicy
    assert type(tiny(Anything(table, spaces.Discrete(2)), policy_kwargs=kwargs).policy) is MultiInputPolicy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CartPol-v1",), r"neither a policy \(MlpPolicy, CnnPolicy, MultiInputPolicy\).*did you mean 'CartPole-v1'"),
        (("MlpPolicy", "CartPol-v1"), "nor a registered environment id"),
        (("MplPolicy", "CartPole-v1"), "unknown policy 'MplPolicy'"),
        (("MlpPolicy",), r"no environment: use DREAM\("),
        ((), "no environment"),
        ((3,), "expected a policy, an environment or an environment id, not 3"),
    ],
)
def test_names_that_are_neither(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(*arguments)


def test_images_with_the_wrong_policy() -> None:
    with pytest.raises(ValueError, match="world_model='rssm'"):
        tiny("MlpPolicy", Anything(spaces.Box(0, 255, (3, 8, 8), np.uint8), spaces.Discrete(2)))


def test_tetris_by_its_name_alone() -> None:
    program = """
import sys
from sb3_dream import DREAM
assert "tetris_gym" not in sys.modules
networks = {"world_model_kwargs": {"width": 8, "depth": 1, "memory": 4}, "actor_critic_kwargs": {"net_arch": (8,)}}
small = {"learning_starts": 8, "model_warmup": 1, "batch_size": 2, "sequence_length": 4}
model = DREAM("TetrisDirect-v0", policy_kwargs=networks, **small)
model.learn(10)
print(model.num_timesteps, model.policy.mask_size, model._n_updates > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["10", "8", "True"]


def test_importing_is_lazy() -> None:
    program = """
import sys
import sb3_dream
assert "torch" not in sys.modules and "stable_baselines3" not in sys.modules
from sb3_dream import DREAMAgent
training = [name for name in ("dream", "replay", "behaviour", "resume", "config") if f"sb3_dream.{name}" in sys.modules]
assert not training, training
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_public_name_exists() -> None:
    for name in sb3_dream.__all__:
        assert getattr(sb3_dream, name) is not None
    assert set(sb3_dream.__all__) <= set(dir(sb3_dream))
    with pytest.raises(AttributeError, match="no attribute 'Dreamer'"):
        _ = sb3_dream.Dreamer
    assert sb3_dream.DREAM is DREAM


# Predictions


@pytest.fixture(scope="module")
def walker() -> DREAM:
    return tiny(vectorized(Walk, 2)).learn(40)


def test_predict_for_one_and_for_many(walker: DREAM) -> None:
    one, many = np.eye(5, dtype=np.int8)[1], np.eye(5, dtype=np.int8)[[1, 2, 3]]
    action, state = walker.predict(one, deterministic=True)
    assert np.shape(action) == () and walker.action_space.contains(action)
    assert state is not None and state[0].shape == (1, walker.policy.world_model.memory_size)
    actions, states = walker.predict(many, deterministic=True)
    assert actions.shape == (3,) and states is not None and states[0].shape[0] == 3
    assert actions[0] == action
    np.testing.assert_allclose(states[0][0], state[0][0], atol=1e-6)


def test_predict_carries_its_state(walker: DREAM) -> None:
    look = np.eye(5, dtype=np.int8)[[1, 2]]
    _, first = walker.predict(look, deterministic=True)
    _, second = walker.predict(look, first, np.array([False, False]), deterministic=True)
    _, started = walker.predict(look, first, np.array([True, False]), deterministic=True)
    assert first is not None and second is not None and started is not None
    assert not np.allclose(first[0], second[0])
    np.testing.assert_allclose(started[0][0], first[0][0], atol=1e-6)
    np.testing.assert_allclose(started[0][1], second[0][1], atol=1e-6)
    _, fresh = walker.predict(look, None, np.array([True, True]), deterministic=True)
    assert np.array_equal(fresh[0], first[0])  # type: ignore[index]
    _, one = walker.predict(look[0], (first[0][:1],), np.array([False]), deterministic=True)
    np.testing.assert_allclose(one[0][0], second[0][0], atol=1e-6)  # type: ignore[index]


def test_predict_refuses_what_does_not_fit(walker: DREAM) -> None:
    look = np.eye(5, dtype=np.int8)[[1, 2]]
    _, state = walker.predict(look)
    with pytest.raises(ValueError, match="for 1 environments; pass state=None"):
        walker.predict(look[0], state)
    with pytest.raises(ValueError, match="not a tuple"):
        walker.predict((look[0], {}))  # type: ignore[arg-type]


def prefer_right(model: DREAM) -> None:
    with th.no_grad():
        model.policy.actor_critic.actor_head.bias.copy_(th.tensor([-1_000.0, 1_000.0]))
    model.policy.actor_critic.unimix = 0.0


def test_predictions_are_those_of_training() -> None:
    """Step by step, the memory that ``predict`` carries is the one that is stored while collecting."""
    model = tiny(Walk(cells=50, start=25, limit=8), learning_starts=0, train_ratio=0.001)
    prefer_right(model)
    model.learn(8)
    sequence = model.replay_buffer.read_rows(0, 0, 9)  # the last observation too
    state = None
    for t in range(9):
        memory = np.zeros((1, model.policy.world_model.memory_size)) if state is None else state[0]
        stored = model.replay_buffer.read_rows(0, t, 1).memory
        np.testing.assert_allclose(stored.numpy(), memory, atol=1e-3)  # which is stored in half precision
        look = sequence.observations[:, t].numpy()  # type: ignore[call-overload]
        action, state = model.predict(look, state, np.array([t == 0]), deterministic=True)
        assert action.tolist() == [1]
    assert not np.allclose(memory, 0)


@pytest.mark.parametrize("world_model", ["recurrent", "rssm"])
def test_deterministic_predictions_draw_nothing(world_model: str) -> None:
    sizes = RSSM if world_model == "rssm" else NETWORKS["world_model_kwargs"]
    model = tiny(Walk(), policy_kwargs={**NETWORKS, "world_model": world_model, "world_model_kwargs": sizes})
    look = np.eye(5, dtype=np.int8)
    before = th.get_rng_state()
    first, _ = model.predict(look, deterministic=True)
    assert th.equal(th.get_rng_state(), before)
    assert np.array_equal(first, model.predict(look, deterministic=True)[0])


class Interferes(BaseCallback):
    """Predicts at random, with other numbers of environments, and draws random numbers, at every step."""

    def _on_step(self) -> bool:
        self.model.predict(np.eye(5, dtype=np.int8)[:3], deterministic=False)
        th.rand(7)
        return True


def test_predicting_and_evaluating_never_disturb_training() -> None:
    def run(callback: BaseCallback | None) -> dict[str, th.Tensor]:
        return parameters(tiny(vectorized(lambda: Walk(slip=0.3), 2)).learn(48, callback=callback))

    evaluation = Monitor(Walk(slip=0.3))
    evaluation.reset(seed=7)
    callbacks = [
        Interferes(),
        EvalCallback(evaluation, n_eval_episodes=2, eval_freq=5, verbose=0, warn=False),
        EvalCallback(vectorized(Walk, 3), n_eval_episodes=3, eval_freq=7, deterministic=False, verbose=0, warn=False),
    ]
    assert_same(run(CallbackList(callbacks)), run(None))


# Callbacks, logs


class Looks(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, ...]] = []
        self.rows: list[int] = []
        self.starts: list[np.ndarray] = []

    def _on_step(self) -> bool:
        self.found.append(tuple(len(self.locals[name]) for name in ("new_obs", "rewards", "dones", "infos", "actions")))
        self.rows.append(self.model.replay_buffer.n_rows)  # type: ignore[attr-defined]
        self.starts.append(self.model._last_episode_starts)  # type: ignore[attr-defined]
        return True


def test_callbacks_find_what_they_know_from_other_algorithms() -> None:
    looks = Looks()
    model = tiny(vectorized(lambda: Walk(cells=50, start=25, limit=3), 2)).learn(12, callback=looks)
    assert looks.found == [(2,) * 5] * 6
    assert looks.rows[0] == 0  # before the step is stored
    assert [starts.tolist() for starts in looks.starts] == [[i % 3 == 0] * 2 for i in range(6)]
    assert model._last_episode_starts.tolist() == [True, True]  # type: ignore[union-attr]


class Kept(KVWriter):
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.values |= key_values

    def close(self) -> None:
        pass


def test_logged_names() -> None:
    kept = Kept()
    model = tiny(vectorized(Walk, 2))
    model.set_logger(Logger(None, [kept]))
    model.learn(60, log_interval=1)
    train = "world_model_loss actor_loss critic_loss entropy imagined_return learning_rate n_updates return_scale"
    names = {f"train/{name}" for name in train.split()}
    names |= {"rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/exploration_rate", "time/fps"}
    assert names <= set(kept.values)
    assert any(name.startswith("train/world_model/") for name in kept.values)
    assert all(np.isfinite(value) for value in kept.values.values())


def test_tensorboard_and_progress_bar(tmp_path: Path) -> None:
    model = tiny(Walk(), tensorboard_log=str(tmp_path)).learn(40, log_interval=1, progress_bar=True)
    model.learn(10, reset_num_timesteps=False)
    assert [folder.name for folder in tmp_path.iterdir()] == ["DREAM_1"]
    assert all(file.stat().st_size > 0 for file in (tmp_path / "DREAM_1").iterdir())


# Environments


def test_subprocesses() -> None:
    env = SubprocVecEnv([lambda: Monitor(SavedMaskedWalk(slip=0.3))] * 2)
    try:
        model = tiny(env).learn(24)
        assert model.policy.mask_size == 3
        assert model._n_updates > 0
        snapshot = take_snapshot(env)
        assert snapshot is not None
        steps = [env.step(np.array([1, 1])) for _ in range(10)]
        assert restore_snapshot(env, snapshot)
        again = [env.step(np.array([1, 1])) for _ in range(10)]
        assert all(
            np.array_equal(a, b)
            for one, two in zip(steps, again, strict=True)
            for a, b in zip(one[:3], two[:3], strict=True)
        )
    finally:
        env.close()


@pytest.mark.parametrize("rewards", [True, False])
def test_vec_normalize(rewards: bool) -> None:
    env = VecNormalize(vectorized(FloatWalk, 2), norm_reward=rewards)
    model = tiny(env).learn(40)
    raw = model.replay_buffer.sample_sequences(50, 3)
    observations = raw.observations[raw.valid][:, 0]  # type: ignore[call-overload]
    th.testing.assert_close(observations, observations.round())  # stored as they are: numbers of cells
    assert set(raw.rewards[raw.valid].unique().tolist()) <= {0.0, np.float32(0.2), 1.0}
    model.replay_buffer.seed(0)
    normalised = model.replay_buffer.sample_sequences(50, 3, env)
    model.replay_buffer.seed(0)
    raw = model.replay_buffer.sample_sequences(50, 3)
    expected = env.normalize_obs(raw.observations.numpy())  # type: ignore[union-attr]
    np.testing.assert_allclose(normalised.observations[raw.valid], expected[raw.valid.numpy()], rtol=1e-5)  # type: ignore
    assert th.equal(normalised.rewards, raw.rewards) != rewards


def test_normalised_bits_are_no_bits() -> None:
    class Layout(Walk):
        observation_layout = {"binary": True, "grids": [{"start": 0, "rows": 1, "columns": 5}]}  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)

    model = tiny(VecNormalize(vectorized(Layout, 1)))
    assert {segment.kind for segment in model.policy.observation_spec.segments} == {"continuous"}
    assert model.policy.observation_spec.layout.columns == 5
    kinds = tiny(VecNormalize(vectorized(Layout, 1), norm_obs=False)).policy.observation_spec.segments
    assert {segment.kind for segment in kinds} == {"bits"}


def test_set_env_with_another_number() -> None:
    noise = NormalActionNoise(np.zeros(1), np.ones(1))
    model = tiny(vectorized(lambda: FloatWalk(force=True), 2), action_noise=noise).learn(30)
    rows = model.replay_buffer.n_rows
    for count in (3, 1):
        model.set_env(vectorized(lambda: FloatWalk(force=True), count))
        assert (model.n_envs, model.replay_buffer.n_envs) == (count, count)
        assert model.replay_buffer.n_rows == rows
        model.learn(12, reset_num_timesteps=False)
        rows = model.replay_buffer.n_rows
    assert model.num_timesteps == 54
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        model.set_env(Walk())
    assert model.n_envs == 1


def test_environments_that_lost_their_masks() -> None:
    model = tiny(MaskedWalk()).learn(10)

    class Bare(Walk):
        action_space = spaces.Discrete(3)

    model.set_env(Bare())
    with pytest.raises(ValueError, match=r"these environments have no method action_masks\(\)"):
        model.learn(10)


def test_no_environment(tmp_path: Path) -> None:
    tiny(Walk()).save(tmp_path / "model")
    model = DREAM.load(tmp_path / "model", device="cpu")
    with pytest.raises(ValueError, match="no environment to learn in"):
        model.learn(10)
    model.set_env(Walk())
    model.learn(10)


# Files


def test_save_and_load(tmp_path: Path) -> None:
    model = tiny(
        vectorized(lambda: Anything(spaces.Box(-1.0, 1.0, (3,)), spaces.Box(-1.0, 4.0, (2,))), 2),
        learning_rate=LinearSchedule(1e-3, 0.0, 1.0),
        actor_learning_rate=1e-4,
        gamma=0.9,
    ).learn(40)
    model.save(tmp_path / "model")
    loaded = DREAM.load(tmp_path / "model", device="cpu")
    assert_same(parameters(model), parameters(loaded))
    assert any(name.startswith("policy.actor_critic_optimizer/state") for name in parameters(loaded))
    assert any("return_scale" in name for name in parameters(loaded))
    looks = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    assert np.array_equal(*(m.predict(looks, deterministic=True)[0] for m in (model, loaded)))
    assert (loaded.gamma, loaded.num_timesteps, loaded._n_updates) == (0.9, 40, model._n_updates)
    assert loaded.lr_schedule(0.5) == pytest.approx(5e-4)
    assert loaded.policy.actor_lr_schedule(0.5) == 1e-4
    assert loaded.replay_buffer.n_rows == 0
    same = DREAM.load(tmp_path / "model", model.get_env(), policy_kwargs=NETWORKS, gamma=0.8, device="cpu")
    assert same.gamma == 0.8


def test_masks_and_layout_are_remembered_without_the_environment(tmp_path: Path) -> None:
    tiny(MaskedWalk()).save(tmp_path / "model")
    loaded = DREAM.load(tmp_path / "model", device="cpu")
    assert loaded.policy.mask_size == 3
    action, _ = loaded.predict(np.eye(5, dtype=np.int8)[1], action_masks=np.array([False, True, False]))
    assert action == 1


def test_load_with_another_number_of_environments(tmp_path: Path) -> None:
    model = tiny(vectorized(Walk, 2)).learn(30)
    model.save(tmp_path / "model")
    loaded = DREAM.load(tmp_path / "model", vectorized(Walk, 3), device="cpu")
    loaded.learn(30, reset_num_timesteps=False)
    assert (loaded.n_envs, loaded.num_timesteps) == (3, 60)


def test_get_and_set_parameters(tmp_path: Path, walker: DREAM) -> None:
    other = tiny(vectorized(Walk, 2), seed=9)
    everything = walker.get_parameters()
    assert set(everything) == {"policy", "policy.world_model_optimizer", "policy.actor_critic_optimizer"}
    other.set_parameters(everything)
    assert_same(parameters(walker), parameters(other))
    with pytest.raises(ValueError, match="do not match"):
        other.set_parameters({"policy": everything["policy"]})
    other = tiny(vectorized(Walk, 2), seed=9)
    other.set_parameters({"policy": everything["policy"]}, exact_match=False)
    assert_same(*({k: v for k, v in parameters(m).items() if k.startswith("policy/")} for m in (walker, other)))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.set_parameters({**everything, "policy": {}})
    walker.save(tmp_path / "model")
    other.set_parameters(str(tmp_path / "model"))
    assert_same(parameters(walker), parameters(other))


def test_policy_save_and_load(tmp_path: Path) -> None:
    model = tiny(MaskedWalk()).learn(30)
    model.policy.save(str(tmp_path / "policy.pt"))
    policy = MlpPolicy.load(str(tmp_path / "policy.pt"), device="cpu")
    assert isinstance(policy, DreamPolicy) and policy.mask_size == 3
    assert all(
        th.equal(a, b) for a, b in zip(policy.state_dict().values(), model.policy.state_dict().values(), strict=True)
    )
    looks = np.eye(5, dtype=np.int8)
    assert np.array_equal(*(m.predict(looks, deterministic=True)[0] for m in (model, policy)))


@pytest.mark.parametrize("world_model", ["recurrent", "rssm", "compact"])
def test_the_state_of_the_policy_is_all_floating_point(world_model: str) -> None:
    """As others expect who average, perturb or flatten it."""
    policy = tiny(MaskedWalk(), policy_kwargs={"world_model": world_model}).policy
    assert all(value.is_floating_point() for value in policy.state_dict().values())
    policy.load_from_vector(policy.parameters_to_vector())


def test_replay_memory_is_only_taken_when_something_is_stored(tmp_path: Path) -> None:
    model = tiny(Walk(), buffer_size=10**15)
    model.save(tmp_path / "model")
    loaded = DREAM.load(tmp_path / "model", device="cpu")
    loaded.predict(np.eye(5, dtype=np.int8)[1])
    with pytest.raises(MemoryError, match="Lower buffer_size"):
        model.learn(1)


def test_evaluate_policy(walker: DREAM) -> None:
    returns, lengths = evaluate_policy(walker, vectorized(Walk, 3), 5, return_episode_rewards=True)
    assert len(returns) == len(lengths) == 5  # type: ignore[arg-type]
    policy_only, _ = evaluate_policy(walker.policy, vectorized(Walk, 3), 5)
    assert np.mean(returns) == pytest.approx(policy_only)


def test_from_config() -> None:
    config = sb3_dream.DREAMConfig(world_model="compact", gamma=0.5, seed=3)
    model = DREAM.from_config(config, Walk(), gamma=0.6)
    assert type(model) is DREAM and (model.gamma, model.seed) == (0.6, 3)
    assert type(model.policy.world_model) is sb3_dream.CompactWorldModel


def test_environments_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be loaded does not stand in the way of the others."""
    from sb3_dream import environments

    class Announced:
        def __init__(self, name: str, error: Exception | None = None) -> None:
            self.name, self.value, self.error = name, f"package:{name}", error

        def load(self) -> Any:
            def register() -> None:
                if self.error is not None:
                    raise self.error
                gym.register("Found-v0", entry_point="tests.sb3_dream.tiny:Walk")

            return register

    announced = [Announced("broken", ImportError("no such library")), Announced("mine")]
    monkeypatch.setattr(environments, "entry_points", lambda group: announced)
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    monkeypatch.setattr(gym, "registry", gym.envs.registration.registry)
    with pytest.warns(UserWarning, match="package:broken cannot be loaded.*no such library"):
        assert environments.ensure_registered("mine/Found-v0")
    assert not gym.envs.registration.current_namespace
