"""Stopping and going on: the resumed run is the run itself, bit for bit.

It is exact on a CPU, for environments that can save their state, as those of ``tetris_gym`` can.

Run ``python examples/resuming.py``.
"""

import argparse
from pathlib import Path

import gymnasium as gym
import torch as th

from sb3_dream import DREAM

FOLDER = Path("runs/examples/resuming")


def new_model() -> DREAM:
    networks = {
        "world_model_kwargs": {"width": 16, "depth": 2, "memory": 8},
        "actor_critic_kwargs": {"net_arch": [32]},
    }
    updates = {"learning_starts": 100, "train_ratio": 8, "model_warmup": 5, "policy_delay": 1, "imagination_starts": 32}
    return DREAM("TetrisDirect-v0", **updates, policy_kwargs=networks, device="cpu", seed=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000, help="environment steps before the stop, and after it")
    steps = parser.parse_args().steps

    th.set_num_threads(1)  # always the same number: with another, sums are rounded otherwise

    whole = new_model()
    whole.learn(2 * steps)
    print(f"A  {whole.num_timesteps} steps at a stretch")

    stopped = new_model()
    stopped.learn(steps)
    stopped.save_checkpoint(FOLDER)
    print(f"B  {stopped.num_timesteps} steps, then saved to {FOLDER}")

    # This is all that another process has to do, tomorrow or on another machine.
    resumed = DREAM.load_checkpoint(FOLDER, env=gym.make("tetris_gym:TetrisDirect-v0"), device="cpu")
    resumed.learn(steps, reset_num_timesteps=False)
    print(f"B  {resumed.num_timesteps} steps, the second half resumed")

    a, b = whole.policy.state_dict(), resumed.policy.state_dict()
    same = sum(th.equal(a[name], b[name]) for name in a)
    print(f"{same} of {len(a)} tensors of A and B are equal, bit for bit")
