"""Deployment: a trained model plays without its environment's code and without any training code.

``DREAMAgent`` remembers by itself what it has seen; tell it when an episode begins.

Run ``python examples/deployment.py``, or with a model of your own, ``--model my_model.zip``.
"""

import argparse
import time
from pathlib import Path

import gymnasium as gym

from sb3_dream import DREAMAgent

FILE = Path("runs/examples/deployment.zip")


def train(steps: int) -> Path:
    """A model to deploy, where there is none yet."""
    from sb3_dream import DREAM

    small = {"world_model_kwargs": {"width": 16, "depth": 2, "memory": 8}}
    model = DREAM("TetrisDirect-v0", learning_starts=500, model_warmup=20, policy_kwargs=small, device="cpu", seed=0)
    model.learn(steps)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    model.save(FILE)
    return FILE


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model of TetrisDirect-v0; without one, a hasty one is trained first")
    parser.add_argument("--steps", type=int, default=2_000, help="environment steps to train the hasty one for")
    arguments = parser.parse_args()

    agent = DREAMAgent(arguments.model or train(arguments.steps), device="cpu")

    env = gym.make("tetris_gym:TetrisDirect-v0", render_mode="ansi")
    observation, info = env.reset(seed=0)
    agent.reset()
    over, actions, seconds = False, 0, 0.0
    while not over:
        mask = env.get_wrapper_attr("action_masks")()
        started = time.perf_counter()
        action = agent.get_action(observation, mask, deterministic=False)
        seconds += time.perf_counter() - started
        observation, reward, terminated, truncated, info = env.step(action)
        over, actions = terminated or truncated, actions + 1

    print(env.render())
    print(f"{info['pieces_placed']} pieces, {info['total_lines']} lines, {1e3 * seconds / actions:.1f} ms an action")
