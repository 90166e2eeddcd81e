"""The agent for deployment: the same actions as the model's, memory kept, wrong files refused."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_dream.agent import DREAMAgent
from sb3_dream.dream import DREAM
from sb3_dream.model_files import load_policy
from sb3_dream.policies import DreamPolicy
from sb3_dream.world_models import CompactWorldModel

SMALL = {"world_model_kwargs": {"width": 16, "depth": 1, "memory": 8}, "actor_critic_kwargs": {"net_arch": (16,)}}


class Steps(gym.Env[Any, Any]):
    """Random observations of a space; where there are masks, the first action is never allowed."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


class MaskedSteps(Steps):
    def action_masks(self) -> np.ndarray:
        return np.arange(self.action_space.n) > 0  # type: ignore[attr-defined]


class MyWorldModel(CompactWorldModel):
    """A world model of one's own."""


SPACES = {
    "vector": (spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.Box(-2.0, 5.0, (2,), np.float32)),
    "discrete": (spaces.Discrete(4, start=2), spaces.Discrete(3, start=1)),
    "bits": (spaces.MultiBinary(5), spaces.MultiDiscrete([2, 3])),
    "image": (spaces.Box(0, 255, (3, 8, 8), np.uint8), spaces.Discrete(2)),
    "dict": (spaces.Dict({"place": spaces.Discrete(4), "speed": spaces.Box(-1.0, 1.0, (2,))}), spaces.MultiBinary(2)),
}


def saved(path: Path, env: gym.Env[Any, Any] | None = None, **kwargs: Any) -> DREAM:
    model = DREAM(env or Steps(*SPACES["vector"]), buffer_size=100, **{"policy_kwargs": SMALL, **kwargs})
    model.save(path)
    return model


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> tuple[DREAM, Path]:
    path = tmp_path_factory.mktemp("masked") / "model.zip"
    return saved(path, MaskedSteps(spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(4))), path


def parts(observations: list[Any]) -> Any:
    """Observations side by side."""
    if isinstance(observations[0], dict):
        return {key: np.stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)


@pytest.mark.parametrize("kind", SPACES)
def test_acts_like_the_model(kind: str, tmp_path: Path) -> None:
    """Over a few steps with memory, for one game and for three."""
    kwargs = {"world_model_kwargs": {"memory": 16, "hidden": 8, "width": 8}} if kind in ("image", "dict") else SMALL
    observation_space, action_space = SPACES[kind]
    for space in SPACES[kind]:
        space.seed(0)
        space.sample()  # so that the file holds their random generators, too
    model = saved(tmp_path / "model", Steps(observation_space, action_space), policy_kwargs=kwargs)
    agent = DREAMAgent(tmp_path / "model")
    assert agent.observation_space == observation_space and agent.action_space == action_space
    for games in (None, 3):
        agent.reset()
        state = None
        for _ in range(4):
            observation = parts([observation_space.sample() for _ in range(3)]) if games else observation_space.sample()
            expected, state = model.predict(observation, state, deterministic=True)
            action = agent.get_action(observation)
            np.testing.assert_array_equal(action, expected)
            assert all(action_space.contains(each) for each in (action if games else [action]))


def test_remembers_until_it_is_reset(masked: tuple[DREAM, Path]) -> None:
    agent = DREAMAgent(masked[1])
    policy = agent.policy
    observation = np.ones((2, 3), np.float32)

    def memories() -> np.ndarray:
        assert agent._state is not None
        return agent._state[0]

    agent.get_action(observation)
    first = memories()
    agent.get_action(observation)
    assert not np.allclose(memories(), first)
    agent.reset(np.array([True, False]))
    assert (memories()[0] == 0).all() and (memories()[1] != 0).any()
    agent.get_action(observation)
    np.testing.assert_allclose(memories()[0], first[0], atol=1e-6)
    assert not np.allclose(memories()[1], first[1])
    agent.reset()
    agent.get_action(observation[0])
    np.testing.assert_allclose(memories(), first[:1], atol=1e-6)
    with pytest.raises(ValueError, match=r"3 observations after 1 .*reset"):
        agent.get_action(np.ones((3, 3), np.float32))
    with pytest.raises(ValueError, match=r"each of 1 games, got shape \(2,\)"):
        agent.reset(np.array([True, False]))
    assert not any(parameter.requires_grad for parameter in policy.parameters())


def test_masks_are_obeyed(masked: tuple[DREAM, Path]) -> None:
    agent = DREAMAgent(masked[1])
    for allowed in range(4):
        agent.reset()
        mask = np.arange(4) == allowed
        assert agent.get_action(np.zeros(3, np.float32), mask) == allowed
        assert agent.get_action(np.zeros(3, np.float32), mask, deterministic=False) == allowed
    agent.reset()
    batch = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(agent.get_action(batch, np.eye(4, dtype=bool)[[2, 1]]), [2, 1])
    with pytest.raises(ValueError, match=r"shape \(2, 4\), got \(4,\)"):
        agent.get_action(batch, np.ones(4, bool))
    with pytest.raises(ValueError, match="allows no action"):
        agent.get_action(batch, np.zeros((2, 4), bool))


def test_sampled_actions_vary(masked: tuple[DREAM, Path]) -> None:
    agent = DREAMAgent(masked[1])
    th.manual_seed(0)
    batch = np.zeros((200, 3), np.float32)
    mask = np.ones((200, 4), bool)
    assert len(set(agent.get_action(batch, mask, deterministic=False).tolist())) == 4
    agent.reset()
    assert len(set(agent.get_action(batch, mask).tolist())) == 1


def test_masks_need_a_model_that_knows_them(tmp_path: Path) -> None:
    saved(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="trained without action masks"):
        DREAMAgent(tmp_path / "model.zip").get_action(np.zeros(3, np.float32), np.ones(2, bool))


def test_deploys_without_the_training_code(masked: tuple[DREAM, Path]) -> None:
    script = (
        "import sys; import numpy as np; from sb3_dream.agent import DREAMAgent; agent = DREAMAgent(sys.argv[1]); "
        "print(int(agent.get_action(np.zeros(3, np.float32)))); "
        "print(*(name for name in sys.modules if name.startswith(('sb3_dream', 'tetris_gym'))))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(masked[1])], capture_output=True, text=True, env=environment, check=True
    )
    action, modules = done.stdout.splitlines()
    assert int(action) == masked[0].predict(np.zeros(3, np.float32), deterministic=True)[0]
    training = {"dream", "replay", "resume", "behaviour", "dreams", "callbacks", "config", "zoo"}
    assert not {f"sb3_dream.{name}" for name in training} & set(modules.split())
    assert "tetris_gym" not in modules


# ----------------------------------------------------------------- wrong files


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no saved model .*agent or .*agent\.zip"):
        DREAMAgent(tmp_path / "agent")


def test_damaged_files(masked: tuple[DREAM, Path], tmp_path: Path) -> None:
    whole = masked[1].read_bytes()
    middle = whole.index(b"policy.pth") + 4_000
    broken = {
        "empty": b"",
        "text": b"hello",
        "truncated": whole[: len(whole) // 2],
        "flipped": whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 64]) + whole[middle + 64 :],
    }
    for name, content in broken.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.zip is not a saved DREAM model, or it is damaged"):
            DREAMAgent(path)


def test_foreign_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match=r"not a saved DREAM model.*'data'"):
        DREAMAgent(tmp_path / "other.zip")
    PPO("MlpPolicy", DummyVecEnv([lambda: Steps(*SPACES["vector"])]), n_steps=8, batch_size=8).save(tmp_path / "ppo")
    with pytest.raises(ValueError, match=r"not a saved DREAM model.*another program wrote it"):
        DREAMAgent(tmp_path / "ppo")


def edited(source: Path, target: Path, **settings: Any) -> Path:
    """A model file with other settings."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                content = json.dumps(json.loads(content) | settings).encode()
            new.writestr(name, content)
    return target


def pickled(value: Any) -> dict[str, str]:
    return {":type:": "", ":serialized:": base64.b64encode(cloudpickle.dumps(value)).decode()}


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_file_is_not_run(masked: tuple[DREAM, Path], tmp_path: Path) -> None:
    fuse = tmp_path / "fuse"
    path = edited(masked[1], tmp_path / "bomb.zip", observation_space=pickled(Bomb(fuse)))
    with pytest.raises(ValueError, match=r"bomb.zip holds .*observation_space \(\S*Path.touch.*trust=True"):
        DREAMAgent(path)
    assert not fuse.exists()


def test_other_policies_are_refused(masked: tuple[DREAM, Path], tmp_path: Path) -> None:
    path = edited(masked[1], tmp_path / "edited.zip", policy_class=pickled(PPO.policy_aliases["MlpPolicy"]))
    with pytest.raises(ValueError, match=r"policy_class \(stable_baselines3\S*ActorCriticPolicy\)"):
        DREAMAgent(path)
    with pytest.raises(ValueError, match="model of another algorithm"):
        DREAMAgent(path, trust=True)


def test_settings_that_do_not_fit_the_weights(masked: tuple[DREAM, Path], tmp_path: Path) -> None:
    larger = {**SMALL, "actor_critic_kwargs": {"net_arch": [32]}}
    with pytest.raises(ValueError, match="do not fit this version: RuntimeError"):
        DREAMAgent(edited(masked[1], tmp_path / "larger.zip", _sizes=larger))
    with pytest.raises(ValueError, match="do not fit this version: TypeError"):
        DREAMAgent(edited(masked[1], tmp_path / "unknown.zip", policy_kwargs={"colour": 1}))


def test_own_world_models_need_trust(tmp_path: Path) -> None:
    model = saved(tmp_path / "own.zip", policy_kwargs={"world_model": MyWorldModel})
    with pytest.raises(ValueError, match=r"policy_kwargs \(\S*MyWorldModel\)"):
        DREAMAgent(tmp_path / "own.zip")
    policy = load_policy(tmp_path / "own.zip", trust=True)
    assert isinstance(policy, DreamPolicy) and isinstance(policy.world_model, MyWorldModel)
    observation = np.ones(3, np.float32)
    np.testing.assert_array_equal(
        policy.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    saved(tmp_path / "named.zip", policy_kwargs={"world_model": CompactWorldModel, "optimizer_class": th.optim.AdamW})
    assert isinstance(load_policy(tmp_path / "named.zip").world_model, CompactWorldModel)
