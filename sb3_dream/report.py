"""The report of a comparison: figures, and one HTML page that holds everything."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from rliable import library, metrics

if TYPE_CHECKING:
    from sb3_dream.compare import Plan

RETURN = "return"
CONFIDENCE = 0.95
REPLICATIONS = 2_000
COLOURS = ("#2f6db5", "#d9662b", "#2f9e77", "#8a5bb0", "#c92a2a", "#6b7785", "#b58a2f", "#2f9eb5")

Results = dict[str, list[dict[str, Any]]]
#: Estimate, lower and upper end of the interval; each of the shape of the estimate.
Estimate = tuple[np.ndarray, np.ndarray, np.ndarray]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .3rem .8rem; text-align: right }
th:first-child, td:first-child { text-align: left } thead th { border-bottom: 2px solid #1f2933 }
tbody td { border-bottom: 1px solid #e4e8ec } img { max-width: 100% } pre { background: #f4f6f8; padding: .8rem;
overflow-x: auto } .error { color: #c92a2a }
"""


def write_report(output: Path, plan: Plan, results: Results, command: str) -> Path:
    """
    Write the figures as PNG, and ``report.html`` with the figures, the table, the commands and the versions in it.

    :param output: the folder for it
    :param plan: what was compared
    :param results: for each algorithm its runs' results; unfinished runs are named, not counted
    :param command: what was typed
    :return: the page
    """
    folder = output / f"{plan.env.replace('/', '-')}_{plan.steps}"
    folder.mkdir(parents=True, exist_ok=True)
    finished = {algo: [run for run in runs if "final" in run] for algo, runs in results.items()}
    finished = {algo: runs for algo, runs in finished.items() if runs}
    measures = [RETURN, *(name for name in plan.counters if _has_counter(finished, name))]
    figures: dict[str, Figure] = {}
    for name in measures:
        figures[f"{name}_by_steps"] = draw_curves(finished, name, "steps", plan.env)
        figures[f"{name}_by_seconds"] = draw_curves(finished, name, "seconds", plan.env)
        figures[f"{name}_final"] = draw_finals(finished, name, plan)
    images = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=120)
        images.append((name.replace("_", " "), base64.b64encode(path.read_bytes()).decode()))
    page = folder / "report.html"
    page.write_text(_page(plan, results, finished, measures, images, command), encoding="utf-8")
    return page


def estimate(scores: np.ndarray) -> Estimate:
    """
    The interquartile mean over runs with its bootstrap interval (Agarwal et al. 2021, "Deep Reinforcement Learning at
    the Edge of the Statistical Precipice").

    :param scores: (runs, K): for each run, the mean over its games at each of K points
    :return: interquartile means and the ends of their intervals, each (K,); with one run all three are equal
    """

    def iqm(sample: np.ndarray) -> np.ndarray:
        return np.array([metrics.aggregate_iqm(sample[..., point]) for point in range(sample.shape[-1])])

    tasks = scores[:, None, :]  # rliable wants (runs, tasks, points)
    if len(scores) == 1:
        value = iqm(tasks)
        return value, value, value
    state = np.random.get_state()
    np.random.seed(0)  # rliable draws from NumPy's global generator, whatever it is told
    try:
        values, intervals = library.get_interval_estimates(
            {"algorithm": tasks}, iqm, reps=REPLICATIONS, confidence_interval_size=CONFIDENCE
        )
    finally:
        np.random.set_state(state)
    low, high = intervals["algorithm"]
    return values["algorithm"], low, high


def final_estimate(runs: Sequence[dict[str, Any]], measure: str) -> Estimate:
    """
    :param runs: finished runs of one algorithm
    :param measure: "return" or a counter
    :return: see :func:`estimate`, of the last measurement
    """
    return estimate(np.array([[_mean(run["final"], measure)] for run in runs]))


def draw_curves(results: Results, measure: str, axis: str, env: str) -> Figure:
    """
    :param results: finished runs of each algorithm
    :param measure: "return" or a counter
    :param axis: "steps", or "seconds" of training, evaluations not counted, averaged over the seeds
    :param env: where it was learned, for the title
    :return: a learning curve for each algorithm, and a level line for those that do not learn
    """
    figure, axes = _new_figure(f"{env}: {measure} over {axis}")
    for colour, (algo, runs) in zip(COLOURS * len(results), results.items(), strict=False):
        label = f"{algo} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"
        if not runs[0]["points"]:
            axes.axhline(final_estimate(runs, measure)[0][0], color=colour, linestyle="--", label=label)
            continue
        by_steps = [{point["steps"]: point for point in run["points"]} for run in runs]
        common = sorted(set.intersection(*(set(points) for points in by_steps)))
        values, low, high = estimate(
            np.array([[_mean(points[step]["games"], measure) for step in common] for points in by_steps])
        )
        x = common if axis == "steps" else np.mean([[points[s]["seconds"] for s in common] for points in by_steps], 0)
        axes.plot(x, values, color=colour, label=label, marker="." if len(common) < 30 else "")
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("environment steps" if axis == "steps" else "seconds of training")
    axes.set_ylabel(f"{measure} per episode")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if results:
        figure.legend(loc="outside right upper", frameon=False)  # beside the curves, never on them
    return figure


def draw_finals(results: Results, measure: str, plan: Plan) -> Figure:
    """
    :param results: finished runs of each algorithm
    :param measure: "return" or a counter
    :param plan: what was compared
    :return: interquartile means with their intervals, and each run as a dot
    """
    figure, axes = _new_figure(f"{plan.env}: {measure} after {plan.steps:,} steps")
    axes.use_sticky_edges = False  # a bar that begins at the edge of the picture would hide half of a dot
    for row, runs in enumerate(results.values()):
        colour = COLOURS[row % len(COLOURS)]
        (value,), (low,), (high,) = final_estimate(runs, measure)
        axes.barh(row, high - low, left=low, height=0.5, color=colour, alpha=0.3)
        axes.plot([value, value], [row - 0.25, row + 0.25], color=colour, linewidth=2)
        axes.plot([_mean(run["final"], measure) for run in runs], [row] * len(runs), "o", color=colour, markersize=4)
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set_xlabel(f"{measure} per episode: interquartile mean, {CONFIDENCE:.0%} bootstrap interval, runs")
    return figure


def _new_figure(title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e8ec")
    return figure, axes


def _has_counter(results: Results, name: str) -> bool:
    return bool(results) and all(name in run["final"]["counters"] for runs in results.values() for run in runs)


def _mean(games: dict[str, Any], measure: str) -> float:
    return float(np.mean(games["returns"] if measure == RETURN else games["counters"][measure]))


def _page(
    plan: Plan,
    results: Results,
    finished: Results,
    measures: Sequence[str],
    images: Sequence[tuple[str, str]],
    command: str,
) -> str:
    rows = []
    for algo, runs in finished.items():
        cells = [html.escape(algo), str(len(runs))]
        for measure in measures:
            (value,), (low,), (high,) = final_estimate(runs, measure)
            cells.append(f"{value:.2f}" + (f" [{low:.2f}, {high:.2f}]" if len(runs) > 1 else ""))
        cells.append(f"{np.mean([run['seconds'] for run in runs]):.0f}")
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    heads = ["algorithm", "seeds", *(f"{measure} per episode" for measure in measures), "seconds of training"]
    missing = [run for runs in results.values() for run in runs if "final" not in run]
    notes = "".join(
        f'<p class="error">Not counted: {html.escape(run["folder"] + ": " + run.get("error", "not finished"))}</p>'
        for run in missing
    )
    how = "the most likely action" if plan.deterministic else "sampled actions"
    how += "" if plan.planning else ", without planning"
    pictures = "".join(
        f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'
        for name, data in images
    )
    kinds = {json.dumps(run["versions"], indent=1, sort_keys=True) for runs in finished.values() for run in runs}
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(plan.env)}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(plan.env)}, {plan.steps:,} steps</h1>
<p>Interquartile means over the seeds, with {CONFIDENCE:.0%} bootstrap intervals ({REPLICATIONS:,} replications), of
each seed's mean over {plan.final_episodes} games after training, played with {how}; the curves have {plan.episodes}
games a point. Everyone plays the same games. Seconds are those of training, without the evaluations. A single seed has
no interval. "random" chooses every action with the same probability.</p>
<table><thead><tr>{"".join(f"<th>{html.escape(head)}</th>" for head in heads)}</tr></thead>
<tbody>{"".join(rows)}</tbody></table>
{notes}{pictures}
<h2>How this was made</h2><pre>{html.escape(command)}</pre>
<p>Each run's folder has its hyperparameters (config.yml), its log and its model.</p>
<pre>{html.escape(chr(10).join(run["folder"] for runs in finished.values() for run in runs))}</pre>
<h2>Versions</h2><pre>{html.escape(chr(10).join(sorted(kinds)))}</pre>
</body></html>
"""
