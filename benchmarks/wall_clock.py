"""What algorithms learn of ``TetrisDirect-v0`` in the time that PPO takes for 3,000,000 steps.

``python -m benchmarks.wall_clock`` trains what is missing by ``python -m sb3_dream train``, one after another on a
machine that should have nothing else to do, plays 100 games with each agent, and writes a file a run into
``benchmarks/results/wall_clock/``. Steps are chosen so that each takes about as long as PPO; the table has the seconds
of the whole command. ``--only`` chooses.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from rl_zoo3.utils import ALGOS

from benchmarks import planning
from sb3_dream import zoo
from sb3_dream.evaluation import evaluate
from sb3_dream.runs import versions
from tetris_gym import TetrisVecEnv

RESULTS = Path(__file__).parent / "results" / "wall_clock"
ENV = "TetrisDirect-v0"
#: What ``train`` is told of each algorithm. Small networks gain nothing from a second thread, but in DREAM.
RUNS = {
    "ppo": "-n 3000000 --num-threads 1",
    "ppo_mask": "-n 1500000 --num-threads 1",
    "a2c": "-n 2300000 --num-threads 1",
    "dqn": "-n 300000 --num-threads 1",
    "qrdqn": "-n 200000 --num-threads 1",
    "dream": "-conf quick/dream.yml",
}


def measure(algo: str, seed: int, folder: Path, told: str | None = None, games: int = 100) -> list[dict[str, Any]]:
    """
    :param algo: one of :data:`RUNS`
    :param seed: of the training
    :param folder: of the agent
    :param told: what ``train`` is told instead
    :param games: to play, with the most likely actions; DREAM plays them once more with planning
    :return: what was played, the seconds of the training, the versions and the machine; an entry for each way to play
    :raises subprocess.CalledProcessError: if the training fails
    """
    command = f"-m sb3_dream train --algo {algo} --env {ENV} --seed {seed} --eval-freq -1 -f {folder}"
    told = RUNS[algo] if told is None else told
    start = time.perf_counter()
    subprocess.run([sys.executable, *command.split(), *told.split()], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    model = max((folder / algo).glob(f"{ENV}_*/{ENV}.zip"), key=os.path.getmtime)
    about = {"algo": algo, "seed": seed, "settings": told, "training_seconds": seconds, "cores": os.cpu_count()}
    if algo == "dream":
        return [planning.measure(model, samples, 12, games, min(games, 50)) | about for samples in (0, 16)]
    agent = ALGOS[algo].load(model, device="cpu")
    env = TetrisVecEnv(min(games, 50))
    env.seed(10_000)
    played = evaluate(agent, env, games).as_dict()
    return [{"steps": agent.num_timesteps, "samples": 0, "versions": versions(), **played} | about]


def table() -> str:
    """
    :return: Markdown, a row for each algorithm that was measured, and way to play
    """
    rows = ["| algorithm | steps | training, s | actions | lines a game of each seed | return |", "|---" * 6 + "|"]
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    for algo, samples in ((algo, samples) for algo in RUNS for samples in (0, 16)):
        runs = [run for run in found if (run["algo"], run["samples"]) == (algo, samples)]
        if runs:
            seconds = ", ".join(f"{run['training_seconds']:.0f}" for run in runs)
            lines = ", ".join(planning.with_error(run["counters"]["total_lines"]) for run in runs)
            returns = ", ".join(f"{np.mean(run['returns']):.1f}" for run in runs)
            actions = "planning" if samples else "most likely"
            rows.append(f"| {algo} | {runs[0]['steps']:,} | {seconds} | {actions} | {lines} | {returns} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="ALGORITHM")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("runs/wall_clock"), help="of the agents")
    known = parser.parse_args()
    zoo.register()
    th.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in known.seeds:
        for algo in known.only:
            if not (RESULTS / f"{algo}-{seed}-0.json").is_file():
                for found in measure(algo, seed, known.folder):
                    file = RESULTS / f"{algo}-{seed}-{found['samples']}.json"
                    file.write_text(json.dumps(found, indent=1) + "\n")
    print(table())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
