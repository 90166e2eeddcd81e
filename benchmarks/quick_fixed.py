"""Whether fewer imagined rollouts and bins learn as much from as many updates: ``fixed, quick`` beside ``fixed``.

``python -m benchmarks.quick_fixed`` trains both configurations of ``benchmarks/update_configs.py`` on CartPole, with
the same replayed sequences for each step, and writes a file a run into ``benchmarks/results/quick_fixed/``. What was
measured is not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.update_configs import CONFIGS
from sb3_dream import DREAM
from sb3_dream.evaluation import GAMES_SEED, evaluate
from sb3_dream.runs import versions

RESULTS = Path(__file__).parent / "results" / "quick_fixed"
ENV = "CartPole-v1"
RUNS = ("fixed", "fixed, quick")
POINTS = 10


def measure(name: str, seed: int, steps: int, games: int) -> dict[str, Any]:
    """
    :param name: of the configuration
    :param seed: of the training
    :param steps: of the environment; an update is made for every fourth
    :param games: to play at each point
    :return: the games at even intervals of steps, with the seconds of training so far, the versions and the machine
    """
    config = replace(CONFIGS[name], observation_layout=None, train_ratio=256.0)
    model, played = DREAM.from_config(config, ENV, seed=seed, device="cpu"), make_vec_env(ENV, games)
    points, seconds = [], 0.0
    for number in range(1, POINTS + 1):
        start = time.perf_counter()
        model.learn(steps // POINTS, log_interval=None, reset_num_timesteps=False)
        seconds += time.perf_counter() - start
        played.seed(GAMES_SEED)
        found = evaluate(model, played, games)
        points.append({"steps": steps * number // POINTS, "seconds": seconds, "games": found.as_dict()})
        print(f"{name}, seed {seed}, {points[-1]['steps']} steps: {np.mean(found.returns):.1f}", flush=True)
    return {"run": name, "seed": seed, "updates": model._n_updates, "versions": versions(), "points": points}


def measured() -> list[dict[str, Any]]:
    """
    :return: what the files hold
    """
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]


def table() -> str:
    """
    :return: Markdown, a row for each configuration that was measured
    """
    rows = [
        "| configuration | steps | updates | return of each seed, over all measurements | training, s |",
        "|---" * 5 + "|",
    ]
    for name in RUNS:
        runs = [run for run in measured() if run["run"] == name]
        if runs:
            means = ", ".join(f"{np.mean([point['games']['returns'] for point in run['points']]):.0f}" for run in runs)
            last = runs[0]["points"][-1]
            seconds = ", ".join(f"{run['points'][-1]['seconds']:,.0f}" for run in runs)
            rows.append(f"| `{name}` | {last['steps']:,} | {runs[0]['updates']:,} | {means} | {seconds} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=4_000, help="default: %(default)s")
    known = parser.parse_args()
    th.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in known.seeds:
        for name in known.only:
            file = RESULTS / f"{name.replace(', ', '-')}-{seed}.json"
            if not file.is_file():
                file.write_text(json.dumps(measure(name, seed, known.steps, 20), indent=1) + "\n")
    print(table())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
