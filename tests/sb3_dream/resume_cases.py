"""Runs to stop and to resume. As a program: resume all that lie in a folder, each from its files alone."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from sb3_dream.dream import DREAM
from tests.sb3_dream.tiny import NETWORKS, RSSM, SavedMaskedWalk, SavedWalk, parameters, tiny, vectorized

FIRST, SECOND = 34, 22  # neither is where an episode ends or an update is due


class GlobalWalk(SavedWalk):
    """Draws from the global streams of Python, NumPy and PyTorch."""

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        luck = random.random() + np.random.rand() + float(th.rand(()))
        return super().step(int(action) if luck < 2 else 1 - int(action))


class PartsWalk(SavedWalk):
    """With a dictionary of observations."""

    def __init__(self) -> None:
        super().__init__(slip=0.3)
        numbers = spaces.Box(-1.0, 9.0, (2,), np.float32)
        self.observation_space = spaces.Dict(cell=self.observation_space, numbers=numbers)  # type: ignore[assignment]

    def _look(self) -> Any:
        return {"cell": super()._look(), "numbers": np.array([self.cell, self.steps / self.limit], np.float32)}


class FloatWalk(SavedWalk):
    """With numbers to normalise and, if asked for, a force as the action."""

    def __init__(self, force: bool = False) -> None:
        super().__init__(slip=0.3)
        self.observation_space = spaces.Box(-1.0, 9.0, (2,), np.float32)
        self.force = force
        if force:
            self.action_space = spaces.Box(-1.0, 2.0, (1,), np.float32)

    def _look(self) -> np.ndarray:
        return np.array([self.cell, self.steps / self.limit], np.float32)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return super().step(action[0] > 0.5 if self.force else action)


def bare() -> VecEnv:
    return DummyVecEnv([FloatWalk, FloatWalk])


def parts() -> VecEnv:
    return VecNormalize(vectorized(PartsWalk, 2), norm_obs_keys=["numbers"])


def processes() -> VecEnv:
    return SubprocVecEnv([lambda: Monitor(SavedWalk(slip=0.3))] * 2)


def tetris() -> VecEnv:
    from tetris_gym import TetrisVecEnv

    return TetrisVecEnv(2, max_episode_steps=15)


def tetris_apart() -> VecEnv:
    import tetris_gym  # noqa: F401

    return vectorized(lambda: gym.make("TetrisDirect-v0", max_episode_steps=15), 2)


@dataclass
class Case:
    """
    :param make: the environments
    :param arguments: of ``DREAM``
    :param one_run: whether ``learn(a)``, ``learn(b)`` must equal ``learn(a + b)``
    """

    make: Callable[[], VecEnv]
    arguments: dict[str, Any] = field(default_factory=dict)
    one_run: bool = True

    def start(self) -> DREAM:
        return tiny(self.make(), **self.arguments)


CASES = {
    "walk": Case(
        lambda: vectorized(partial(SavedWalk, slip=0.3), 2),
        {"epsilon_start": 0.5, "epsilon_decay": 50, "model_warmup": 2, "policy_delay": 2, "reward_batch_size": 2},
    ),
    "global streams": Case(lambda: vectorized(GlobalWalk, 1)),
    "time limit": Case(lambda: vectorized(lambda: TimeLimit(SavedWalk(cells=50, start=25, limit=1_000), 9), 2)),
    "schedule": Case(
        lambda: vectorized(partial(SavedWalk, slip=0.3), 2), {"learning_rate": LinearSchedule(1e-2, 1e-3, 1.0)}, False
    ),
    "normalised": Case(lambda: VecNormalize(VecMonitor(VecFrameStack(bare(), 2)), gamma=0.9)),
    "noise": Case(
        lambda: vectorized(partial(FloatWalk, force=True), 2),
        {"action_noise": NormalActionNoise(np.zeros(1), np.ones(1))},
    ),
    "correlated noise": Case(
        lambda: vectorized(partial(FloatWalk, force=True), 1),
        {"action_noise": OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1))},
    ),
    "rssm": Case(
        lambda: vectorized(partial(SavedWalk, slip=0.3), 2),
        {"policy_kwargs": {**NETWORKS, "world_model": "rssm", "world_model_kwargs": RSSM}},
    ),
    "dreams": Case(lambda: vectorized(partial(SavedWalk, slip=0.3), 2), {"dream_length": 100, "initial_fraction": 0.5}),
    "novelty": Case(lambda: vectorized(partial(SavedWalk, slip=0.3), 2), {"novelty_coef": 0.1}),
    "masks": Case(lambda: vectorized(partial(SavedMaskedWalk, slip=0.3), 2)),
    "dictionary": Case(
        parts, {"policy_kwargs": {**NETWORKS, "world_model": "rssm", "world_model_kwargs": RSSM}, "dream_length": 8}
    ),
    "processes": Case(processes),
    "overlap": Case(processes, {"overlap_updates": True}),
    "episodes": Case(
        lambda: vectorized(partial(SavedWalk, slip=0.3), 1),
        {"train_freq": (2, "episode"), "train_ratio": None, "gradient_steps": 2},
        one_run=False,  # learn() always plays an episode to its end
    ),
    "tetris": Case(tetris),
    "tetris apart": Case(tetris_apart),
}


def finish(model: DREAM) -> dict[str, Any]:
    """All that a run leaves behind, as tensors and numbers."""
    rows = model.replay_buffer.sample_sequences(30, 6)
    left = {f"replay/{name}": value for name, value in rows._asdict().items() if isinstance(value, th.Tensor)}
    left |= {"owed": th.tensor(model._owed_updates), "updates": th.tensor(model._n_updates)}
    left |= {"steps": th.tensor(model.num_timesteps), "episodes": th.tensor(model._episode_num)}
    assert model.ep_info_buffer is not None
    left |= {"returns": th.tensor([info["r"] for info in model.ep_info_buffer])}
    return parameters(model) | left


if __name__ == "__main__":
    th.set_num_threads(1)
    for folder in Path(sys.argv[1]).iterdir():
        case = CASES[folder.name]
        random.seed(0), np.random.seed(0), th.manual_seed(0)
        resumed = DREAM.load(folder / "model", case.make(), device="cpu")
        resumed.load_replay_buffer(folder / "replay")
        resumed.learn(SECOND, reset_num_timesteps=False)
        th.save(finish(resumed), folder / "left.pt")
