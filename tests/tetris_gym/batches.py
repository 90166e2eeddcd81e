"""Batches of games: the native ones, and Gymnasium's and Stable-Baselines3's own to compare them with."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from tests.tetris_gym.games import ENV_IDS
from tetris_gym import TetrisVecEnv

COUNT = 8
SEED = 11
LIMIT = 45  # some episodes end by it, others before


def random_actions(mode: str, steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers({"direct": 8, "placement": 800}[mode], size=(steps, COUNT))


def native(mode: str, autoreset: AutoresetMode = AutoresetMode.NEXT_STEP, **kwargs: Any) -> VectorEnv:
    return gym.make_vec(
        ENV_IDS[mode],
        num_envs=COUNT,
        vectorization_mode="vector_entry_point",
        autoreset_mode=autoreset,
        max_episode_steps=LIMIT,
        **kwargs,
    )


def synchronous(mode: str, autoreset: AutoresetMode = AutoresetMode.NEXT_STEP, **kwargs: Any) -> SyncVectorEnv:
    envs = [lambda: gym.make(ENV_IDS[mode], max_episode_steps=LIMIT, **kwargs)] * COUNT
    return SyncVectorEnv(envs, autoreset_mode=autoreset)


def sb3_pair(mode: str, **kwargs: Any) -> tuple[TetrisVecEnv, VecEnv]:
    """A native one and one of single environments, both seeded."""
    ours = TetrisVecEnv(COUNT, action_mode=mode, max_episode_steps=LIMIT, **kwargs)
    theirs = make_vec_env(ENV_IDS[mode], COUNT, env_kwargs={"max_episode_steps": LIMIT, **kwargs})
    ours.seed(SEED)
    theirs.seed(SEED)
    return ours, theirs


def assert_same(one: Any, other: Any) -> None:
    """Deeply the same, types included."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and one.shape == other.shape
        if one.dtype == object:
            assert_same(one.tolist(), other.tolist())
        else:
            assert np.array_equal(one, other)
    else:
        assert one == other
