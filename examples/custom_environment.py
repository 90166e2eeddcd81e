"""An environment of one's own, and one that takes memory.

A lamp shows left or right for a moment. Then the agent walks down a dark corridor, and where it forks has to turn as
the lamp said. Whoever cannot remember is right half of the time; DREAM's world model remembers.

Run ``python examples/custom_environment.py``.
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_dream import DREAM

LEFT, RIGHT = 0, 1


class LampCorridor(gym.Env):
    """
    Observations are three bits: the lamp on the left, the lamp on the right, the fork.

    :param length: steps from the lamps to the fork
    """

    def __init__(self, length: int = 5) -> None:
        self.observation_space = spaces.MultiBinary(3)
        self.action_space = spaces.Discrete(2)
        self.length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.position = 0
        self.lamp = int(self.np_random.integers(2))
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.position < self.length:
            self.position += 1
            return self._observe(), 0.0, False, False, {}
        reward = 1.0 if action == self.lamp else -1.0
        return np.zeros(3, dtype=np.int8), reward, True, False, {}

    def _observe(self) -> np.ndarray:
        lit = self.position == 0
        bits = (lit and self.lamp == LEFT, lit and self.lamp == RIGHT, self.position == self.length)
        return np.array(bits, dtype=np.int8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3_000, help="environment steps to train for")
    steps = parser.parse_args().steps

    env = Monitor(LampCorridor())
    check_env(env)

    model = DREAM(
        env,
        learning_rate=3e-3,
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        learning_starts=500,
        model_warmup=50,
        policy_delay=4,
        sequence_length=8,
        imagination_horizon=8,
        policy_kwargs={"world_model_kwargs": {"width": 32, "depth": 2, "memory": 16}},
        device="cpu",
        seed=0,
    )

    def right_turns(episodes: int = 100) -> str:
        reward, _ = evaluate_policy(model, env, n_eval_episodes=episodes)
        return f"{(1 + reward) / 2:.0%}"

    print(f"untrained: {right_turns()} right turns")
    model.learn(steps)
    print(f"trained:   {right_turns()} right turns after {model.num_timesteps} steps")
