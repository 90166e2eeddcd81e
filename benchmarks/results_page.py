"""The results as a page of the documentation, and as the README's tables.

``python -m benchmarks.results_page`` writes ``docs/results.md``, its figures and the tables of ``README.md`` from all
files in ``benchmarks/results/``, which ``benchmarks/learning.py``, ``benchmarks/planning.py`` and others wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks import ablations, learning, planning, quick_fixed, readme, wall_clock
from benchmarks.wall_clock import LINES
from sb3_dream.report import RETURN, Results, draw_curves

ROOT = Path(__file__).parents[1]

INTRODUCTION = """# Results

Made by `python -m benchmarks.results_page` from the files in `benchmarks/results/`, one for each run, with its seed,
every measured game, the versions and the machine. `python benchmarks/learning.py TASK` makes those of a task: it trains
what is missing, with the values of `zoo_configs`, on one thread of a 2-core machine that often had other work.

Each figure is a mean over 100 games after training, played with the most likely actions (with planning, where the
settings have it, but for Tetris). The curves have 10 games a point, 3 in the Control Suite; where there are several
seeds, they are interquartile means with 95% bootstrap intervals. Actions of the Control Suite are played twice, so that
50,000 steps here are 100,000 of the suite; after 500,000 of those DreamerV3 has 851 on cartpole_swingup, 944 on
reacher_easy and 941 on walker_walk (Hafner et al. 2023).
"""

PLANNING = """## Planning on Tetris

`python benchmarks/planning.py MODEL.zip`: the same agents with their most likely actions (0 sequences), and trying
sequences of actions in the world model before each one. The actor treats all columns of the board alike and is
told what is seen in them ("sight"), or its critic alone is ("critic-sight"). With the reward "standard", the agent of
800,000 steps with "sight" learned with the values of `zoo_configs/long/dream.yml`, those of 800,000 and 1,000,000 with
"critic-sight" with the ones that it had before, the others with those of `zoo_configs/dream.yml`.
"""

ABLATIONS = """## Ablations

`python -m benchmarks.ablations`: `TetrisPlacement-v0` after 10,000 placements with one setting changed at a time, 100
games with the most likely actions, the seconds of one core that sometimes had other work.
"""

WALL_CLOCK = """## TetrisDirect-v0 in the same time

`python -m benchmarks.wall_clock`, on a machine with two cores. DREAM, with the values of
`zoo_configs/quick/dream.yml`, had both for 100,000 steps; all others, and DREAM with 800,000 steps and the values of
`zoo_configs/long/dream.yml`, had one, while the other had other work. With both, PPO makes 1.5 times as many steps a
second. 100 games each; the figure shows those that they trained on.
"""


QUICK_FIXED = """## As much from each update

`python -m benchmarks.quick_fixed`: the configurations `fixed` and `fixed, quick` of `benchmarks/update_speed.py`, which
imagine 1,024 and 256 rollouts an update and have 255 and 63 bins, on `CartPole-v1`: an update for every fourth step, 20
games a point with the most likely actions, on one core beside other work.
"""


def write_page(docs: Path) -> Path:
    """
    :param docs: folder of the documentation
    :return: the page
    """
    sections = [INTRODUCTION]
    for (task, steps), group in groupby(learning.finished_runs().items(), key=lambda item: item[0][:2]):
        groups = dict(group)
        sections.append(f"## {learning.TASKS[task].env}, {steps:,} steps\n\n{learning.table(groups)}\n")
        if any(runs[0]["points"] for runs in groups.values()):
            sections.append(f"![Learning curves](images/results/{_draw(task, steps, groups, docs)})\n")
    found = [json.loads(path.read_text()) for path in planning.RESULTS.glob("*.json")]
    sections.append(PLANNING)
    for (actions, rewards), of_modes in groupby(sorted(found, key=_order), key=_modes):
        rows = [planning.HEADER, *(planning.row(run) for run in of_modes)]
        sections.append("\n".join([f'With {actions} actions and the reward "{rewards}":', "", *rows, ""]))
    if wall_clock.RESULTS.is_dir():
        figure = _draw_times(docs)
        sections.append(f"{WALL_CLOCK}\n{wall_clock.table()}\n\n![Learning curves](images/results/{figure})\n")
    if ablations.RESULTS.is_dir():
        sections.append(f"{ABLATIONS}\n{ablations.table()}\n")
    if quick_fixed.RESULTS.is_dir():
        figure = _draw_quick_fixed(docs)
        sections.append(f"{QUICK_FIXED}\n{quick_fixed.table()}\n\n![Learning curves](images/results/{figure})\n")
    docs.mkdir(parents=True, exist_ok=True)
    page = docs / "results.md"
    page.write_text("\n".join(sections))
    return page


def _draw(task: str, steps: int, groups: learning.Groups, docs: Path) -> str:
    """The name of the figure of a task's learning curves."""
    runs = {algo: found for (_, _, algo), found in groups.items()}
    counted = all(LINES in run["final"]["counters"] for of_algo in runs.values() for run in of_algo)
    env = learning.TASKS[task].env
    return _save_curves(runs, LINES if counted else RETURN, "steps", env, docs, f"{task}-{steps}.png")


def _draw_times(docs: Path) -> str:
    """The name of the figure of what was learned over time."""
    runs = _by_name(run for run in wall_clock.measured() if run.get("points"))
    return _save_curves(runs, LINES, "seconds", wall_clock.ENV, docs, "wall_clock.png")


def _draw_quick_fixed(docs: Path) -> str:
    """The name of the figure of what ``fixed`` and ``fixed, quick`` learn."""
    return _save_curves(_by_name(quick_fixed.measured()), RETURN, "steps", quick_fixed.ENV, docs, "quick_fixed.png")


def _by_name(found: Iterable[dict[str, Any]]) -> Results:
    runs: Results = {}
    for run in found:
        runs.setdefault(run["run"], []).append(run)
    return runs


def _save_curves(runs: Results, measure: str, axis: str, env: str, docs: Path, name: str) -> str:
    path = docs / "images" / "results" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(runs, measure, axis, env).savefig(path, dpi=80)
    return name


def _modes(run: dict[str, Any]) -> tuple[str, ...]:
    return tuple(run.get(key, usual) for key, usual in planning.USUAL.items())


def _order(run: dict[str, Any]) -> tuple[tuple[str, ...], str, int, int, int]:
    return _modes(run), run["actor"], run["steps"], run["seed"], run["samples"]


if __name__ == "__main__":
    page, front = write_page(ROOT / "docs"), ROOT / "README.md"
    front.write_text(readme.fill(front.read_text()))
    print(f"Wrote {page} and the tables of {front}")
