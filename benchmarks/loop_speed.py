"""Where the time of ``DREAM(...).learn()`` goes, and how many steps and updates it makes a second.

    python benchmarks/loop_speed.py --json loop_speed.json
    python benchmarks/loop_speed.py --env CartPole-v1 --threads 2 --set train_ratio=8 n_epochs=1
    python -m benchmarks.loop_speed --env CartPole-v1 --envs 8 --delay 20 --set train_ratio=32 overlap_updates=True

A step costs the same before and after the model's warm-up, so that is left out. Where other work disturbs the machine,
the CPU times are the ones to trust; with one thread, on an idle machine, wall times are the same. ``--delay`` makes
each environment one that takes so many milliseconds more for a step, as a robot does, in a process of its own, whose
CPU time is not counted.
"""

from __future__ import annotations

import argparse
import ast
import json
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, SupportsFloat
from unittest.mock import patch

import gymnasium as gym
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_dream.dream import DREAM
from sb3_dream.environments import ensure_registered

#: Name of a phase -> the method of the model, or of its environments, that is the phase.
PHASES = {"acting": "_sample_action", "environment": "step_wait", "storing": "_store_transition", "updates": "train"}


@dataclass
class Result:
    """
    What was measured of one number of environments.

    :param n_envs: environments
    :param steps: of all of them
    :param updates: of the world model
    :param wall: seconds that all took
    :param cpu: seconds of CPU that all took, of all threads
    :param phases: seconds of CPU, by phase; ``"rest"`` is the loop itself with its callbacks
    """

    n_envs: int
    steps: int
    updates: int
    wall: float
    cpu: float
    phases: dict[str, float]


class Slow(gym.Wrapper):
    """
    An environment that takes its time.

    :param env: any
    :param seconds: more than it needs for each step
    """

    def __init__(self, env: gym.Env, seconds: float) -> None:
        super().__init__(env)
        self.seconds = seconds

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """See the environment."""
        time.sleep(self.seconds)
        return self.env.step(action)


def measure(env_id: str, n_envs: int, steps: int, delay: float = 0.0, **arguments: Any) -> Result:
    """
    :param env_id: Gymnasium's id
    :param n_envs: environments at once
    :param steps: to measure
    :param delay: seconds that each step takes longer, in processes of the environments' own; 0 for none of them
    :param arguments: of ``DREAM``
    """
    ensure_registered(env_id)
    arguments = {"learning_starts": 200, "model_warmup": 0, "seed": 0} | arguments
    slow: dict[str, Any] = {"wrapper_class": Slow, "wrapper_kwargs": {"seconds": delay}, "vec_env_cls": SubprocVecEnv}
    model = DREAM(make_vec_env(env_id, n_envs, seed=0, **(slow if delay else {})), **arguments)
    assert model.env is not None
    model.learn(model.learning_starts + 100)
    begun, updates, seconds = model.num_timesteps, model._n_updates, dict.fromkeys(PHASES, 0.0)

    def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            since = time.process_time()
            result = function(*args, **kwargs)
            seconds[phase] += time.process_time() - since
            return result

        return run

    with ExitStack() as stack:
        for phase, method in PHASES.items():
            owner: Any = model.env if phase == "environment" else model
            stack.enter_context(patch.object(owner, method, timed(phase, getattr(owner, method))))
        wall, cpu = time.perf_counter(), time.process_time()
        model.learn(steps, reset_num_timesteps=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    seconds["rest"] = cpu - sum(seconds.values())
    model.env.close()
    return Result(n_envs, model.num_timesteps - begun, model._n_updates - updates, wall, cpu, seconds)


def table(results: list[Result]) -> str:
    """
    :return: the results, a line each, for people
    """
    names = list(results[0].phases)
    lines = [f"{'envs':>4}{'ms/step':>9}{'ms/update':>11}{'steps/s':>9}{'updates/s':>11}"]
    lines[0] += "".join(f"{name:>13}" for name in names) + f"{'wall/CPU':>10}"
    for result in results:
        line = f"{result.n_envs:>4}{1_000 * result.cpu / result.steps:>9.2f}"
        line += f"{1_000 * result.phases['updates'] / max(result.updates, 1):>11.1f}"
        line += f"{result.steps / result.wall:>9.0f}{result.updates / result.wall:>11.1f}"
        line += "".join(f"{result.phases[name] / result.cpu:>13.1%}" for name in names)
        lines.append(f"{line}{result.wall / result.cpu:>10.2f}")
    return "\n".join(lines)


def setting(text: str) -> tuple[str, Any]:
    """
    :param text: ``name=value``, the value in Python's notation
    :return: both
    """
    name, _, value = text.partition("=")
    return name, ast.literal_eval(value)


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description="Where the time of DREAM's learn() goes.")
    parser.add_argument("--env", default="TetrisDirect-v0", help="Gymnasium's id")
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 8], help="numbers of environments at once")
    parser.add_argument("--steps", type=int, default=1_000, help="to measure, after the warm-up")
    parser.add_argument("--threads", type=int, default=1, help="that PyTorch may use")
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds that each step takes longer")
    parser.add_argument("--set", type=setting, nargs="+", default=[], metavar="NAME=VALUE", help="arguments of DREAM")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    th.set_num_threads(arguments.threads)
    told = dict(arguments.set)
    results = [measure(arguments.env, n, arguments.steps, arguments.delay / 1_000, **told) for n in arguments.envs]
    print(table(results))
    if arguments.json is not None:
        machine = {"processor": platform.processor() or platform.machine(), "threads": arguments.threads}
        figures = {"machine": machine, "torch": th.__version__, "results": [asdict(result) for result in results]}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
