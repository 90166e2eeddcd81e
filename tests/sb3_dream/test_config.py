"""The configuration: what it holds, its files, its presets, and what it says of mistakes."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from sb3_dream.config import DREAMConfig
from sb3_dream.dream import DREAM
from sb3_dream.policies import DreamPolicy
from sb3_dream.world_models import CompactWorldModel
from tetris_gym import TetrisEnv

OBJECTS = {"env", "action_noise", "replay_buffer_class", "policy_kwargs", "_init_setup_model"}
"""Arguments of DREAM that no file can hold, or that the config has in parts."""


class Board(gym.Env[np.ndarray, np.int64]):
    """212 bits that never change, and as many actions as asked for."""

    observation_space = spaces.Box(0.0, 1.0, (212,), np.float32)

    def __init__(self, n_actions: int = 8) -> None:
        self.action_space = spaces.Discrete(n_actions)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(212, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        return np.zeros(212, np.float32), float(action == 0), self.steps == 10, False, {}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_holds_every_argument_of_dream() -> None:
    arguments = inspect.signature(DREAM).parameters
    held = {item.name: item.default for item in fields(DREAMConfig)}
    assert set(arguments) - OBJECTS <= set(held)
    assert all(held[name] == arguments[name].default for name in set(arguments) - OBJECTS - {"policy"})


def test_guide_counts_in_the_padded_game() -> None:
    model = DREAMConfig.guide().make(TetrisEnv(pad_to=212))
    assert count(model.policy.world_model) == 65_478
    assert count(model.policy.actor_critic) == 188_682
    assert model.policy.world_model.feature_layout.size == 212
    assert model.policy.action_spec.vector_size == 8


def test_guide_trains_as_it_says() -> None:
    model = DREAMConfig.guide().make(Board())
    rates = [group["lr"] for group in model.policy.actor_critic_optimizer.param_groups]
    assert [model.policy.world_model_optimizer.param_groups[0]["lr"], *rates] == [1e-3, 3e-4, 1e-3]
    assert (model.gamma, model.gae_lambda, model.imagination_horizon) == (0.99, 0.95, 15)
    assert (model.sequence_length, model.batch_size, model.replay_buffer.total_size) == (20, 32, 50_000)
    assert (model.train_freq.frequency, model.gradient_steps, model.train_ratio) == (4, 1, None)
    assert (model.model_warmup, model.policy_delay, model.n_epochs, model.n_minibatches) == (0, 1, 1, 1)
    assert (model.tau, model.target_update_interval) == (1.0, 1000)
    soft = DREAMConfig.guide(target_update="soft")
    assert soft.tau < 0.1 and soft.target_update_interval == 1


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_guide_sizes_build_and_train(cell: Any, size: Any) -> None:
    config = replace(
        DREAMConfig.guide(cell=cell, size=size), learning_starts=15, batch_size=2, sequence_length=4, buffer_size=100
    )
    model = config.make(Board())
    layers, units, width = (1, 16, 256) if size == "small" else (2, 400, 800)
    assert model.policy.world_model.memory_size == layers * units * (2 if cell == "lstm" else 1)
    assert count(model.policy.actor_critic.actor_trunk) == 212 * width + width + 2 * (width * width + width)
    before = th.nn.utils.parameters_to_vector(model.policy.parameters()).detach().clone()
    model.learn(16)
    assert model._n_updates == 1
    assert not th.equal(th.nn.utils.parameters_to_vector(model.policy.parameters()), before)


@pytest.mark.parametrize("world_model", ["recurrent", "rssm"])
@pytest.mark.parametrize(("name", "size"), [("300k", 0.3e6), ("1m", 1e6), ("3m", 3e6), ("12m", 12e6)])
def test_presets_have_their_size(name: str, size: float, world_model: Any) -> None:
    config = DREAMConfig.preset(name, world_model)
    policy = DreamPolicy(
        spaces.Box(0.0, 1.0, (212,), np.float32),
        spaces.Discrete(8),
        lambda _: 1e-3,
        world_model=config.world_model,
        world_model_kwargs=config.world_model_kwargs,
        actor_critic_kwargs=config.actor_critic_kwargs,
    )
    assert count(policy.world_model) + count(policy.actor_critic) == pytest.approx(size, rel=0.1)
    assert replace(config, world_model=None, world_model_kwargs={}, actor_critic_kwargs={}) == DREAMConfig()


def test_the_guide_is_the_smallest_preset() -> None:
    assert DREAMConfig.preset("guide") == DREAMConfig.guide()


def test_default_configs_have_the_actions_of_their_mode() -> None:
    assert DREAMConfig.get_default_config() == replace(DREAMConfig(), n_actions=8)
    placement = DREAMConfig.get_default_config(action_mode="placement")
    assert placement.make(Board(800)).policy.action_spec.vector_size == 800
    with pytest.raises(ValueError, match="800 discrete actions, the environment has Discrete"):
        placement.make(Board(8))
    with pytest.raises(ValueError, match="212 observation values, the environment has 206"):
        DREAMConfig.guide().make("TetrisDirect-v0")
    with pytest.raises(ValueError, match="'direct', 'placement', not 'both'"):
        DREAMConfig.get_default_config("both")  # type: ignore[arg-type]


def test_environment_speaks_where_the_config_is_silent() -> None:
    model = DREAMConfig(buffer_size=100).make("TetrisDirect-v0")
    assert model.policy.observation_layout == model.env.get_attr("observation_layout")[0]
    assert model.policy.mask_size == 8
    model = DREAMConfig(buffer_size=100, observation_layout={"binary": True}).make("TetrisDirect-v0")
    assert model.policy.observation_layout == {"binary": True}


def test_arguments_beside_the_config_go_before_it() -> None:
    model = DREAMConfig(policy="MlpPolicy", gamma=0.9, world_model="compact").make(
        Board(), gamma=0.8, policy_kwargs={"world_model_kwargs": {"width": 32}}
    )
    assert model.gamma == 0.8
    assert isinstance(model.policy.world_model, CompactWorldModel)
    assert model.policy.world_model.encoder[0].out_features == 32


def test_subclasses_are_made() -> None:
    class Mine(DREAM):
        pass

    assert type(Mine.from_config(DREAMConfig(buffer_size=100), Board(), gamma=0.5)) is Mine


CONFIGS = [
    DREAMConfig(),
    DREAMConfig.guide(cell="lstm", size="large"),
    DREAMConfig.preset("12m", "rssm"),
    DREAMConfig(train_freq=(2, "episode"), learning_rate="lin_1e-3", use_masking=True, seed=3, tensorboard_log="logs"),
    DREAMConfig(observation_layout={"binary": True, "grids": [{"start": 0, "rows": 2, "columns": 3}]}),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_files_give_back_the_same(config: DREAMConfig, tmp_path: Path) -> None:
    path = tmp_path / "made" / "config.yml"
    text = config.to_yaml(path)
    assert path.read_text() == text
    assert DREAMConfig.from_yaml(path) == config
    assert DREAMConfig.from_dict(config.to_dict()) == config


def test_yaml_takes_what_people_write(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("learning_rate: 1e-3\nbuffer_size: 1e5\ntrain_freq: [1, episode]\ntrain_ratio: 64\nseed: null\n")
    config = DREAMConfig.from_yaml(path)
    assert config == DREAMConfig(learning_rate=0.001, buffer_size=100_000, train_freq=(1, "episode"), train_ratio=64.0)
    assert isinstance(config.buffer_size, int) and isinstance(config.train_ratio, float)


def test_linear_schedules() -> None:
    model = DREAMConfig(learning_rate="lin_2e-3", buffer_size=100).make(Board())
    assert isinstance(model.learning_rate, LinearSchedule)
    assert [model.lr_schedule(progress) for progress in (1.0, 0.5, 0.0)] == pytest.approx([2e-3, 1e-3, 0.0])
    with pytest.raises(ValueError, match="'lin_3e-4', not 'cosine_1'"):
        DREAMConfig(actor_learning_rate="cosine_1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rte: 1", r"mine.yml.*'learning_rte' \(did you mean 'learning_rate'\?\); allowed: n_actions"),
        ("gamma: high", "gamma must be of type float, not 'high'"),
        ("batch_size: 16.5", "batch_size must be of type int, not 16.5"),
        ("verbose: true", "verbose must be of type int, not True"),
        ("train_freq: [1, 2, 3]", "train_freq must be of type"),
        ("use_masking: sometimes", "use_masking must be of type"),
        ("world_model: transformer", "'transformer'; allowed: recurrent, rssm, compact"),
        ("world_model: rssm\nworld_model_kwargs: {wdith: 3}", r"'wdith' \(did you mean 'width'\?\); allowed: memory"),
        ("world_model: recurrent\nworld_model_kwargs: {groups: 3}", "'groups'; allowed: width, depth"),
        ("actor_critic_kwargs: {bins: 3}", "'bins'; allowed: width"),
        ("world_model_kwargs: {width: 3}", "need a world_model"),
        ("- 1\n- 2", "must hold a mapping"),
        ("gamma: [", "is not a YAML file"),
    ],
)
def test_mistakes_in_files(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        DREAMConfig.from_yaml(path)


def test_mistakes_in_code() -> None:
    config = DREAMConfig()
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        config.learning_rat = 1e-3  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="batch_size must be of type int"):
        config.batch_size = "many"  # type: ignore[assignment]
    config.world_model = CompactWorldModel
    config.check()
    with pytest.raises(ValueError, match=r"world_model=.*cannot be written to a file"):
        config.to_yaml()
    for arguments in ({"name": "2m"}, {"name": "1m", "world_model": "compact"}):
        with pytest.raises(ValueError, match=r"'1m'|'rssm'"):
            DREAMConfig.preset(**arguments)
    with pytest.raises(ValueError, match="'small' or 'large'"):
        DREAMConfig.guide(size="huge")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'hard' or 'soft'"):
        DREAMConfig.guide(target_update="never")  # type: ignore[arg-type]
