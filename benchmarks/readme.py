"""The README's tables, from the files in ``benchmarks/results/``.

Each stands between the marks ``<!-- table NAME -->`` and ``<!-- end -->``; ``python -m benchmarks.results_page`` fills
them anew.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import learning
from benchmarks.planning import with_error
from benchmarks.wall_clock import LINES

TABLE = re.compile(r"(?<=<!-- table )(?P<name>\w+) -->\n.*?(?=<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """
    :param name: what the table calls it
    :param files: pattern of files in the folder of results, one a seed: games with the most likely actions
    :param planned: the same, with planning
    :param training: how long it takes, where the files do not say
    """

    name: str
    files: str
    planned: str = ""
    training: str = ""


TETRIS = {
    "placements": (
        Row("DREAM", "planning/placement-sight-100000-*-0-12", training="60 to 120 min"),
        Row("DREAM", "planning/placement-sight-10000-*-0-12", training="6 min"),
        Row("MaskablePPO", "placement/ppo_mask-200000-*"),
        Row("PPO, no masks", "placement/ppo-200000-*"),
        Row("DQN, no masks", "placement/dqn-200000-*"),
        Row("random player", "placement/random-200000-*"),
    ),
    "steps": (
        Row("DREAM", "tetris/dream-100000-*", "planning/sight-100000-*-16-12"),
        Row("PPO", "tetris/ppo-100000-*"),
        Row("MaskablePPO", "tetris/ppo_mask-100000-*"),
        Row("RecurrentPPO", "tetris/ppo_lstm-100000-*"),
        Row("DQN", "tetris/dqn-100000-*"),
        Row("QR-DQN", "tetris/qrdqn-100000-*"),
        Row("random player", "tetris/random-100000-*"),
    ),
    "minutes": (
        Row("DREAM, quick values, two cores", "wall_clock/dream-?-0", "wall_clock/dream-?-16"),
        Row("PPO", "wall_clock/ppo-?-0"),
        Row("PPO", "wall_clock/ppo-longer-?-0"),
        Row("MaskablePPO", "wall_clock/ppo_mask-?-0"),
        Row("RecurrentPPO", "wall_clock/ppo_lstm-?-0"),
        Row("A2C", "wall_clock/a2c-?-0"),
        Row("DQN", "wall_clock/dqn-?-0"),
        Row("QR-DQN", "wall_clock/qrdqn-?-0"),
    ),
    "hours": (
        Row("DREAM, long values", "wall_clock/dream-800k-?-0"),
        Row("PPO", "wall_clock/ppo-20m-?-0"),
    ),
    "lines": (
        Row(
            "DREAM, single keys",
            "planning/lines_only-critic-sight-1000000-*-0-12",
            "planning/lines_only-critic-sight-1000000-*-16-12",
            "191 min",
        ),
        Row("PPO, single keys", "tetris-lines/ppo-1000000-*"),
        Row("MaskablePPO, single keys", "tetris-lines/ppo_mask-1000000-*"),
        Row("DREAM, placements", "planning/placement-lines_only-sight-40000-*-0-12", training="23 min"),
        Row("MaskablePPO, placements", "placement-lines/ppo_mask-200000-*"),
        Row("PPO, placements, no masks", "placement-lines/ppo-200000-*"),
    ),
}
#: Tasks of ``benchmarks/learning.py``, after their own number of steps.
OTHERS = (
    "cartpole",
    "pendulum",
    "acrobot",
    "lunarlander",
    "recall",
    "breakout",
    "cartpole_swingup",
    "reacher_easy",
    "walker_walk",
)
NAMES = {"ppo": "PPO", "dqn": "DQN", "sac": "SAC", "ppo_lstm": "RecurrentPPO", "random": "random"}


def fill(text: str) -> str:
    """
    :param text: of the README
    :return: the same with its tables as the results are now
    :raises ValueError: if a mark names a table that is not known, or files that a table needs are missing
    """
    return TABLE.sub(lambda found: f"{found['name']} -->\n{table(found['name'])}\n", text)


def table(name: str) -> str:
    """
    :param name: ``"others"``, or one of :data:`TETRIS`
    :return: Markdown
    :raises ValueError: if there is none of this name, or files that it needs are missing
    """
    if name == "others":
        header = ["task", "steps", "DREAM", "seeds", "training", "others"]
        groups = learning.finished_runs()
        rows = [other_row(task, groups) for task in OTHERS]
    elif name in TETRIS:
        header = ["", "steps", "training, one core", "seeds", "pieces a game", "lines a game", "with planning"]
        rows = [tetris_row(row) for row in TETRIS[name]]
        if not any(row.planned for row in TETRIS[name]):
            header, *rows = (cells[:-1] for cells in (header, *rows))
    else:
        raise ValueError(f"no table {name!r}: expected others, {', '.join(TETRIS)}")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def tetris_row(row: Row) -> list[str]:
    """
    :param row: what it shows
    :return: its cells
    """
    runs = read(row.files)
    lines, planned = lines_of_seeds(runs), lines_of_seeds(read(row.planned)) if row.planned else ""
    if row.name.startswith("DREAM"):
        lines, planned = f"**{lines}**", planned and f"**{planned}**"
    pieces = np.mean([np.mean(games(run)["counters"]["pieces_placed"]) for run in runs])
    seeds = ", ".join(str(run["seed"]) for run in runs)
    time = row.training or duration(runs)
    return [row.name, f"{runs[0]['steps']:,}", time, seeds, f"{pieces:.1f}", lines, planned]


def other_row(task: str, groups: learning.Groups) -> list[str]:
    """
    :param task: one of :data:`OTHERS`
    :param groups: all finished runs
    :return: its cells, with the mean return of all seeds
    :raises ValueError: if DREAM's are missing
    """
    about = learning.TASKS[task]
    found = {algo: runs for (name, steps, algo), runs in groups.items() if (name, steps) == (task, about.steps)}
    if "dream" not in found:
        raise ValueError(f"no results of DREAM on {task} after {about.steps} steps, which a table of the README shows")
    runs = found["dream"]
    others = ", ".join(f"{name} {mean_return(found[algo])}" for algo, name in NAMES.items() if algo in found)
    return [f"`{about.env}`", f"{about.steps:,}", f"**{mean_return(runs)}**", str(len(runs)), duration(runs), others]


def read(pattern: str) -> list[dict[str, Any]]:
    """
    :param pattern: of files in the folder of results, without their ending
    :return: what they hold, in the order of their seeds
    :raises ValueError: if there is none
    """
    runs = [json.loads(path.read_text()) for path in learning.RESULTS.glob(f"{pattern}.json")]
    if not runs:
        raise ValueError(f"no results {pattern}.json in {learning.RESULTS}, which a table of the README shows")
    return sorted(runs, key=lambda run: run["seed"])


def games(run: dict[str, Any]) -> dict[str, Any]:
    """
    :param run: what a file holds
    :return: the games after training
    """
    return run.get("final", run)


def lines_of_seeds(runs: list[dict[str, Any]]) -> str:
    """
    :param runs: a seed each
    :return: the mean of each, of a single one with its standard error
    """
    lines = [games(run)["counters"][LINES] for run in runs]
    return with_error(lines[0]) if len(lines) == 1 else ", ".join(f"{np.mean(seed):.2f}" for seed in lines)


def mean_return(runs: list[dict[str, Any]]) -> str:
    """
    :param runs: a seed each
    :return: the mean over their games, with three digits
    """
    mean = np.mean([np.mean(games(run)["returns"]) for run in runs])
    return f"{mean:.0f}" if abs(mean) >= 100 else f"{mean:.1f}" if abs(mean) >= 10 else f"{mean:.2f}"


def duration(runs: list[dict[str, Any]]) -> str:
    """
    :param runs: a seed each
    :return: the mean time of their training; nothing where there was none
    """
    # elsewhere "seconds" are those of playing
    seconds = np.mean([run["seconds"] if "final" in run else run["training_seconds"] for run in runs])
    if seconds < 1:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"
