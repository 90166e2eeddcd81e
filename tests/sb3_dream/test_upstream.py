"""What Stable-Baselines3 and sb3-contrib ask of their own algorithms, asked of DREAM; see also ``test_contract``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.envs import (
    IdentityEnv,
    IdentityEnvBox,
    IdentityEnvMultiBinary,
    IdentityEnvMultiDiscrete,
    SimpleMultiObsEnv,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    sync_envs_normalization,
)

from sb3_dream.dream import DREAM
from tests.sb3_dream.resume_cases import FloatWalk
from tests.sb3_dream.tiny import NETWORKS, RSSM, Anything, Walk, assert_same, parameters, tiny, vectorized

LATENT: dict[str, Any] = {**NETWORKS, "world_model": "rssm", "world_model_kwargs": RSSM}

# Callbacks


@pytest.mark.parametrize("batched", [False, True])
def test_all_of_its_callbacks(batched: bool, tmp_path: Path) -> None:
    evaluation = EvalCallback(
        Monitor(Walk()),
        callback_on_new_best=StopTrainingOnRewardThreshold(1e9),
        callback_after_eval=StopTrainingOnNoModelImprovement(max_no_improvement_evals=1_000),
        n_eval_episodes=1,
        eval_freq=20,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        verbose=0,
        warn=False,
    )
    checkpoint = CheckpointCallback(24, str(tmp_path), save_replay_buffer=True, save_vecnormalize=True)
    events = EveryNTimesteps(30, CheckpointCallback(1, str(tmp_path / "events")))
    callbacks = [evaluation, checkpoint, events, LogEveryNTimesteps(16), StopTrainingOnMaxEpisodes(1_000)]
    model = tiny(vectorized(Walk, 2 if batched else 1))
    model.learn(60, callback=callbacks if batched else CallbackList(callbacks))
    assert (tmp_path / "best_model.zip").is_file() and (tmp_path / "evaluations.npz").is_file()
    assert len(list((tmp_path / "events").glob("*.zip"))) == 2
    newest = 48
    loaded = DREAM.load(tmp_path / f"rl_model_{newest}_steps", vectorized(Walk, 2), device="cpu")
    loaded.load_replay_buffer(tmp_path / f"rl_model_replay_buffer_{newest}_steps.pkl")
    assert loaded.replay_buffer.n_rows >= newest - 2
    loaded.learn(10, reset_num_timesteps=False)


def test_functions_and_stops() -> None:
    seen = []

    def stop_at_30(local: dict[str, Any], world: dict[str, Any]) -> bool:
        seen.append(local["self"].num_timesteps)
        return local["self"].num_timesteps < 30

    model = tiny(vectorized(Walk, 1)).learn(60, callback=stop_at_30)
    assert model.num_timesteps == 30 and seen == list(range(1, 31))
    episodes = tiny(vectorized(lambda: Walk(cells=50, start=25, limit=5), 2))
    episodes.learn(1_000, callback=StopTrainingOnMaxEpisodes(3))
    assert episodes.num_timesteps == 2 * 15  # for each of the environments


def test_a_callback_sees_the_whole_life_of_a_training() -> None:
    order: list[str] = []

    class Records(BaseCallback):
        def _on_training_start(self) -> None:
            order.append("training starts")

        def _on_rollout_start(self) -> None:
            order.append("rollout starts")

        def _on_step(self) -> bool:
            order.append("step")
            return True

        def _on_rollout_end(self) -> None:
            order.append("rollout ends")

        def _on_training_end(self) -> None:
            order.append("training ends")

    tiny(Walk(), train_freq=2).learn(4, callback=Records())
    rollout = ["rollout starts", "step", "step", "rollout ends"]
    assert order == ["training starts", *rollout, *rollout, "training ends"]


# Modes


def test_modes_of_training_and_evaluation() -> None:
    """Rollouts and predictions never leave the policy in the other's mode while it updates."""
    model = tiny(vectorized(Walk, 2), policy_kwargs=LATENT)
    seen: list[tuple[str, bool]] = []
    observe = model.policy.world_model.observe

    def watched(sequences: Any) -> Any:
        seen.append(("update", model.policy.training))
        return observe(sequences)

    model.policy.world_model.observe = watched  # type: ignore[method-assign]

    class Predicts(BaseCallback):
        def _on_step(self) -> bool:
            self.model.predict(np.eye(5, dtype=np.int8)[0])
            seen.append(("predicted", self.model.policy.training))
            return True

    model.learn(40, callback=Predicts())
    assert {mode for kind, mode in seen if kind == "update"} == {True}
    assert {mode for kind, mode in seen if kind == "predicted"} == {False}


def test_predictions_do_not_change_the_parameters() -> None:
    model = tiny(vectorized(Walk, 2), policy_kwargs=LATENT).learn(40)
    before = parameters(model)
    for deterministic in (True, False):
        model.predict(np.eye(5, dtype=np.int8), deterministic=deterministic)
    assert_same(before, parameters(model))


# Predictions


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_devices(device: str) -> None:
    model = tiny(Walk(), device=device)
    assert model.device == get_device(device) == model.policy.device
    action, _ = model.predict(np.eye(5, dtype=np.int8)[0], deterministic=True)
    assert model.action_space.contains(int(action))


def test_observations_of_a_wrong_shape_are_refused() -> None:
    model = tiny(Walk())
    for wrong in (np.zeros(4, np.int8), np.zeros((2, 4), np.int8), np.zeros((1, 1, 5), np.int8)):
        with pytest.raises(ValueError, match="observation shape"):
            model.predict(wrong)


def test_images_in_either_order_of_channels() -> None:
    """An image with the channels last is turned, while learning and when one is predicted from."""
    images = Anything(spaces.Box(0, 255, (36, 40, 3), np.uint8), spaces.Discrete(2))
    model = tiny(images, policy_kwargs=LATENT).learn(16)
    assert isinstance(model.get_env(), VecTransposeImage)
    last = images.observation_space.sample()
    first = np.moveaxis(last, -1, 0)
    actions = [model.predict(image, deterministic=True) for image in (last, first, last[None], first[None])]
    for _, state in actions[1:]:
        np.testing.assert_allclose(state[0], actions[0][1][0], atol=1e-5)  # type: ignore[index]


def test_stacked_frames() -> None:
    images = spaces.Box(0, 255, (36, 40, 1), np.uint8)
    env = VecFrameStack(DummyVecEnv([lambda: Monitor(Anything(images, spaces.Discrete(2)))] * 2), 3)
    model = tiny(env, policy_kwargs=LATENT).learn(24)
    assert model.observation_space.shape == (3, 36, 40)
    evaluate_policy(model, model.get_env(), 2)  # type: ignore[arg-type]


# Dictionaries


@pytest.mark.parametrize("channels_last", [True, False])
def test_dictionaries_of_images_and_vectors(channels_last: bool, tmp_path: Path) -> None:
    make = lambda: Monitor(SimpleMultiObsEnv(random_start=True, channel_last=channels_last))  # noqa: E731
    model = tiny(DummyVecEnv([make, make]), policy_kwargs=LATENT).learn(40)
    evaluate_policy(model, make(), 2, warn=False)
    model.save(tmp_path / "model")
    loaded = DREAM.load(tmp_path / "model", make(), device="cpu").learn(20)
    looks = {key: space.sample()[None] for key, space in loaded.observation_space.spaces.items()}  # type: ignore
    loaded.predict(looks)


def test_normalised_dictionaries() -> None:
    both = spaces.Dict(a=spaces.Box(-5.0, 5.0, (2,)), b=spaces.Box(10.0, 20.0, (3,)))
    env = VecNormalize(DummyVecEnv([lambda: Monitor(Anything(both, spaces.Discrete(2)))] * 2), norm_obs_keys=["b"])
    model = tiny(env, policy_kwargs=LATENT).learn(40)
    raw = model.replay_buffer.sample_sequences(20, 3)
    assert (raw.observations["b"][raw.valid] >= 9.99).all(), "stored as they were"  # type: ignore[call-overload]
    seen = model.replay_buffer.sample_sequences(20, 3, env)
    assert (seen.observations["b"][seen.valid].abs() < 9).all()  # type: ignore[call-overload]


# VecNormalize


def test_statistics_are_kept_beside_a_model_and_shared_with_an_evaluation(tmp_path: Path) -> None:
    def make() -> DummyVecEnv:
        return vectorized(FloatWalk, 2)  # type: ignore[return-value]

    env = VecNormalize(make())
    model = tiny(env).learn(40)
    env.save(str(tmp_path / "statistics"))
    again = VecNormalize.load(str(tmp_path / "statistics"), make())
    np.testing.assert_array_equal(again.obs_rms.mean, env.obs_rms.mean)  # type: ignore[union-attr]
    assert model.get_vec_normalize_env() is env
    other = VecNormalize(make(), training=False, norm_reward=False)
    sync_envs_normalization(env, other)
    np.testing.assert_array_equal(other.obs_rms.mean, env.obs_rms.mean)  # type: ignore[union-attr]
    model.learn(20, callback=EvalCallback(other, eval_freq=10, n_eval_episodes=1, warn=False, verbose=0))
    np.testing.assert_array_equal(other.obs_rms.mean, env.obs_rms.mean)  # type: ignore[union-attr]


# Logs


def test_formats_of_logs(tmp_path: Path) -> None:
    model = tiny(vectorized(Walk, 2))
    model.set_logger(configure(str(tmp_path), ["stdout", "csv", "json", "log", "tensorboard"]))
    model.learn(60, log_interval=2)
    rows = [json.loads(line) for line in (tmp_path / "progress.json").read_text().splitlines()]
    assert rows[-1]["time/total_timesteps"] <= 60 and "rollout/ep_rew_mean" in rows[-1]
    assert len((tmp_path / "progress.csv").read_text().splitlines()) == 1 + len(rows)
    assert list(tmp_path.glob("events*")) and (tmp_path / "log.txt").stat().st_size > 0
    names = [(tmp_path / "other").exists(), model.logger.dir == str(tmp_path)]
    assert names == [False, True], "a logger that was set stays"


def test_rates_of_success_are_logged() -> None:
    class Succeeds(Walk):
        def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            look, reward, terminated, truncated, _ = super().step(action)
            return look, reward, terminated, truncated, {"is_success": reward == 1.0}

    model = tiny(vectorized(Succeeds, 2)).learn(60)
    assert model.ep_success_buffer is not None and len(model.ep_success_buffer) > 0
    model.dump_logs()


# The same again


@pytest.mark.parametrize("kind", ["discrete", "continuous", "latent"])
def test_the_same_seed_gives_the_same_run(kind: str) -> None:
    def run() -> DREAM:
        env = vectorized(lambda: FloatWalk(force=True) if kind == "continuous" else Walk(slip=0.3), 2)
        return tiny(env, policy_kwargs=LATENT if kind == "latent" else NETWORKS, seed=4).learn(48)

    first, second = run(), run()
    assert_same(parameters(first), parameters(second))
    rewards = [[info["r"] for info in model.ep_info_buffer or ()] for model in (first, second)]
    assert rewards[0] == rewards[1] and rewards[0]


# Spaces and identities


@pytest.mark.parametrize("kind", ["float64", "tall", "zero start"])
def test_unusual_boxes(kind: str) -> None:
    space = {
        "float64": spaces.Box(-1.0, 1.0, (3,), np.float64),
        "tall": spaces.Box(-1.0, 1.0, (2, 3, 2), np.float32),
        "zero start": spaces.Discrete(3, start=-1),
    }[kind]
    env = Anything(space, spaces.Box(-1.0, 3.0, (2, 2), np.float32))
    check_env(env, skip_render_check=True)
    model = tiny(env).learn(24)
    assert env.action_space.contains(model.predict(env.observation_space.sample())[0])


IDENTITIES: dict[str, Any] = {
    "discrete": lambda: IdentityEnv(4),
    "several": lambda: IdentityEnvMultiDiscrete(3),
    "bits": lambda: IdentityEnvMultiBinary(2),
    "continuous": lambda: IdentityEnvBox(eps=0.5),
}


@pytest.mark.parametrize("kind", IDENTITIES)
def test_identities_train(kind: str) -> None:
    env = DummyVecEnv([lambda: Monitor(IDENTITIES[kind]())])
    model = tiny(env).learn(120)
    assert model._n_updates > 0
    evaluate_policy(model, env, 1, warn=False)
    assert all(th.isfinite(value).all() for value in parameters(model).values())


def test_an_environment_by_its_id_and_a_wrapped_one() -> None:
    for env in ("CartPole-v1", gym.make("CartPole-v1"), Monitor(gym.make("CartPole-v1"))):
        model = tiny(env).learn(20)
        assert model.n_envs == 1 and model.num_timesteps == 20
