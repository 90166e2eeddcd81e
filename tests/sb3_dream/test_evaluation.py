"""Whole episodes, counters and masks, against environments whose every answer is known."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from sb3_dream.evaluation import RandomPlayer, evaluate, with_masks
from sb3_dream.player import Player


class Countdown(gym.Env):
    """Three steps long; only one action, which changes with the steps, is allowed, and only it is rewarded."""

    observation_space = spaces.Box(0.0, 3.0, (1,))
    action_space = spaces.Discrete(3)

    def reset(self, **keywords: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(**keywords)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def action_masks(self) -> np.ndarray:
        return np.arange(3) == self.steps

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = float(self.action_masks()[action])
        self.steps += 1
        info = {"right": reward, "name": "countdown", "steps": self.steps}
        return np.full(1, self.steps, np.float32), reward, self.steps == 3, False, info


class MaskReader:
    """Takes the only allowed action; remembers how often it was asked since the episode's start, like an LSTM."""

    def __init__(self) -> None:
        self.memories: list[list[float]] = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        memory = np.zeros(len(np.atleast_2d(observation))) if state is None else state[0]
        memory = np.where(episode_start, 0, memory) + 1
        self.memories.append(memory.tolist())
        return np.atleast_2d(action_masks).argmax(-1).reshape(np.shape(observation)[:-1]), (memory,)


def make_env(n_envs: int) -> VecMonitor:
    return VecMonitor(DummyVecEnv([Countdown] * n_envs))


@pytest.mark.parametrize("n_envs", [1, 3])
def test_masks_and_memory_reach_the_model(n_envs: int) -> None:
    reader = MaskReader()
    games = evaluate(reader, make_env(n_envs), 6)
    assert games.returns == [3.0] * 6
    assert games.lengths == [3] * 6
    assert [memory[0] for memory in reader.memories[:6]] == [1, 2, 3, 1, 2, 3]


def test_counters_are_the_numbers_of_the_last_info() -> None:
    games = evaluate(MaskReader(), make_env(2), 4)
    assert games.counters == {"right": [1.0] * 4, "steps": [3.0] * 4}


def test_a_player_without_masks_is_left_as_it_is() -> None:
    player = RandomPlayer(Countdown.action_space, seed=0)
    assert with_masks(player, make_env(1)) is player


def test_a_random_player_is_random_and_repeatable() -> None:
    env = make_env(3)
    first = evaluate(RandomPlayer(env.action_space, seed=4), env, 60).returns
    again = evaluate(RandomPlayer(env.action_space, seed=4), env, 60).returns
    assert first == again
    assert 0.6 < np.mean(first) < 1.4  # three steps, one of three actions right


def test_a_player_of_one_environment_gets_masks_and_forgets_at_the_start() -> None:
    env = Countdown()
    reader = MaskReader()
    player = Player(reader, gym.wrappers.OrderEnforcing(env))
    for _ in range(2):
        observation, _ = player._env.reset()
        player.reset()
        for step in range(3):
            action = player(observation)
            assert action == step
            observation, *_ = player._env.step(int(action))
    assert [memory[0] for memory in reader.memories] == [1, 2, 3, 1, 2, 3]
