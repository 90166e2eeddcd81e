"""A curriculum: a lock that random keys never open, learned from shorter locks.

Run ``python examples/curriculum.py``.
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_dream import DREAM, CurriculumCallback, Stage

CODE = (2, 0, 3, 1, 1, 3)


class Lock(gym.Env):
    """A wrong digit ends the episode, the last right one opens the lock.

    :param digits: of the lock, at most 6
    """

    def __init__(self, digits: int = len(CODE)) -> None:
        self.observation_space = spaces.MultiDiscrete([len(CODE) + 1] * 2)  # digits entered, digits of the lock
        self.action_space = spaces.Discrete(4)
        self.set_difficulty(digits)

    def set_difficulty(self, difficulty: int) -> None:
        """What the callback calls. It takes effect at the next reset, so that no episode changes under way."""
        self.next_digits = difficulty

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.entered, self.digits = 0, self.next_digits
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        right = action == CODE[self.entered]
        self.entered += int(right)
        is_open = self.entered == self.digits
        return self._observe(), float(is_open), is_open or not right, False, {"is_success": is_open}

    def _observe(self) -> np.ndarray:
        return np.array((self.entered, self.digits))


def train(steps: int, callback: CurriculumCallback | None) -> float:
    """
    :return: how often the whole lock is opened afterwards
    """
    model = DREAM(
        Monitor(Lock()),
        learning_starts=200,
        model_warmup=100,
        sequence_length=8,
        imagination_horizon=6,
        policy_kwargs={"world_model_kwargs": {"width": 32, "depth": 2, "memory": 16}},
        device="cpu",
        seed=0,
    )
    model.learn(steps, callback)
    return float(evaluate_policy(model, Monitor(Lock()), n_eval_episodes=20)[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3_000, help="environment steps to train for, twice")
    steps = parser.parse_args().steps

    stages = [Stage(difficulty=digits, min_episodes=20, success_rate=0.7) for digits in range(1, len(CODE) + 1)]
    curriculum = CurriculumCallback(stages, window=20, verbose=1)
    with_curriculum = train(steps, curriculum)
    without = train(steps, None)
    print(f"opened with a curriculum: {with_curriculum:.0%}; without: {without:.0%}")
