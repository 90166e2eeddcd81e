"""How many steps a second ``tetris_gym`` makes on one core, beside Tetris-Gymnasium where that is installed.

    taskset -c 0 python benchmarks/env_speed.py --json env_speed.json

Random actions, episodes begun anew as they end, the best of several repetitions. All times are CPU times of one
process with one thread, so that other work on the machine disturbs the figures less; on an idle machine they are the
times on the wall.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import tetris_gym
from tetris_gym.batch import GameBatch
from tetris_gym.settings import Settings

NUM_ENVS = 1024
NUM_ACTIONS = {"direct": 8, "placement": 800}
Run = Callable[[], tuple[int, float]]

FIRST_STEP = """
import time
import gymnasium, tetris_gym
env = gymnasium.make("{}")
env.reset(seed=0)
env.step(0)
print(time.process_time())
"""


@dataclass
class Result:
    """
    One line of the table.

    :param name: what was measured
    :param value: the figure
    :param unit: "steps/s", or "s" for starting up
    :param target: what the project wants at least (at most, for seconds), or None
    """

    name: str
    value: float = 0.0
    unit: str = "steps/s"
    target: float | None = None


def measure(runs: list[tuple[Result, Run]], repetitions: int) -> None:
    """
    Fill in the best steps per second of each run. Repetitions go round all runs, so that a slow moment of the machine
    does not fall on one of them alone.

    :param runs: each plays, and returns the number of steps and the seconds that they took
    :param repetitions: how often
    """
    for _, run in runs:
        run()
    for _ in range(repetitions):
        for result, run in runs:
            steps, seconds = run()
            result.value = max(result.value, steps / seconds)


def single(env: gym.Env[Any, Any], steps: int, num_actions: int) -> Run:
    """
    :param env: an environment
    :param steps: steps in a run
    :param num_actions: number of its actions
    :return: a run with one environment
    """
    actions = np.random.default_rng(0).integers(0, num_actions, steps).tolist()

    def run() -> tuple[int, float]:
        env.reset(seed=0)
        start = time.process_time()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return steps, time.process_time() - start

    return run


def single_masked(env: gym.Env[Any, Any], steps: int) -> Run:
    """
    :param env: an environment of placements
    :param steps: steps in a run
    :return: a run with one environment, random actions among those that its mask marks
    """
    chances = np.random.default_rng(0).random(steps).tolist()

    def run() -> tuple[int, float]:
        _, info = env.reset(seed=0)
        start = time.process_time()
        for chance in chances:
            allowed = info["action_mask"].nonzero()[0]
            _, _, terminated, truncated, info = env.step(int(allowed[int(chance * allowed.size)]))
            if terminated or truncated:
                _, info = env.reset()
        return steps, time.process_time() - start

    return run


def many(step: Callable[[Any], Any], steps: int, num_actions: int) -> Run:
    """
    :param step: steps all environments, and begins episodes anew
    :param steps: calls in a run
    :param num_actions: number of actions
    :return: a run with many environments
    """
    actions = np.random.default_rng(0).integers(0, num_actions, (steps, NUM_ENVS))

    def run() -> tuple[int, float]:
        start = time.process_time()
        for row in actions:
            step(row)
        return steps * NUM_ENVS, time.process_time() - start

    return run


def many_masked(batch: GameBatch, steps: int) -> Run:
    """
    :param batch: games of placements
    :param steps: calls in a run
    :return: a run with random actions among those that the masks mark; drawing them is not in the measured time
    """
    random = np.random.default_rng(0)

    def run() -> tuple[int, float]:
        seconds = 0.0
        for _ in range(steps):
            counts = batch.masks.sum(axis=1)
            chosen = np.cumsum(counts) - counts + (random.random(NUM_ENVS) * counts).astype(np.int64)
            actions = np.flatnonzero(batch.masks)[chosen] % NUM_ACTIONS["placement"]
            start = time.process_time()
            batch.step(actions)
            begin_anew(batch)
            seconds += time.process_time() - start
        return steps * NUM_ENVS, seconds

    return run


def begin_anew(batch: GameBatch) -> None:
    """
    :param batch: games, some of which may have ended
    """
    ended = np.flatnonzero(batch.terminated | batch.truncated)
    if ended.size > 0:
        batch.begin(ended)


def new_batch(action_mode: Any) -> GameBatch:
    """
    :param action_mode: "direct" or "placement"
    :return: games that have begun
    """
    batch = GameBatch(NUM_ENVS, Settings(action_mode), max_episode_steps=10_000)
    batch.reset(batch.everyone, list(range(NUM_ENVS)))
    return batch


def runs_of_tetris_gym(scale: float) -> list[tuple[Result, Run]]:
    """
    :param scale: of the number of steps
    :return: what is measured of this package
    """
    runs = []

    def add(name: str, run: Run, target: float | None = None) -> None:
        runs.append((Result(name, target=target), run))

    calls = max(1, round(200 * scale))
    steps = max(1, round(100_000 * scale))
    for env_id, action_mode in (("TetrisDirect-v0", "direct"), ("TetrisPlacement-v0", "placement")):
        direct = action_mode == "direct"
        num_actions = NUM_ACTIONS[action_mode]
        env = gym.make(env_id)
        if direct:
            add(f'gym.make("{env_id}")', single(env, steps, num_actions), 500_000)
        else:
            add(f'gym.make("{env_id}"), masked actions', single_masked(env, steps // 4))
        batch = new_batch(action_mode)
        if direct:

            def step(actions: Any, batch: GameBatch = batch) -> None:
                batch.step(actions)
                begin_anew(batch)

            add(f"{NUM_ENVS} games, one call, float32 observations", many(step, calls, num_actions), 7_000_000)
        else:
            add(f"{NUM_ENVS} games, one call, masks, masked actions", many_masked(batch, calls // 4), 1_000_000)
        envs = gym.make_vec(env_id, num_envs=NUM_ENVS, vectorization_mode="vector_entry_point")
        envs.reset(seed=0)
        add(f'gym.make_vec("{env_id}", {NUM_ENVS})', many(envs.step, calls // (1 if direct else 4), num_actions))
        vec_env = tetris_gym.TetrisVecEnv(NUM_ENVS, action_mode)
        vec_env.seed(0)
        vec_env.reset()
        run = many(vec_env.step, calls // (1 if direct else 4), num_actions)
        add(f'TetrisVecEnv({NUM_ENVS}, "{action_mode}"), infos', run, 2_500_000 if direct else None)
    return runs


def measure_start() -> list[Result]:
    """
    :return: seconds from the import to the first step, with nothing compiled and with all in the cache
    """
    results = []
    for env_id in ("TetrisDirect-v0", "TetrisPlacement-v0"):
        with tempfile.TemporaryDirectory() as cache:
            for state, target in (("nothing compiled", 8.0), ("cached", 1.5)):
                process = subprocess.run(
                    [sys.executable, "-c", FIRST_STEP.format(env_id)],
                    env={**os.environ, "NUMBA_CACHE_DIR": cache},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                results.append(Result(f"{env_id}, import to first step, {state}", float(process.stdout), "s", target))
    return results


def runs_of_tetris_gymnasium(scale: float) -> list[tuple[Result, Run]]:
    """
    :param scale: of the number of steps
    :return: what is measured of Tetris-Gymnasium, nothing where it is not installed
    """
    try:
        import tetris_gymnasium.envs.tetris  # noqa: F401  # registers the environment
    except ImportError:
        return []
    version = importlib.metadata.version("tetris-gymnasium")
    env = gym.make("tetris_gymnasium/Tetris")
    run = single(env, max(1, round(4_000 * scale)), int(env.action_space.n))  # type: ignore[attr-defined]
    return [(Result(f"Tetris-Gymnasium {version}, gym.make"), run)]


def processor() -> str:
    """
    :return: the processor's name
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description="Steps per second of tetris_gym on one core.")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--repetitions", type=int, default=5, help="of each measurement; the best counts")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument("--no-start", action="store_true", help="leave out the times to start up")
    arguments = parser.parse_args()
    ours, peers = runs_of_tetris_gym(arguments.scale), runs_of_tetris_gymnasium(arguments.scale)
    measure([*peers, *ours], arguments.repetitions)
    results = [result for result, _ in [*ours, *peers]]
    if peers:
        results.append(Result("gym.make over Tetris-Gymnasium", ours[0][0].value / peers[0][0].value, "x", 90))
    if not arguments.no_start:
        results += measure_start()
    for result in results:
        value = f"{result.value:,.2f}" if result.unit != "steps/s" else f"{result.value:,.0f}"
        target = "" if result.target is None else f"   (target {result.target:,})"
        print(f"{result.name:<56} {value:>12} {result.unit}{target}")
    if not peers:
        print("Tetris-Gymnasium is not installed: no comparison.")
    if arguments.json is not None:
        machine = {
            "processor": processor(),
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("numpy", "numba", "gymnasium", "stable-baselines3")},
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {"machine": machine, "results": [asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
