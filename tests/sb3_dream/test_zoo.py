"""RL Zoo's tables, and the hyperparameter files against the algorithms that they are for."""

import importlib
import inspect
from pathlib import Path

import gymnasium as gym
import optuna
import pytest
import yaml
from rl_zoo3 import hyperparams_opt
from rl_zoo3.utils import ALGOS
from sb3_contrib import MaskablePPO

from sb3_dream import DREAM, zoo
from sb3_dream.errors import CommandError

zoo.register()

CONFIGS = sorted((Path(__file__).parents[2] / "zoo_configs").glob("*.yml"))
TETRIS = ("TetrisDirect-v0", "TetrisDirectLines-v0", "TetrisPlacement-v0", "TetrisPlacementLines-v0")
CONTROL = ("CartPole-v1", "Acrobot-v1", "LunarLander-v3")
for module in ("dmc", "memory"):
    importlib.import_module(f"benchmarks.{module}")  # registers environments that have an entry
#: What RL Zoo takes out of an entry before it builds the algorithm.
ZOO_KEYS = {"n_envs", "n_timesteps", "normalize", "monitor_kwargs", "frame_stack", "env_wrapper", "callback"}


def entries() -> list[tuple[str, str]]:
    return [(path.stem, key) for path in CONFIGS for key in yaml.safe_load(path.read_text())]


def test_the_zoo_has_what_it_lacked() -> None:
    assert ALGOS["dream"] is DREAM
    assert ALGOS["ppo_mask"] is MaskablePPO
    for table in (hyperparams_opt.HYPERPARAMS_SAMPLER, hyperparams_opt.HYPERPARAMS_CONVERTER):
        assert {"dream", "ppo_mask"} <= set(table)


def test_importing_the_zoo_changes_no_environment() -> None:
    env = gym.make("CartPole-v1", max_episode_steps=1)
    assert type(env).__module__.startswith("gymnasium.")
    env.reset(seed=0)
    *_, truncated, info = env.step(0)
    assert truncated and not info


def test_there_is_a_file_for_each_algorithm_that_we_compare() -> None:
    assert {path.stem for path in CONFIGS} == {"dream", "ppo", "ppo_lstm", "ppo_mask", "dqn", "qrdqn", "a2c", "trpo"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_file_has_each_task(path: Path) -> None:
    found = set(yaml.safe_load(path.read_text()))
    assert set(TETRIS) <= found
    if path.stem != "ppo_mask":  # needs masks, which the others lack
        assert set(CONTROL) <= found
        assert ("Pendulum-v1" in found) == (path.stem not in ("dqn", "qrdqn"))


@pytest.mark.parametrize(("algo", "key"), entries())
def test_each_entry_has_only_what_the_algorithm_takes(algo: str, key: str) -> None:
    entry = zoo.read_entry(zoo.config_file(algo, key), key)
    assert entry["n_timesteps"] > 0
    known = set(inspect.signature(ALGOS[algo]).parameters) | ZOO_KEYS
    assert set(entry) <= known
    assert key == "default" or key in gym.registry


def test_our_file_is_used_where_it_has_the_task_and_else_the_zoos() -> None:
    assert zoo.config_file("ppo", "CartPole-v1").parent.name == "zoo_configs"
    assert zoo.config_file("ppo", "MountainCar-v0").parent.name == "hyperparams"
    assert zoo.config_file("dream", "MountainCar-v0").parent.name == "zoo_configs"
    with pytest.raises(CommandError, match="no hyperparameters for her"):
        zoo.config_file("her_", "MountainCar-v0")


def test_quick_and_long_settings_are_found_from_anywhere_and_take_what_dream_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = zoo.quick_config_file("TetrisDirect-v0")
    assert zoo.find_config("quick/dream.yml") == quick
    assert zoo.quick_config_file("CartPole-v1") == zoo.config_file("dream", "CartPole-v1") != quick
    for path in (quick, zoo.find_config("long/dream.yml")):
        for key, entry in zoo.read_config(path).items():
            assert entry["n_timesteps"] > 0 and key in gym.registry
            assert set(entry) <= set(inspect.signature(DREAM).parameters) | ZOO_KEYS
    nearer = tmp_path / "quick" / "dream.yml"
    nearer.parent.mkdir()
    nearer.write_text("{}")
    assert zoo.find_config("quick/dream.yml") == Path("quick/dream.yml")


def test_the_search_space_of_dream_gives_what_dream_takes() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        sampled = zoo.sample_dream(trial, 1, 1, {})
        assert sampled == hyperparams_opt.HYPERPARAMS_CONVERTER["dream"](trial.params)
        assert set(sampled) <= set(inspect.signature(DREAM).parameters)
        assert 0.9 < sampled["gamma"] < 1


def test_the_tasks_with_lines_only_have_that_reward() -> None:
    for env_id in ("TetrisDirectLines-v0", "TetrisPlacementLines-v0"):
        env = gym.make(env_id)
        env.reset(seed=0)
        rewards = {env.step(env.action_space.sample())[1] for _ in range(5)}
        assert rewards == {0.0}
