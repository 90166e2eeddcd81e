"""Figures: the progress of a training run, and an open-loop prediction beside the truth.

They are drawn without pyplot, so they need no display, leave no global state and may be made in any thread.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from sb3_dream.history import TrainingHistory

_INK, _MUTED, _GRID = "#1f2933", "#6b7785", "#e4e8ec"
_COLOURS = ("#2f6db5", "#d9662b", "#2f9e77", "#8a5bb0")
_ERROR_SHADES = LinearSegmentedColormap.from_list("error", ["#ffffff", "#f2a08a", "#c92a2a", "#5c0f14"])
_MAX_POINTS = 4_000
_MAX_LOSSES = 4
_MAIN_LOSSES = ("train/world_model_loss", "train/actor_loss", "train/critic_loss", "train/loss")


def plot_training_progress(
    monitor: TrainingHistory,
    path: str | os.PathLike[str] | None = None,
    window: int | None = None,
    title: str = "Training progress",
) -> Figure:
    """
    Draw rewards, lines (or another counter, or lengths), losses and exploration over environment steps.

    :param monitor: a ``TrainingMonitor``, or a ``TrainingHistory`` loaded from a file
    :param path: where to save the figure; the suffix tells the format, missing folders are made
    :param window: episodes in the rolling mean; by default a tenth of all, between 5 and 100
    :param title: the figure's title
    :return: the figure; its first four axes are the four panels
    """
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1 episode, got {window}")
    if window is None:
        window = int(np.clip(len(monitor.episodes) // 10, 5, 100))
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, wspace=0.03, hspace=0.04, rect=(0, 0, 1, 0.895))
    figure = Figure(figsize=(12, 7.6), dpi=120, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    _header(figure, title, _summary(monitor, window), size=15)
    panels = figure.subplots(2, 2)
    for axes in panels.flat:
        _style(axes, monitor.timesteps)
    _draw_episodes(panels[0, 0], monitor, monitor.episode_rewards, window, "Reward per episode", _COLOURS[0])
    name, label = _counter_to_draw(monitor)
    values = monitor.episode_lengths if name is None else monitor.episode_counters(name)
    _draw_episodes(panels[0, 1], monitor, values, window, label, _COLOURS[2])
    _draw_losses(panels[1, 0], monitor)
    _draw_exploration(panels[1, 1], monitor)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return figure


def plot_open_loop(
    truth: np.ndarray, prediction: np.ndarray, context: int, max_frames: int = 20, title: str = "Open-loop prediction"
) -> Figure:
    """
    Draw what happened over what the world model dreamt over the absolute error.

    :param truth: observations, shape (T, rows, columns), (T, rows, columns, 3), or (T, features) for flat vectors
    :param prediction: the model's, of the same shape: its reconstruction for the first ``context`` steps, and
        from there on its imagination
    :param context: number of steps at which the model saw the truth, 0 to T - 1
    :param max_frames: most frames in a strip; of a longer sequence, evenly spaced ones are shown
    :param title: the figure's title
    :return: a strip of frames, or for flat vectors a heatmap over time (feature by step)
    """
    truth, prediction = _as_unit(truth), _as_unit(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(f"truth and prediction must have one shape, got {truth.shape} and {prediction.shape}")
    if truth.ndim not in (2, 3, 4) or (truth.ndim == 4 and truth.shape[-1] != 3) or truth.size == 0:
        raise ValueError(
            f"expected shape (T, rows, columns), (T, rows, columns, 3) or (T, features), not empty, got {truth.shape}"
        )
    if not 0 <= context < len(truth):
        raise ValueError(f"context must lie in 0 to {len(truth) - 1} for {len(truth)} steps, got {context}")
    if max_frames < 2:
        raise ValueError(f"max_frames must be at least 2, got {max_frames}")
    if truth.ndim == 2:
        return _draw_heatmaps(truth, prediction, context, title)
    return _draw_strip(truth, prediction, context, max_frames, title)


def figure_to_image(figure: Figure) -> np.ndarray:
    """
    :param figure: any figure
    :return: its pixels, uint8 of shape (height, width, 3): what ``stable_baselines3.common.logger.Image(image, "HWC")``
        and ``SummaryWriter.add_image(..., dataformats="HWC")`` take
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """
    :param values: shape (n,); NaN values are left out
    :param window: number of latest values in each mean; near the beginning there are fewer
    :return: trailing means, shape (n,); NaN where the whole window is
    """
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    count = counts[end] - counts[start]
    return np.where(count > 0, (sums[end] - sums[start]) / np.maximum(count, 1), np.nan)


def _header(figure: Figure, title: str, text: str, size: float) -> None:
    width, height = figure.get_size_inches()
    left, top, line = 0.16 / width, 1 - 0.16 / height, 1.65 * size / 72 / height
    figure.text(left, top, title, ha="left", va="top", fontsize=size, fontweight="bold", color=_INK)
    figure.text(left, top - line, text, ha="left", va="top", fontsize=0.68 * size, color=_MUTED)


# The four panels


def _style(axes: Axes, timesteps: int) -> None:
    axes.set_axisbelow(True)
    axes.grid(True, color=_GRID, linewidth=0.9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c3cad1")
    axes.tick_params(which="both", colors=_MUTED, labelsize=9, length=0, pad=5)
    axes.set_xlim(0, max(timesteps, 1))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("Environment steps", fontsize=10, color=_MUTED)


def _title(axes: Axes, title: str, ylabel: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=_INK, pad=10)
    axes.set_ylabel(ylabel, fontsize=10, color=_MUTED)


def _legend(*parts: Axes) -> None:
    """Beside the title, where it hides no data."""
    handles = [handle for axes in parts for handle in axes.get_legend_handles_labels()[0]]
    place: dict[str, Any] = {
        "loc": "lower right",
        "bbox_to_anchor": (1.0, 1.005),
        "ncols": len(handles),
        "borderaxespad": 0.0,
    }
    legend = parts[-1].legend(
        handles=handles, fontsize=9, frameon=False, labelcolor=_INK, handlelength=1.4, columnspacing=1.3, **place
    )
    legend.set_in_layout(False)
    for handle in filter(None, legend.legend_handles):
        handle.set_alpha(1.0)  # the points of many episodes are nearly transparent


def _empty(axes: Axes, text: str) -> None:
    axes.grid(False)
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=11, color=_MUTED)


def _summary(monitor: TrainingHistory, window: int) -> str:
    stats = monitor.get_stats(window)
    parts = [f"{stats['num_episodes']:,} episodes", f"{stats['timesteps']:,} steps", _duration(stats["seconds"])]
    if monitor.episodes:
        shown = min(window, len(monitor.episodes))
        parts.append(f"last {shown} episodes: reward {stats['mean_reward']:.4g} ± {stats['std_reward']:.3g}")
    if not math.isnan(stats["success_rate"]):
        parts.append(f"success {stats['success_rate']:.0%}")
    return "   ·   ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes > 0 else f"{seconds} s"


def _counter_to_draw(monitor: TrainingHistory) -> tuple[str | None, str]:
    for name in monitor.counters:
        if any(name in episode.counters for episode in monitor.episodes):
            return name, f"{name.removeprefix('total_').replace('_', ' ').capitalize()} per episode"
    return None, "Episode length"


def _draw_episodes(
    axes: Axes, monitor: TrainingHistory, values: np.ndarray, window: int, label: str, colour: str
) -> None:
    _title(axes, label, "Steps" if label == "Episode length" else label.split(" per ")[0])
    if len(values) == 0:
        _empty(axes, "No episode has ended yet")
        return
    steps = monitor.episode_timesteps
    mean = rolling_mean(values, window)
    deviation = np.sqrt(np.maximum(rolling_mean(values**2, window) - mean**2, 0.0))
    shown = _thinned(len(values))
    faint = float(np.clip(150 / len(shown), 0.12, 0.5))
    axes.scatter(steps[shown], values[shown], s=9, color=colour, alpha=faint, linewidths=0, label="Episode")
    axes.fill_between(
        steps[shown], (mean - deviation)[shown], (mean + deviation)[shown], color=colour, alpha=0.14, linewidth=0
    )
    axes.plot(steps[shown], mean[shown], color=colour, linewidth=2.2, label=f"Mean of {window} (± 1 std)")
    if (values[np.isfinite(values)] % 1 == 0).all():
        axes.yaxis.set_major_locator(MaxNLocator(7, integer=True))
    _legend(axes)


def _draw_losses(axes: Axes, monitor: TrainingHistory) -> None:
    _title(axes, "Losses", "Loss")
    losses = monitor.losses
    # An algorithm may log dozens of parts: its main losses say how training goes
    keys = [key for key in _MAIN_LOSSES if key in losses] or [key for key in losses if "entropy" not in key]
    if not keys:
        _empty(axes, "No loss was logged")
        return
    curves = {key: losses[key] for key in keys[:_MAX_LOSSES]}
    for colour, (key, (steps, values)) in zip(_COLOURS, curves.items(), strict=False):
        label = key.removeprefix("train/").removesuffix("_loss").replace("_", " ").capitalize()
        _draw_curve(axes, steps, values, label, colour)
    _scale_losses(axes, [values[np.isfinite(values)] for _, values in curves.values()])
    _legend(axes)


def _scale_losses(axes: Axes, curves: list[np.ndarray]) -> None:
    """Losses differ by orders of magnitude: take a logarithmic scale where a linear one would hide some of them."""
    sizes = np.abs(np.concatenate(curves))
    sizes = sizes[sizes > 0]
    typical = [np.median(np.abs(values)) for values in curves if np.any(values)]
    if not typical or max(sizes.max() / np.median(sizes), max(typical) / min(typical)) < 20:
        return
    signed = [values for values in curves if (values <= 0).any()]
    if signed:
        # Linear as far as the curves that cross zero reach, logarithmic beyond
        reach = max(np.quantile(np.abs(values), 0.95) for values in signed)
        axes.set_yscale("symlog", linthresh=float(10.0 ** np.ceil(np.log10(max(reach, sizes.min())))), linscale=1.0)
    else:
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_exploration(axes: Axes, monitor: TrainingHistory) -> None:
    rates, rate_label = monitor.exploration_rates, "Exploration rate"
    entropies, entropy_label = monitor.scalar("train/entropy"), "Policy entropy (nats)"
    if len(entropies[0]) == 0:
        # Stable-Baselines3's on-policy algorithms log the negative
        steps, negative = monitor.scalar("train/entropy_loss")
        entropies = steps, -negative
    has_rates, has_entropies = len(rates[0]) > 0, len(entropies[0]) > 0
    if not has_rates and not has_entropies:
        _title(axes, "Exploration", "")
        _empty(axes, "Neither an exploration rate nor an entropy was logged")
        return
    if not has_rates:
        _title(axes, "Policy entropy", entropy_label)
        _draw_curve(axes, *entropies, entropy_label, _COLOURS[3])
        return
    _title(axes, "Exploration", rate_label)
    _draw_curve(axes, *rates, rate_label, _COLOURS[1], smooth=False)
    axes.set_ylim(-0.03, 1.03)
    if has_entropies:
        right = axes.twinx()
        for spine in right.spines.values():
            spine.set_visible(False)
        right.tick_params(which="both", colors=_MUTED, labelsize=9, length=0, pad=5)
        right.set_ylabel(entropy_label, fontsize=10, color=_MUTED)
        _draw_curve(right, *entropies, entropy_label, _COLOURS[3])
        _legend(axes, right)


def _draw_curve(
    axes: Axes, steps: np.ndarray, values: np.ndarray, label: str, colour: str, smooth: bool = True
) -> None:
    # After its last rollout an on-policy algorithm trains without a step: of several values at one step draw the latest
    latest = np.append(steps[1:] != steps[:-1], True)
    steps, values = steps[latest], values[latest]
    shown = _thinned(len(steps))
    window = len(values) // 50
    if smooth and window > 1:
        axes.plot(steps[shown], values[shown], color=colour, linewidth=0.8, alpha=0.28)
        values = rolling_mean(values, window)
    marker = "o" if len(steps) == 1 else None
    axes.plot(steps[shown], values[shown], color=colour, linewidth=2.0, label=label, marker=marker, markersize=4)


def _thinned(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, _MAX_POINTS)).astype(int))


# Open-loop predictions

_ROWS = ("Truth", "Prediction", "Error")


def _as_unit(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    return values / np.float32(255.0) if values.dtype == np.uint8 else values.astype(np.float32)


def _value_range(truth: np.ndarray) -> tuple[float, float]:
    """The truth's, so that a prediction is judged by the same colours whatever it says."""
    low, high = float(np.nanmin(truth)), float(np.nanmax(truth))
    return (low, high) if high > low else (low, low + 1.0)


def _draw_strip(truth: np.ndarray, prediction: np.ndarray, context: int, max_frames: int, title: str) -> Figure:
    low, high = _value_range(truth)
    error = np.abs(truth - prediction)
    if truth.ndim == 4:
        error = error.mean(axis=-1)
    picked = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), max_frames)).round().astype(int))
    rows, columns = truth.shape[1:3]
    gap, split = 0.14 * columns, 0.5 * columns
    lefts = np.arange(len(picked)) * (columns + gap) + np.where((picked >= context) & (context > 0), split, 0.0)
    width = lefts[-1] + 1.04 * columns
    scale = 0.62 / columns
    row_height = rows + 0.22 * columns
    figure = Figure(figsize=(1.3 + width * scale, 0.95 + 3 * row_height * scale), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    inches = figure.get_size_inches()
    axes = figure.add_axes(
        (1.1 / inches[0], 0.1 / inches[1], width * scale / inches[0], (3 * row_height * scale + 0.3) / inches[1])
    )
    axes.set_axis_off()
    shades: dict[str, Any] = {"cmap": "Greys", "vmin": low, "vmax": high}
    heat: dict[str, Any] = {"cmap": _ERROR_SHADES, "vmin": 0.0, "vmax": high - low}
    for row, (name, frames) in enumerate(zip(_ROWS, (truth, prediction, error), strict=True)):
        top = row * row_height
        axes.text(-0.35 * columns, top + rows / 2, name, ha="right", va="center", fontsize=10, color=_INK)
        for left, index in zip(lefts, picked, strict=True):
            extent = (left, left + columns, top + rows, top)
            frame = np.clip((frames[index] - low) / (high - low), 0, 1) if frames.ndim == 4 else frames[index]
            axes.imshow(frame, extent=extent, interpolation="nearest", **(heat if name == "Error" else shades))
            axes.add_patch(Rectangle((left, top), columns, rows, fill=False, edgecolor="#c3cad1", linewidth=0.7))
    for left, index in zip(lefts, picked, strict=True):
        colour = _MUTED if index < context else _COLOURS[0]
        axes.text(left + columns / 2, -0.09 / scale, str(index), ha="center", va="bottom", fontsize=8, color=colour)
    axes.set_xlim(-0.02 * columns, width - 0.02 * columns)
    axes.set_ylim(3 * row_height, -0.3 / scale)
    axes.set_aspect("equal")
    _open_loop_header(figure, title, error, context)
    return figure


def _draw_heatmaps(truth: np.ndarray, prediction: np.ndarray, context: int, title: str) -> Figure:
    low, high = _value_range(truth)
    error = np.abs(truth - prediction)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.05, rect=(0, 0, 1, 0.91))
    figure = Figure(figsize=(9.5, 7.2), dpi=110, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, 1, sharex=True, sharey=True)
    for axes, name, values in zip(panels, _ROWS, (truth, prediction, error), strict=True):
        shades: dict[str, Any] = {"cmap": "cividis", "vmin": low, "vmax": high}
        if name == "Error":
            shades = {"cmap": _ERROR_SHADES, "vmin": 0.0, "vmax": high - low}
        image = axes.imshow(values.T, aspect="auto", interpolation="nearest", origin="lower", **shades)
        axes.set_title(name, loc="left", fontsize=10, color=_INK)
        axes.set_ylabel("Feature", fontsize=9, color=_MUTED)
        axes.tick_params(colors=_MUTED, labelsize=8, length=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        for spine in axes.spines.values():
            spine.set_visible(False)
        if context > 0:
            axes.axvline(context - 0.5, color=_COLOURS[1], linewidth=1.6, linestyle=(0, (4, 2)))
        bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=14)
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=_MUTED, labelsize=8, length=0)
    panels[-1].set_xlabel("Step", fontsize=9, color=_MUTED)
    _open_loop_header(figure, title, error, context)
    return figure


def _open_loop_header(figure: Figure, title: str, error: np.ndarray, context: int) -> None:
    seen = f"0 to {context - 1} were seen, " if context > 0 else ""
    text = f"Steps {seen}{context} to {len(error) - 1} imagined; mean error of these {error[context:].mean():.3g}"
    _header(figure, title, text, size=12)
