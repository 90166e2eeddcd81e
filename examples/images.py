"""Images: DREAM learns to catch a ball from pixels, and shows what it dreams.

Run ``python examples/images.py``.
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_dream import DREAM
from sb3_dream.dream_env import DreamEnv

CELLS, PIXELS = 6, 3  # cells a side, pixels a cell
PADDLE = 2  # cells


class Catch(gym.Env):
    """A ball falls from a random place; the paddle below moves left, stays or moves right."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (CELLS * PIXELS, CELLS * PIXELS, 1), np.uint8)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.row, self.column = 0, int(self.np_random.integers(CELLS))
        self.paddle = int(self.np_random.integers(CELLS - PADDLE + 1))
        return self._picture(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.paddle = int(np.clip(self.paddle + action - 1, 0, CELLS - PADDLE))
        self.row += 1
        landed = self.row == CELLS - 1
        caught = landed and 0 <= self.column - self.paddle < PADDLE
        return self._picture(), float(caught), landed, False, {}

    def _picture(self) -> np.ndarray:
        cells = np.zeros((CELLS, CELLS, 1), np.uint8)
        cells[-1, self.paddle : self.paddle + PADDLE] = 128
        cells[self.row, self.column] = 255
        return cells.repeat(PIXELS, 0).repeat(PIXELS, 1)


def show(title: str, frames: list[np.ndarray]) -> None:
    """
    :param frames: pictures, each (rows, columns) of brightness 0 to 255
    """
    print(title)
    for row in range(0, CELLS * PIXELS, PIXELS):
        print("  ", " ".join("".join(" ░▒▓█"[round(p / 64)] for p in frame[row, ::PIXELS]) for frame in frames))


def compare_dream_with_reality(model: DREAM, env: gym.Env) -> None:
    """Play a game; beside it, dream one that begins with the same picture and has the same moves."""
    picture, _ = env.reset(seed=3)
    dream = DreamEnv(model, start_observations=picture.transpose(2, 0, 1)[None])  # channels first
    dream.reset(seed=3)
    state, landed, real, dreamt = None, False, [], []
    while not landed:
        action, state = model.predict(picture, state, deterministic=True)
        picture, _, landed, _, _ = env.step(action)
        real.append(picture[..., 0])
        dreamt.append(dream.step(action)[0][0])
    show("\nwhat happened:", real)
    show("what the world model dreamt after the first picture:", dreamt)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3_000, help="environment steps to train for")
    steps = parser.parse_args().steps

    env = Monitor(Catch())
    model = DREAM(
        "CnnPolicy",
        env,
        learning_rate=3e-3,
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        learning_starts=500,
        model_warmup=200,
        ent_coef=0.03,
        sequence_length=6,
        imagination_horizon=5,
        policy_kwargs={
            "world_model_kwargs": {"memory": 64, "blocks": 1, "groups": 8, "classes": 8, "hidden": 64, "channels": 8}
        },
        device="cpu",
        seed=0,
    )
    before, _ = evaluate_policy(model, env, n_eval_episodes=50)
    model.learn(steps)
    after, _ = evaluate_policy(model, env, n_eval_episodes=50)
    print(f"{before:.0%} of the balls caught before the training, {after:.0%} after {model.num_timesteps} steps")
    compare_dream_with_reality(model, env)
