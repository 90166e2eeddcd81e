"""Long runs: a training that must not grow or break, and the game engine beside a slow second implementation.

``python -m benchmarks.soak`` from a clone runs both, or those that are named: ``training``, a million environment steps
of training, with thousands of updates, of a model that is small enough for one core (about a quarter of an hour), and
``engine``, ten million random steps of Tetris and some of better players (about three quarters of an hour). The
training saves checkpoints, evaluates and logs on the way, as long trainings do. What was measured is printed and
written into ``benchmarks/results/soak/``; the exit status is 1 if anything grew, broke or differed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.logger import configure

from benchmarks.env_speed import processor
from sb3_dream import DREAM, CheckpointCallback
from tests.tetris_gym.players import MaskedPlayer, Player, RandomPlayer, Spinner, Stacker
from tests.tetris_gym.side_by_side import PLAYERS, Comparison, compare, variations
from tetris_gym import TetrisVecEnv

RESULTS = Path(__file__).parent / "results" / "soak"
STEPS = {"training": 1_000_000, "engine": 10_000_000}
SAMPLES = 40
WARM_UP = 0.4  # share of the samples before memory has to be flat: the replay is full by then
GROWTH = 0.03  # of the memory after the warm-up, at most
GAMES: tuple[tuple[str, tuple[type[Player], ...], float], ...] = (  # mode, players, share of the steps
    ("direct", (RandomPlayer, MaskedPlayer), 1.0),
    ("direct", (Stacker, Spinner), 0.05),
    ("placement", PLAYERS, 0.02),
)
BLOCK = 1_000  # steps with the same settings of the game


@dataclass
class Sample:
    """
    :param steps: environment steps so far
    :param updates: updates so far
    :param megabytes: resident memory of the process
    :param files: open file descriptors
    :param rate: environment steps a second since the last sample
    :param broken: names of parameters that are NaN or infinite
    """

    steps: int
    updates: int
    megabytes: float
    files: int
    rate: float
    broken: list[str]


class Watch(BaseCallback):
    """
    Takes samples.

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
        assert isinstance(self.model, DREAM)
        sample = Sample(
            self.num_timesteps,
            self.model._n_updates,
            round(self._process.memory_info().rss / 1e6, 1),
            self._process.num_fds(),
            round((self.num_timesteps - steps) / (now - began), 1),
            not_finite(self.model),
        )
        self.samples.append(sample)
        self._last = self.num_timesteps, now
        done = f"{sample.steps:>10,} steps {sample.updates:>7,} updates"
        print(f"{done} {sample.megabytes:8.1f} MB {sample.files:4} files {sample.rate:8.0f}/s", flush=True)

    def _on_step(self) -> bool:
        return True


def not_finite(model: DREAM) -> list[str]:
    """
    :param model: any
    :return: names of its parameters and statistics that are NaN or infinite
    """
    return [name for name, value in model.policy.state_dict().items() if not th.isfinite(value).all()]


def train(steps: int, folder: Path, samples: int = SAMPLES) -> tuple[DREAM, list[Sample]]:
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
        train_ratio=4,
        policy_delay=4,
        batch_size=16,
        sequence_length=16,
        imagination_starts=32,
        imagination_horizon=8,
        dream_length=64,
        initial_fraction=0.25,
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


def problems(samples: list[Sample]) -> list[str]:
    """
    :param samples: what was measured on the way
    :return: what is wrong
    """
    broken = sorted({name for each in samples for name in each.broken})
    found = [f"not finite: {', '.join(broken)}"] if broken else []
    flat = samples[int(WARM_UP * len(samples)) :]
    half = len(flat) // 2
    before, after = (float(np.median([each.megabytes for each in part])) for part in (flat[:half], flat[half:]))
    if after > (1 + GROWTH) * before:
        found.append(f"memory grew from {before:.0f} to {after:.0f} MB after the warm-up")
    files = [max(each.files for each in part) for part in (flat[:half], flat[half:])]
    if files[1] > files[0]:
        found.append(f"open files grew from {files[0]} to {files[1]}")
    return found


def soak_training(steps: int) -> dict[str, Any]:
    """
    :param steps: environment steps
    :return: what was measured, and under "problems" what is wrong
    """
    with tempfile.TemporaryDirectory() as folder:
        model, samples = train(steps, Path(folder))
    measured = [asdict(each) for each in samples]
    about = {"steps": model.num_timesteps, "updates": model._n_updates, "episodes": model._episode_num}
    return about | {"problems": problems(samples), "samples": measured}


def play(mode: str, players: tuple[type[Player], ...], steps: int, seed: int = 0) -> Comparison:
    """
    :param mode: "direct" or "placement"
    :param players: who choose the actions
    :param steps: of the environment and of the reference, at least
    :param seed: of everything random
    :return: what has been compared
    :raises AssertionError: at the first difference, with the settings of the game
    """
    total, said = Comparison(), 0
    settings = (each for each in variations(mode, seed) if type(each["player"]) in players)
    for arguments in islice(settings, -(-steps // BLOCK)):
        try:
            total += compare(steps=BLOCK, **arguments)
        except Exception as error:
            error.add_note(f"This happened after {total.steps:,} steps, with {arguments}.")
            raise
        if total.steps >= said + steps // 20:
            said = total.steps
            print(f"{mode}, {total.steps:>10,} steps are the same", flush=True)
    return total


def soak_engine(steps: int) -> dict[str, Any]:
    """
    :param steps: by random players, in primitive actions; the others play a share of that
    :return: what was compared
    :raises AssertionError: at the first difference
    """
    parts = []
    for mode, players, share in GAMES:
        total = play(mode, players, round(share * steps))
        about = {"mode": mode, "players": [player.__name__ for player in players], "steps": total.steps}
        parts.append(about | {"events": dict(sorted(total.events.items()))})
    return {"steps": sum(part["steps"] for part in parts), "problems": [], "games": parts}


def machine() -> dict[str, Any]:
    """:return: what the figures depend on"""
    names = ("torch", "numpy", "numba", "gymnasium", "stable-baselines3", "sb3-dream")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": th.get_num_threads(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: of the command line; None for those of the process
    :return: the exit status
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*STEPS, []], metavar="training|engine", help="default: both")
    parser.add_argument("--steps", type=int, help=f"default: {STEPS['training']:,} and {STEPS['engine']:,}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures (default: %(default)s)")
    args = parser.parse_args(arguments)
    th.set_num_threads(1)
    failed = False
    for part in args.parts or STEPS:
        steps = args.steps or STEPS[part]
        began, used = time.monotonic(), time.process_time()
        found = {"training": soak_training, "engine": soak_engine}[part](steps)
        seconds = {"seconds": round(time.monotonic() - began), "processor_seconds": round(time.process_time() - used)}
        command = f"python -m benchmarks.soak {part} --steps {steps}"
        args.results.mkdir(parents=True, exist_ok=True)
        (args.results / f"{part}-{steps}.json").write_text(
            json.dumps({"command": command, "machine": machine()} | seconds | found, indent=1) + "\n"
        )
        said = "; ".join(found["problems"]) or "nothing grew, broke or differed"
        print(f"{part}: {found['steps']:,} steps in {seconds['seconds'] / 60:.1f} minutes: {said}", flush=True)
        failed |= bool(found["problems"])
    return failed


if __name__ == "__main__":
    sys.exit(main())
