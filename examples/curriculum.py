"""A curriculum: a lock that random keys never open. Lessons begin with one digit to enter, and end with all of them.

Starting near the goal and then ever further away is reverse curriculum learning (Florensa et al. 2017).

Run ``python examples/curriculum.py``.
"""

import argparse
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_dream import DREAM, CurriculumCallback, Stage

CODE = (2, 0, 3, 1, 1, 3)


class Lock(gym.Env):
    """A wrong digit ends the episode, the last right one opens the lock. Observed is how many were right so far."""

    def __init__(self) -> None:
        self.observation_space = spaces.Discrete(len(CODE) + 1)
        self.action_space = spaces.Discrete(4)
        self.set_difficulty(len(CODE))

    def set_difficulty(self, difficulty: int) -> None:
        """What the callback calls, with the number of digits to enter. It holds from the next episode on."""
        self.to_enter = difficulty

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.entered = len(CODE) - self.to_enter
        return self.entered, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        right = bool(action == CODE[self.entered])
        self.entered += right
        is_open = self.entered == len(CODE)
        return self.entered, float(is_open), is_open or not right, False, {"is_success": is_open}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2_500, help="environment steps to train for")
    steps = parser.parse_args().steps

    stages = [Stage(difficulty=digits, min_episodes=20, success_rate=0.6) for digits in range(1, len(CODE) + 1)]
    curriculum = CurriculumCallback(stages, window=20, verbose=1)

    model = DREAM(
        Monitor(Lock()),
        learning_starts=200,
        model_warmup=100,
        policy_delay=2,
        sequence_length=8,
        imagination_horizon=6,
        ent_coef=0.1,
        policy_kwargs={"world_model_kwargs": {"width": 32, "depth": 2, "memory": 16}},
        device="cpu",
        seed=0,
    )
    model.learn(steps, curriculum)
    opened, _ = evaluate_policy(model, Monitor(Lock()), n_eval_episodes=20)
    print(f"{opened:.0%} of the locks opened; random keys open one in {4 ** len(CODE):,}")
