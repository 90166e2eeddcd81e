"""What algorithms learn of ``TetrisDirect-v0`` in the time of some 4,000,000 of PPO's steps, or more.

``python -m benchmarks.wall_clock`` trains what is missing by ``python -m sb3_dream train``, one after another on a
machine that should have nothing else to do, plays 100 games with each agent, and writes a file a run into
``benchmarks/results/wall_clock/``. Steps are chosen so that each takes about as long as PPO, but for the long ones;
the table has the seconds of the whole command. ``--only`` chooses.
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
from stable_baselines3.common.monitor import load_results

from benchmarks import planning
from sb3_dream import zoo
from sb3_dream.evaluation import evaluate
from sb3_dream.runs import versions
from tetris_gym import TetrisVecEnv

RESULTS = Path(__file__).parent / "results" / "wall_clock"
ENV = "TetrisDirect-v0"
LINES = "total_lines"
#: The algorithm, and what else ``train`` is told. DREAM takes both cores, where PPO would make 1.5 times as many steps.
RUNS = {
    "ppo": ("ppo", "-n 3000000 --num-threads 1"),
    "ppo-longer": ("ppo", "-n 4000000 --num-threads 1"),
    "ppo_mask": ("ppo_mask", "-n 3000000 --num-threads 1"),
    "ppo_lstm": ("ppo_lstm", "-n 220000 --num-threads 1"),
    "a2c": ("a2c", "-n 5000000 --num-threads 1"),
    "dqn": ("dqn", "-n 450000 --num-threads 1"),
    "qrdqn": ("qrdqn", "-n 270000 --num-threads 1"),
    "dream": ("dream", "-conf quick/dream.yml"),
    "ppo-20m": ("ppo", "-n 20000000 --num-threads 1"),
    "dream-800k": ("dream", "-conf long/dream.yml --num-threads 1"),
}


def measure(algo: str, told: str, seed: int, folder: Path, games: int = 100) -> list[dict[str, Any]]:
    """
    :param algo: what learns
    :param told: what ``train`` is told besides
    :param seed: of the training
    :param folder: of the agent
    :param games: to play, with the most likely actions; DREAM plays them once more with planning
    :return: what was played, the seconds of the training, the versions and the machine; an entry for each way to play
    :raises subprocess.CalledProcessError: if the training fails
    """
    command = f"-m sb3_dream train --algo {algo} --env {ENV} --seed {seed} --eval-freq -1 -f {folder}"
    start = time.perf_counter()
    subprocess.run([sys.executable, *command.split(), *told.split()], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    model = max((folder / algo).glob(f"{ENV}_*/{ENV}.zip"), key=os.path.getmtime)  # an earlier try may have left one
    about = {"settings": told, "seed": seed, "training_seconds": seconds, "cores": os.cpu_count()}
    if algo == "dream":
        found = [planning.measure(model, samples, 12, games, min(games, 50)) | about for samples in (0, 16)]
    else:
        agent = ALGOS[algo].load(model, device="cpu")
        env = TetrisVecEnv(min(games, 50))
        env.seed(10_000)
        played = evaluate(agent, env, games).as_dict()
        found = [{"steps": agent.num_timesteps, "samples": 0, "versions": versions(), **played} | about]
    found[0]["points"] = progress(model.parent, found[0]["steps"])
    return found


def progress(folder: Path, steps: int, points: int = 30) -> list[dict[str, Any]]:
    """
    :param folder: of a training, with the files of its monitors
    :param steps: of the training
    :param points: at most so many
    :return: means over the games that ended in each of so many equal parts of the steps, with the seconds at its end
    """
    played = load_results(str(folder)).sort_values("t")
    part = np.ceil(played["l"].cumsum() / played["l"].sum() * points).astype(int)
    return [
        {
            "steps": steps * number // points,
            "seconds": float(games["t"].max()),
            "games": {"returns": [games["r"].mean()], "counters": {LINES: [games[LINES].mean()]}},
        }
        for number, games in played.groupby(part)
    ]


def measured() -> list[dict[str, Any]]:
    """
    :return: what the files hold
    """
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]


def table() -> str:
    """
    :return: Markdown, a row for each of :data:`RUNS` that was measured, and way to play
    """
    rows = ["| run | steps | training, s | actions | lines a game of each seed | return |", "|---" * 6 + "|"]
    found = measured()
    for name, samples in ((name, samples) for name in RUNS for samples in (0, 16)):
        runs = [run for run in found if (run["run"], run["samples"]) == (name, samples)]
        if runs:
            seconds = ", ".join(f"{run['training_seconds']:.0f}" for run in runs)
            lines = ", ".join(planning.with_error(run["counters"][LINES]) for run in runs)
            returns = ", ".join(f"{np.mean(run['returns']):.1f}" for run in runs)
            actions = "planning" if samples else "most likely"
            rows.append(f"| {name} | {runs[0]['steps']:,} | {seconds} | {actions} | {lines} | {returns} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("runs/wall_clock"), help="of the agents")
    known = parser.parse_args()
    zoo.register()
    th.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in known.seeds:
        for name in known.only:
            file = f"{name}-{seed}"
            if not (RESULTS / f"{file}-0.json").is_file():
                for found in measure(*RUNS[name], seed, known.folder / file):
                    text = json.dumps({"run": name} | found, indent=1)
                    (RESULTS / f"{file}-{found['samples']}.json").write_text(text + "\n")
    print(table())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
