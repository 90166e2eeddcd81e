"""How well the algorithms learn: every task of the comparison, each with one command that can be stopped and resumed.

``python benchmarks/learning.py cartpole`` trains what is missing and writes a file a run into ``benchmarks/results/``,
with the seed, the versions and the machine; ``--table`` prints all results that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sb3_dream import compare

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Task:
    """
    :param env: environment id
    :param algos: who is compared
    :param steps: environment steps of each run
    :param module: beside this file, that registers the environment when it is imported
    :param options: further ones of ``compare``, where its own measure too much or too little
    """

    env: str
    algos: str
    steps: int
    module: str = ""
    options: str = ""


FEW_GAMES = "--points 10 --episodes 3"  # of 500 slow steps each
ALONE = "--no-planning"  # 300 games of Tetris would take an hour and more

TASKS = {
    "tetris": Task("TetrisDirect-v0", "dream,ppo,dqn,qrdqn,ppo_lstm,ppo_mask,random", 100_000, options=ALONE),
    "tetris-lines": Task("TetrisDirectLines-v0", "dream,ppo,dqn,ppo_mask,random", 1_000_000, options=ALONE),
    "placement": Task("TetrisPlacement-v0", "dream,ppo_mask,ppo,dqn,random", 200_000, options=ALONE),
    "placement-lines": Task("TetrisPlacementLines-v0", "dream,ppo_mask,ppo,random", 200_000, options=ALONE),
    "cartpole": Task("CartPole-v1", "dream,ppo,dqn,random", 5_000),
    "acrobot": Task("Acrobot-v1", "dream,ppo,dqn,random", 10_000),
    "lunarlander": Task("LunarLander-v3", "dream,ppo,dqn,random", 100_000),
    "pendulum": Task("Pendulum-v1", "dream,ppo,sac,random", 8_000),
    "cartpole_swingup": Task("DMC-cartpole_swingup-v0", "dream,sac,random", 50_000, "dmc", FEW_GAMES),
    "reacher_easy": Task("DMC-reacher_easy-v0", "dream,sac,random", 60_000, "dmc", FEW_GAMES),
    "walker_walk": Task("DMC-walker_walk-v0", "dream,sac,random", 80_000, "dmc", FEW_GAMES),
    "recall": Task("Recall-v0", "dream,ppo,ppo_lstm,random", 10_000, "memory"),
    "breakout": Task("MinAtarBreakout-v0", "dream,ppo,dqn,random", 20_000, "pictures"),
}


def run(name: str, steps: int | None, seeds: int, algos: str | None, folder: Path) -> int:
    """
    :param name: of the task
    :param steps: instead of the task's own number
    :param seeds: runs of each algorithm
    :param algos: instead of the task's own
    :param folder: of the runs' models and logs, and the report
    :return: exit status
    """
    task = TASKS[name]
    steps, chosen = steps or task.steps, algos or task.algos
    command = f"--env {task.env} --algos {chosen} --steps {steps} --seeds {seeds} --output {folder / name}"
    packages = ["--gym-packages", task.module] if task.module else []
    status = compare.main([*command.split(), *task.options.split(), "--num-threads", "1", *packages])
    for result in sorted((folder / name).glob("runs/*/*/*/result.json")):
        found = json.loads(result.read_text())
        if "final" in found:
            keep(name, steps, result, found)
    return status


def keep(name: str, steps: int, result: Path, found: dict[str, Any]) -> None:
    """
    :param name: of the task
    :param steps: of the run
    :param result: the file of ``compare``, whose folders name the steps, the algorithm and the seed
    :param found: what it holds
    """
    algo, seed = result.parents[1].name, int(result.parent.name.rpartition("_")[2]) - 1
    if result.parents[2].name.partition("-")[0] != str(steps):
        return
    machine = {"cpu": platform.machine(), "cores": os.cpu_count(), "system": platform.platform(terse=True)}
    place = RESULTS / name / f"{algo}-{steps}-{seed}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    about = {"task": name, "env": TASKS[name].env, "algo": algo, "steps": steps, "seed": seed, "machine": machine}
    place.write_text(json.dumps(about | found, indent=1) + "\n")


Groups = dict[tuple[str, int, str], list[dict[str, Any]]]


def finished_runs() -> Groups:
    """
    :return: what the files hold, a seed each, by task, number of steps and algorithm, in this order
    """
    groups: Groups = defaultdict(list)
    for path in (path for name in TASKS for path in sorted(RESULTS.glob(f"{name}/*.json"))):
        found = json.loads(path.read_text())
        groups[found["task"], found["steps"], found["algo"]].append(found)
    order = list(TASKS)
    return dict(sorted(groups.items(), key=lambda item: (order.index(item[0][0]), *item[0][1:])))


def table(groups: Groups) -> str:
    """
    :param groups: of finished runs
    :return: Markdown, a row for each algorithm on each task; every seed's mean over its final games
    """
    rows = [
        "| task | steps | algorithm | return of each seed | lines a game | training, s |",
        "|---|---|---|---|---|---|",
    ]
    for (task, steps, algo), runs in groups.items():
        means = [np.mean(found["final"]["returns"]) for found in runs]
        returns = ", ".join(f"{mean:.1f}" if abs(mean) >= 10 else f"{mean:.2f}" for mean in means)
        lines = ", ".join(
            f"{np.mean(found['final']['counters']['total_lines']):.2f}"
            for found in runs
            if "total_lines" in found["final"]["counters"]
        )
        seconds = np.mean([found["seconds"] for found in runs])
        rows.append(f"| {task} | {steps:,} | {algo} | {returns} | {lines or '-'} | {seconds:,.0f} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="task", help=f"out of {', '.join(TASKS)}")
    parser.add_argument("--steps", type=int, help="instead of the task's own number")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each algorithm (default: %(default)s)")
    parser.add_argument("--algos", help="instead of the task's own, with commas")
    parser.add_argument("--folder", type=Path, default=Path("runs/learning"), help="of models, logs and reports")
    parser.add_argument("--table", action="store_true", help="print all results, after those of the tasks named")
    known = parser.parse_args()
    for name in known.tasks:
        if name not in TASKS:
            parser.error(f"unknown task {name!r}: expected some of {', '.join(TASKS)}")
    status = 0
    for name in known.tasks:
        status = run(name, known.steps, known.seeds, known.algos, known.folder) or status
    if known.table or not known.tasks:
        print(table(finished_runs()))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
