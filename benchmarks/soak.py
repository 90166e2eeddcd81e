"""A long training with a tiny model: memory stays flat, no file stays open, nothing becomes NaN.

Run ``python benchmarks/soak.py`` for a million environment steps, ``--steps`` for fewer. It saves checkpoints,
evaluates and logs on the way as long trainings do, prints what it measures, and exits with 1 if anything grew or broke.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.logger import configure

from sb3_dream import DREAM, CheckpointCallback
from tetris_gym import TetrisVecEnv

STEPS = 1_000_000
SAMPLES = 40
WARM_UP = 0.4  # share of the samples before memory has to be flat: the replay is full by then
GROWTH = 0.03  # of the memory after the warm-up, at most


@dataclass
class Sample:
    """
    :param steps: environment steps so far
    :param megabytes: resident memory of the process
    :param files: open file descriptors
    :param rate: environment steps a second since the last sample
    """

    steps: int
    megabytes: float
    files: int
    rate: float


class Watch(BaseCallback):
    """
    Takes samples, and stops a run in which a parameter is not finite any more.

    :param every: environment steps between two samples
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.samples: list[Sample] = []
        self._process = psutil.Process()
        self._last = (0, time.monotonic())

    def _on_rollout_start(self) -> None:
        steps, began = self._last
        if self.num_timesteps - steps < self.every:
            return
        gc.collect()
        now = time.monotonic()
        rate = (self.num_timesteps - steps) / (now - began)
        memory = self._process.memory_info().rss / 1e6
        self.samples.append(Sample(self.num_timesteps, memory, self._process.num_fds(), rate))
        self._last = self.num_timesteps, now
        print("{0.steps:>10,} steps {0.megabytes:8.1f} MB {0.files:4} files {0.rate:8.0f}/s".format(self.samples[-1]))
        sys.stdout.flush()

    def _on_step(self) -> bool:
        return True


def soak(steps: int, folder: Path, samples: int = SAMPLES) -> tuple[DREAM, list[Sample]]:
    """
    :param steps: environment steps
    :param folder: for logs and checkpoints
    :param samples: how many to take
    :return: the trained model and the samples
    """
    model = DREAM(
        TetrisVecEnv(32),
        policy_kwargs={
            "world_model": "compact",
            "world_model_kwargs": {"width": 32, "memory": 16},
            "actor_critic_kwargs": {"net_arch": [32]},
        },
        buffer_size=steps // 5,
        learning_starts=steps // 100,
        train_ratio=1,
        batch_size=16,
        sequence_length=16,
        imagination_starts=32,
        imagination_horizon=8,
        seed=0,
        device="cpu",
    )
    model.set_logger(configure(str(folder), ["csv", "tensorboard"]))
    watch = Watch(steps // samples)
    games = TetrisVecEnv(2, max_episode_steps=200)
    evaluation = EvalCallback(games, n_eval_episodes=2, eval_freq=max(1, steps // 32 // 10), verbose=0)
    saves = CheckpointCallback(folder / "checkpoints", save_freq=max(32, steps // 20), keep=2)
    model.learn(steps, callback=CallbackList([evaluation, saves, watch]))
    return model, watch.samples


def problems(model: DREAM, samples: list[Sample]) -> list[str]:
    """
    :param model: the trained model
    :param samples: what was measured on the way
    :return: what is wrong
    """
    found = []
    broken = [name for name, value in model.policy.state_dict().items() if not th.isfinite(value).all()]
    if broken:
        found.append(f"not finite: {', '.join(broken)}")
    flat = samples[int(WARM_UP * len(samples)) :]
    half = len(flat) // 2
    before, after = (float(np.median([each.megabytes for each in part])) for part in (flat[:half], flat[half:]))
    if after > (1 + GROWTH) * before:
        found.append(f"memory grew from {before:.0f} to {after:.0f} MB after the warm-up")
    files = [max(each.files for each in part) for part in (flat[:half], flat[half:])]
    if files[1] > files[0]:
        found.append(f"open files grew from {files[0]} to {files[1]}")
    return found


def main() -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="environment steps (default: %(default)s)")
    steps = parser.parse_args().steps
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model, samples = soak(steps, Path(folder))
    found = problems(model, samples)
    minutes = (time.monotonic() - began) / 60
    said = "; ".join(found) or "flat"
    print(f"{model.num_timesteps:,} steps, {model._n_updates:,} updates, {minutes:.1f} minutes: {said}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
