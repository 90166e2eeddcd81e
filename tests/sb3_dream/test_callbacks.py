"""The training monitor and the curriculum, under algorithms of Stable-Baselines3."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor, VecNormalize

from sb3_dream.callbacks import CurriculumCallback, Stage, TrainingMonitor
from sb3_dream.dream import DREAM
from sb3_dream.history import Episode, Scalars, TrainingHistory
from tests.sb3_dream.tiny import SavedWalk, parameters, tiny

LENGTH = 5


class Corridor(gym.Env):
    """Episodes of exactly ``LENGTH`` steps; episode k clears k % 3 lines; a success wherever it is not difficult."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, tells_success: bool = True, reward: float = 1.0) -> None:
        self.tells_success = tells_success
        self.reward = reward
        self.difficulty = self.next_difficulty = 0
        self.episode = -1

    def set_difficulty(self, difficulty: int) -> None:
        self.next_difficulty = difficulty

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        self.episode += 1
        self.difficulty = self.next_difficulty
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        done = self.steps == LENGTH
        info: dict[str, Any] = {"total_lines": self.episode % 3 if done else 99, "difficulty": self.difficulty}
        if self.tells_success:
            info["is_success"] = self.difficulty < 2
        return np.zeros(2, np.float32), self.reward, done, False, info


def corridors(count: int = 1, monitored: bool = True, **kwargs: Any) -> VecEnv:
    wrap: Callable[[gym.Env], gym.Env] = Monitor if monitored else lambda env: env
    return DummyVecEnv([lambda: wrap(Corridor(**kwargs))] * count)


def dqn(env: Any, **kwargs: Any) -> DQN:
    options = {"learning_starts": 10, "batch_size": 4, "policy_kwargs": {"net_arch": [4]}} | kwargs
    return DQN("MlpPolicy", env, seed=0, device="cpu", **options)


def ppo(env: Any, n_steps: int = 10) -> PPO:
    options = {"n_steps": n_steps, "batch_size": 5, "n_epochs": 1, "policy_kwargs": {"net_arch": [4]}}
    return PPO("MlpPolicy", env, seed=0, device="cpu", **options)


class LastWritten(KVWriter):
    """An independent record of what the logger wrote."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.written.append(dict(key_values))

    def close(self) -> None:
        pass


# The monitor


def test_every_episode_is_recorded() -> None:
    monitor = TrainingMonitor()
    dqn(corridors(3)).learn(30, callback=monitor)
    assert monitor.episode_timesteps.tolist() == [15, 15, 15, 30, 30, 30]
    assert monitor.episode_rewards.tolist() == [LENGTH] * 6
    assert monitor.episode_lengths.tolist() == [LENGTH] * 6
    assert monitor.episode_counters("total_lines").tolist() == [0, 0, 0, 1, 1, 1]
    assert np.isnan(monitor.episode_counters("pieces_placed")).all()
    assert all(0 < first.time <= last.time for first, last in zip(monitor.episodes, monitor.episodes[1:], strict=False))


@pytest.mark.parametrize("algorithm", [A2C, DQN])
def test_any_algorithm_on_a_named_environment(algorithm: type[BaseAlgorithm]) -> None:
    monitor = TrainingMonitor()
    algorithm("MlpPolicy", "CartPole-v1", seed=0, device="cpu").learn(300, callback=monitor)
    episodes = monitor.get_stats()["num_episodes"]
    assert episodes == len(monitor.episode_rewards) > 3
    assert monitor.episode_rewards.tolist() == monitor.episode_lengths.tolist()


def test_rewards_are_those_before_normalisation() -> None:
    monitor = TrainingMonitor()
    dqn(VecNormalize(corridors(reward=100.0))).learn(20, callback=monitor)
    assert monitor.episode_rewards.tolist() == [500.0] * 4


def test_statistics_from_a_vectorized_environment_without_monitors() -> None:
    monitor = TrainingMonitor()
    dqn(VecMonitor(corridors(2, monitored=False))).learn(20, callback=monitor)
    assert monitor.episode_rewards.tolist() == [LENGTH] * 4


def test_environments_without_episode_statistics_are_reported() -> None:
    monitor = TrainingMonitor()
    with pytest.warns(UserWarning, match="VecMonitor"):
        dqn(corridors(2, monitored=False)).learn(60, callback=monitor)
    assert monitor.episodes == []


def test_losses_are_those_that_the_logger_writes() -> None:
    monitor, witness = TrainingMonitor(), LastWritten()
    model = dqn(corridors())
    model.set_logger(Logger(None, [witness]))
    model.learn(100, callback=monitor, log_interval=1)
    witnessed = [written["train/loss"] for written in witness.written if "train/loss" in written]
    steps, losses = monitor.losses["train/loss"]
    # The last training comes after the last line of the log
    assert losses[: len(witnessed)].tolist() == pytest.approx(witnessed)
    assert len(witnessed) > 10 and len(losses) == len(witnessed) + 1
    assert (np.diff(steps) >= 0).all() and steps[-1] == 100
    assert not any(key.startswith("time/") for key in monitor.scalar_keys)
    assert model.logger.output_formats == [witness]


def test_losses_are_found_where_nothing_is_ever_logged() -> None:
    monitor = TrainingMonitor(scalar_interval=20)
    dqn(corridors()).learn(200, callback=monitor, log_interval=None)
    steps, losses = monitor.losses["train/loss"]
    assert len(losses) >= 200 // 24 and np.diff(steps).max() <= 24
    assert len(set(losses)) > 3


def test_on_policy_losses_reach_to_the_last_update() -> None:
    monitor = TrainingMonitor()
    model = ppo(corridors())
    model.learn(30, callback=monitor)
    steps, values = monitor.scalar("train/n_updates")
    # Training follows the log, so that the first update is in the second dump
    assert steps.tolist() == [20, 30, 30] and values.tolist() == [1, 2, 3]
    assert {"train/loss", "train/policy_gradient_loss", "train/value_loss"} <= set(monitor.losses)


def test_a_logger_that_another_callback_installs_is_followed() -> None:
    class NewLogger(BaseCallback):
        def _on_training_start(self) -> None:
            self.model.set_logger(Logger(None, []))

        def _on_step(self) -> bool:
            return True

    monitor = TrainingMonitor()
    ppo(corridors()).learn(30, callback=CallbackList([monitor, NewLogger()]))
    assert monitor.scalar("train/n_updates")[1].tolist() == [1, 2, 3]


def test_exploration_rate() -> None:
    monitor = TrainingMonitor()
    model = dqn(corridors(), exploration_fraction=0.5, exploration_final_eps=0.1)
    model.learn(100, callback=monitor, log_interval=1)
    steps, rates = monitor.exploration_rates
    assert rates[0] > 0.8 and rates[-1] == pytest.approx(0.1)
    assert rates[steps == 30][0] == pytest.approx(1 - 0.9 * 30 / 50)

    without = TrainingMonitor()
    ppo(corridors()).learn(10, callback=without)
    assert len(without.exploration_rates[0]) == 0


def test_exploration_rate_of_a_model_that_does_not_log_it() -> None:
    class Quiet(DQN):
        def _on_step(self) -> None:
            self.exploration_rate = 0.25

    monitor = TrainingMonitor()
    Quiet("MlpPolicy", corridors(), learning_starts=10, batch_size=4, device="cpu").learn(50, callback=monitor)
    assert set(monitor.exploration_rates[1]) == {0.25}


# Statistics


def history_of(rewards: list[float], **kwargs: Any) -> TrainingHistory:
    history = TrainingHistory(("total_lines",))
    for index, reward in enumerate(rewards):
        history.episodes.append(Episode(10 * (index + 1), float(index), reward, 10 + index, **kwargs))
    return history


def test_stats_over_a_window() -> None:
    history = history_of([100.0, 1.0, 3.0], counters={"total_lines": 2.0})
    stats = history.get_stats(window=2)
    assert stats["mean_reward"] == 2.0 and stats["std_reward"] == 1.0 and stats["mean_length"] == 11.5
    assert stats["num_episodes"] == 3 and stats["timesteps"] == 30 and stats["seconds"] == 2.0
    assert stats["total_lines"] == 6.0 and stats["lines_per_episode"] == 2.0
    assert history.get_stats(window=None)["mean_reward"] == pytest.approx(104 / 3)


def test_stats_without_an_episode() -> None:
    stats = TrainingMonitor().get_stats()
    assert stats["num_episodes"] == 0 and stats["total_lines"] == 0
    assert all(math.isnan(stats[key]) for key in ("mean_reward", "std_reward", "success_rate", "lines_per_episode"))


def test_success_rate_from_the_info_and_from_a_function() -> None:
    told, judged = TrainingMonitor(), TrainingMonitor(success_fn=lambda info: info["total_lines"] == 2)
    dqn(corridors()).learn(30, callback=[told, judged])
    assert told.get_stats()["success_rate"] == 1.0
    assert judged.get_stats()["success_rate"] == pytest.approx(2 / 6)
    assert judged.get_stats(window=2)["success_rate"] == 0.5

    silent = TrainingMonitor()
    dqn(corridors(tells_success=False)).learn(30, callback=silent)
    assert math.isnan(silent.get_stats()["success_rate"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingMonitor(counters="total_lines"), "not a string"),
        (lambda: TrainingMonitor(scalar_interval=0), "scalar_interval must be at least 1"),
        (lambda: TrainingMonitor().get_stats(window=0), "window must be at least 1"),
    ],
)
def test_bad_arguments_of_the_monitor(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


# Files


def test_save_and_load(tmp_path: Path) -> None:
    monitor = TrainingMonitor(counters=("total_lines",))
    dqn(corridors(2)).learn(60, callback=monitor)
    monitor.scalars.append(Scalars(61, 9.0, {"train/loss": math.inf}))
    path = tmp_path / "new" / "history.jsonl"
    monitor.save(path)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    for loaded in (TrainingMonitor.load(path), TrainingHistory.load(path)):
        assert loaded.episodes == monitor.episodes and loaded.scalars == monitor.scalars
        assert loaded.counters == ("total_lines",)
    assert TrainingMonitor.load(path, counters=("score",)).counters == ("score",)


def test_the_file_follows_the_training(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"

    class Interrupt(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 53:
                raise KeyboardInterrupt
            return True

    monitor = TrainingMonitor(save_path=path)
    with pytest.raises(KeyboardInterrupt):
        dqn(corridors()).learn(100, callback=[monitor, Interrupt()], log_interval=2)
    saved = TrainingHistory.load(path)
    assert saved.scalars == monitor.scalars and len(saved.episodes) >= 8
    assert saved.episodes == monitor.episodes[: len(saved.episodes)]


def test_a_resumed_run_appends_and_a_new_one_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    model = dqn(corridors())
    model.learn(50, callback=TrainingMonitor(save_path=path))
    model.learn(50, callback=TrainingMonitor(save_path=path), reset_num_timesteps=False)
    assert TrainingHistory.load(path).episode_timesteps.tolist() == list(range(5, 101, 5))
    seconds = [episode.time for episode in TrainingHistory.load(path).episodes]
    assert seconds == sorted(seconds)

    dqn(corridors()).learn(20, callback=TrainingMonitor(save_path=path))
    assert TrainingHistory.load(path).episode_timesteps.tolist() == [5, 10, 15, 20]


def test_a_reset_of_the_timesteps_continues_the_axis(tmp_path: Path) -> None:
    monitor, model = TrainingMonitor(), dqn(corridors())
    model.learn(20, callback=monitor)
    model.learn(20, callback=monitor)
    assert monitor.episode_timesteps.tolist() == list(range(5, 41, 5))
    monitor.save(tmp_path / "history.jsonl")
    resumed = TrainingMonitor.load(tmp_path / "history.jsonl")
    model.learn(10, callback=resumed, reset_num_timesteps=False)
    assert resumed.episode_timesteps.tolist() == list(range(5, 51, 5))


def test_resuming_from_an_older_checkpoint_forgets_what_will_happen_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, monitor = dqn(corridors()), TrainingMonitor(verbose=1)
    model.learn(20, callback=monitor)
    model.save(tmp_path / "model")
    model.learn(30, callback=monitor, reset_num_timesteps=False)
    resumed = DQN.load(tmp_path / "model", env=corridors())
    resumed.learn(10, callback=monitor, reset_num_timesteps=False)
    assert monitor.episode_timesteps.tolist() == [5, 10, 15, 20, 25, 30]
    assert monitor.scalars[-1].timestep == resumed.num_timesteps < model.num_timesteps
    assert "forgot 6 later episodes" in capsys.readouterr().out


def test_files_that_are_no_history(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for text in ("", "reward,length\n1,2\n", '{"other": 1}\n', "[]\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="not a training history"):
            TrainingHistory.load(path)

    history_of([1.0, 2.0]).save(path)
    header, first, second = path.read_text().splitlines()
    path.write_text(header.replace('"version": 1', '"version": 7'))
    with pytest.raises(ValueError, match="format version 7, expected 1"):
        TrainingHistory.load(path)
    path.write_text("\n".join([header, first[:-9], second]))
    with pytest.raises(ValueError, match="line 2: not JSON"):
        TrainingHistory.load(path)
    path.write_text("\n".join([header, '{"episode": {"reward": 1.0}}', second]))
    with pytest.raises(ValueError, match="line 2: not a record"):
        TrainingHistory.load(path)
    path.write_text("\n".join([header, first, second[:-9]]))
    assert TrainingHistory.load(path).episode_rewards.tolist() == [1.0]


# The curriculum


class Difficulties(BaseCallback):
    """The difficulty that each episode really had, by the environment's own word."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def _on_step(self) -> bool:
        self.seen += [info["difficulty"] for info, done in zip(*self._ends(), strict=True) if done]
        return True

    def _ends(self) -> tuple[list[dict[str, Any]], np.ndarray]:
        return self.locals["infos"], self.locals["dones"]


def test_stages_by_episodes() -> None:
    curriculum = CurriculumCallback([Stage(0, min_episodes=3), Stage(1, min_episodes=2), Stage(2)])
    seen = Difficulties()
    dqn(corridors()).learn(60, callback=[curriculum, seen])
    # The first episode began before the curriculum, and one more is under way whenever a stage begins
    assert seen.seen == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert curriculum.stage == Stage(2)


def test_only_episodes_of_the_stage_count_in_every_environment() -> None:
    curriculum = CurriculumCallback([Stage(0, min_episodes=4), Stage(1, min_episodes=4), Stage(2)])
    seen = Difficulties()
    dqn(corridors(4)).learn(140, callback=[curriculum, seen])
    assert seen.seen == [0] * 12 + [1] * 8 + [2] * 8


def test_stages_by_success_rate() -> None:
    stages = [Stage(difficulty, min_episodes=2, success_rate=0.8) for difficulty in range(4)]
    curriculum = CurriculumCallback(stages)
    dqn(corridors()).learn(150, callback=curriculum)
    # Difficulty 2 never succeeds
    assert curriculum.stage_index == 2 and curriculum.success_rate == 0.0
    assert curriculum.episodes_in_stage > 10


def test_the_window_of_the_success_rate() -> None:
    outcomes = iter([False] * 4 + [True] * 100)
    stages = [Stage(0, success_rate=1.0), Stage(1)]
    curriculum = CurriculumCallback(stages, success_fn=lambda info: next(outcomes), window=3)
    seen = Difficulties()
    dqn(corridors()).learn(60, callback=[curriculum, seen])
    # One episode before it, four failures, three successes, and one episode under way
    assert seen.seen == [0] * 9 + [1] * 3


def test_the_curriculum_is_logged_with_every_dump() -> None:
    curriculum = CurriculumCallback([{"difficulty": 0, "min_episodes": 2}, {"difficulty": 1.5}])
    monitor = TrainingMonitor()
    dqn(corridors()).learn(50, callback=[curriculum, monitor], log_interval=1)
    assert monitor.scalar("curriculum/difficulty")[1].tolist() == [0, 0] + [1.5] * 9
    assert monitor.scalar("curriculum/stage")[1].tolist() == [0, 0] + [1] * 9
    assert monitor.scalar("curriculum/success_rate")[1].max() == 1.0


def three_stages() -> CurriculumCallback:
    return CurriculumCallback([Stage(0, min_episodes=2), Stage(1, min_episodes=4, success_rate=0.5), Stage(2)])


def test_a_saved_model_goes_on_in_its_stage(tmp_path: Path) -> None:
    model, first = dqn(corridors()), three_stages()
    model.learn(35, callback=first)
    assert (first.stage_index, first.episodes_in_stage) == (1, 3)
    position = vars(model)["curriculum"]
    assert json.loads(json.dumps(position)) == position
    model.save(tmp_path / "model")

    second, seen = three_stages(), Difficulties()
    loaded = DQN.load(tmp_path / "model", corridors())
    loaded.learn(1, callback=[second, seen], reset_num_timesteps=False)
    assert vars(loaded)["curriculum"] == position and second.success_rate == 1.0
    loaded.learn(24, callback=[second, seen], reset_num_timesteps=False)
    # One under the environment's own difficulty, which is the fourth of the stage, one under way, then the next stage
    assert seen.seen == [0, 1, 2, 2, 2] and second.stage == Stage(2)

    with pytest.raises(ValueError, match="the model is in stage 2, this curriculum has stages 0 to 0"):
        loaded.learn(5, callback=CurriculumCallback([Stage(0)]), reset_num_timesteps=False)


class Lessons(SavedWalk):
    """A corridor whose difficulty is the number of steps that an episode may take."""

    coming = 3

    def set_difficulty(self, difficulty: int) -> None:
        self.coming = difficulty

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.limit = self.coming
        return super().reset(**kwargs)

    def get_state(self) -> Any:
        return super().get_state(), self.limit, self.coming

    def set_state(self, state: Any) -> None:
        walk, self.limit, self.coming = state
        super().set_state(walk)


def test_a_checkpoint_goes_on_in_the_middle_of_a_stage(tmp_path: Path) -> None:
    def curriculum() -> CurriculumCallback:
        return CurriculumCallback([Stage(3, min_episodes=2), Stage(4, min_episodes=16), Stage(6)])

    def make() -> VecMonitor:
        return VecMonitor(DummyVecEnv([Lessons, Lessons]))

    whole, seen = tiny(make()), curriculum()
    whole.learn(80, callback=seen)
    assert seen.stage == Stage(6)

    stopped, half = tiny(make()), curriculum()
    stopped.learn(34, callback=half)
    assert half.stage_index == 1 and half.episodes_in_stage > 0
    resumed, rest = DREAM.load_checkpoint(stopped.save_checkpoint(tmp_path), make(), "cpu"), curriculum()
    resumed.learn(46, callback=rest, reset_num_timesteps=False)
    assert (rest.stage_index, rest.episodes_in_stage) == (seen.stage_index, seen.episodes_in_stage)
    kept = parameters(resumed)
    assert all(th.equal(kept[name], value) for name, value in parameters(whole).items())


def test_a_new_run_of_the_same_model_begins_with_the_first_stage() -> None:
    model, second = dqn(corridors()), three_stages()
    model.learn(35, callback=three_stages())
    model.learn(3, callback=second)  # before an episode ends
    assert second.stage == Stage(0, min_episodes=2) and vars(model)["curriculum"]["stage_index"] == 0


@pytest.mark.parametrize("vec_env_class", [DummyVecEnv, partial(SubprocVecEnv, start_method="fork")])
def test_an_environment_without_difficulty(vec_env_class: Callable[..., VecEnv]) -> None:
    env = VecMonitor(vec_env_class([lambda: gym.make("CartPole-v1")]))
    try:
        with pytest.raises(AttributeError, match="method set_difficulty"):
            dqn(env).learn(20, callback=CurriculumCallback([Stage(0), Stage(1)]))
    finally:
        env.close()


def test_difficulties_reach_worker_processes() -> None:
    env = VecMonitor(SubprocVecEnv([Corridor, Corridor], start_method="fork"))
    seen = Difficulties()
    try:
        dqn(env).learn(60, callback=[CurriculumCallback([Stage(0, min_episodes=2), Stage(1)]), seen])
    finally:
        env.close()
    assert seen.seen == [0] * 6 + [1] * 6


def test_a_success_rate_needs_a_success() -> None:
    curriculum = CurriculumCallback([Stage(0, success_rate=0.5), Stage(1)])
    with pytest.raises(RuntimeError, match="give CurriculumCallback a success_fn"):
        dqn(corridors(tells_success=False)).learn(20, callback=curriculum)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CurriculumCallback([]), "at least one Stage"),
        (lambda: CurriculumCallback([Stage(0)], window=0), "window must be at least 1"),
        (lambda: Stage(0, min_episodes=0), "min_episodes must be at least 1"),
        (lambda: Stage(0, success_rate=80), r"success_rate must lie in \[0, 1\]"),
    ],
)
def test_bad_arguments_of_the_curriculum(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
