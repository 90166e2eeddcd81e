"""The figures."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from sb3_dream.history import Episode, Scalars, TrainingHistory
from sb3_dream.plots import figure_to_image, plot_open_loop, plot_training_progress, rolling_mean


def history(episodes: int = 40, lines: bool = True, **scalars: float) -> TrainingHistory:
    result = TrainingHistory(("total_lines",))
    for index in range(1, episodes + 1):
        counters = {"total_lines": float(index % 4)} if lines else {}
        result.episodes.append(Episode(100 * index, 1.0 * index, float(index), 100, None, counters))
        if scalars:
            values = {key.replace("__", "/"): value for key, value in scalars.items()}
            result.scalars.append(Scalars(100 * index, 1.0 * index, values))
    return result


def panels(subject: TrainingHistory, window: int | None = None) -> list[Axes]:
    return plot_training_progress(subject, window=window).axes


def line(axes: Axes, label: str) -> np.ndarray:
    (found,) = [line for line in axes.lines if line.get_label().startswith(label)]
    return np.asarray(found.get_xydata())


def titles(axes: list[Axes]) -> list[str]:
    return [part.get_title(loc="left") for part in axes]


def test_rolling_mean_against_its_definition() -> None:
    values = np.array([1.0, 4.0, math.nan, 7.0, 2.0])
    expected = [np.nanmean(values[max(0, end - 3) : end]) for end in range(1, 6)]
    assert rolling_mean(values, 3) == pytest.approx(expected)
    assert np.isnan(rolling_mean(np.array([math.nan, 1.0]), 1)[0])
    assert rolling_mean(np.array([]), 3).shape == (0,)


def test_the_four_panels_show_the_history() -> None:
    subject = history(train__world_model_loss=3.0, train__actor_loss=-0.5, train__critic_loss=1.0, train__entropy=2.0)
    axes = panels(subject, window=5)
    assert titles(axes) == ["Reward per episode", "Lines per episode", "Losses", "Policy entropy"]
    rewards = line(axes[0], "Mean of 5")
    assert rewards[:, 0].tolist() == subject.episode_timesteps.tolist()
    assert rewards[-1, 1] == np.mean([36, 37, 38, 39, 40])
    points = np.asarray(axes[1].collections[0].get_offsets())
    assert points[:, 1].tolist() == subject.episode_counters("total_lines").tolist()
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == ["World model", "Actor", "Critic"]
    assert (line(axes[2], "Actor")[:, 1] == -0.5).all()
    assert all(part.get_xlabel() == "Environment steps" and part.get_xlim() == (0, 4000) for part in axes)


def test_lengths_stand_in_for_lines() -> None:
    axes = panels(history(lines=False))
    assert titles(axes)[1] == "Episode length"
    assert (line(axes[1], "Mean")[:, 1] == 100).all()


def test_exploration_and_entropy_share_a_panel() -> None:
    axes = panels(history(rollout__exploration_rate=0.3, train__entropy_loss=-0.7))
    assert len(axes) == 5
    assert (line(axes[3], "Exploration rate")[:, 1] == 0.3).all()
    assert (line(axes[4], "Policy entropy")[:, 1] == 0.7).all()


def test_parts_and_entropy_are_not_drawn_as_losses() -> None:
    axes = panels(history(train__loss=1.0, train__entropy_loss=-1.0, train__kl_loss=5.0))
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == ["Loss"]
    axes = panels(history(train__value_loss=1.0, train__policy_gradient_loss=2.0, train__entropy_loss=-1.0))
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == ["Policy gradient", "Value"]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ({"train__actor_loss": 1.0, "train__critic_loss": 2.0}, "linear"),
        ({"train__actor_loss": 1.0, "train__critic_loss": 200.0}, "log"),
        ({"train__actor_loss": -1.0, "train__critic_loss": 200.0}, "symlog"),
        ({"train__actor_loss": 0.0, "train__critic_loss": math.nan}, "linear"),
    ],
)
def test_losses_of_different_sizes_stay_visible(losses: dict[str, float], scale: str) -> None:
    subject = history(**losses)
    assert panels(subject)[2].get_yscale() == scale
    assert figure_to_image(plot_training_progress(subject)).shape == (912, 1440, 3)


def test_of_several_values_at_one_step_the_latest_is_drawn() -> None:
    subject = history(train__loss=1.0)
    subject.scalars.append(Scalars(4000, 41.0, {"train/loss": 9.0}))
    drawn = line(panels(subject)[2], "Loss")
    assert len(drawn) == 40 and drawn[-1].tolist() == [4000, 9.0]


def test_long_histories_are_thinned() -> None:
    drawn = line(panels(history(10_000))[0], "Mean")
    assert len(drawn) == 4000 and drawn[0, 0] == 100 and drawn[-1, 0] == 1_000_000


def test_an_empty_history_is_said_to_be_empty() -> None:
    axes = panels(TrainingHistory())
    texts = [part.texts[0].get_text() for part in axes]
    assert texts[:2] == ["No episode has ended yet"] * 2 and "No loss" in texts[2] and "Neither" in texts[3]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_figure_is_saved_in_a_new_folder(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "figures" / f"progress.{suffix}"
    plot_training_progress(history(), path)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)


def test_bad_window() -> None:
    with pytest.raises(ValueError, match="window must be at least 1 episode, got 0"):
        plot_training_progress(history(), window=0)


def test_no_pyplot_is_involved() -> None:
    program = """
import sys
from sb3_dream.history import TrainingHistory
from sb3_dream.plots import plot_training_progress
plot_training_progress(TrainingHistory())
sys.exit("matplotlib.pyplot" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Open-loop predictions


def boards(steps: int = 8) -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((steps, 6, 4))
    truth[:, 4:] = 1.0
    prediction = truth.copy()
    prediction[3:, 0, 0] = 0.5
    return truth, prediction


def test_a_strip_shows_truth_over_prediction_over_error() -> None:
    truth, prediction = boards()
    figure = plot_open_loop(truth, prediction, context=3)
    (axes,) = figure.axes
    frames = [np.asarray(image.get_array()) for image in axes.images]
    assert np.array_equal(frames[:8], truth) and np.array_equal(frames[8:16], prediction)
    assert np.allclose(frames[16:], np.abs(truth - prediction))
    assert {image.get_clim() for image in axes.images} == {(0.0, 1.0)}
    lefts = [image.get_extent()[0] for image in axes.images[:8]]
    gaps = np.diff(lefts)
    assert gaps.argmax() == 2 and np.allclose(np.delete(gaps, 2), gaps[0])
    assert f"{0.5 / 24:.3g}" in figure.texts[1].get_text()


def test_a_long_strip_keeps_both_ends() -> None:
    truth, prediction = boards(50)
    (axes,) = plot_open_loop(truth, prediction, context=5, max_frames=6).axes
    labels = [text.get_text() for text in axes.texts if text.get_text().isdigit()]
    assert len(labels) == 6 and labels[0] == "0" and labels[-1] == "49"


def test_colour_pictures() -> None:
    truth = np.zeros((4, 8, 8, 3), np.uint8)
    truth[..., 0] = 255
    (axes,) = plot_open_loop(truth, truth // 2, context=1).axes
    assert axes.images[0].get_array().shape == (8, 8, 3)
    assert np.allclose(axes.images[-1].get_array(), 128 / 255 / 3)


def test_flat_vectors_become_heatmaps_over_time() -> None:
    truth = np.linspace(-2.0, 2.0, 60).reshape(20, 3)
    figure = plot_open_loop(truth, truth + 1.0, context=5)
    pictures = [axes.images[0] for axes in figure.axes[:3]]
    assert all(picture.get_array().shape == (3, 20) for picture in pictures)
    assert pictures[0].get_clim() == pictures[1].get_clim() == (-2.0, 2.0)
    assert np.allclose(pictures[2].get_array(), 1.0)
    assert [axes.lines[0].get_xdata()[0] for axes in figure.axes[:3]] == [4.5] * 3


def test_pixels_of_a_figure(tmp_path: Path) -> None:
    figure = plot_open_loop(*boards(), context=3)
    pixels = figure_to_image(figure)
    figure.savefig(tmp_path / "strip.png")
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(Image.open(tmp_path / "strip.png").convert("RGB")))
    assert pixels.min() == 0 and pixels.max() == 255


@pytest.mark.parametrize(
    ("truth", "prediction", "context", "message"),
    [
        ((8, 6, 4), (7, 6, 4), 3, "must have one shape"),
        ((8,), (8,), 3, "expected shape"),
        ((8, 6, 4, 2), (8, 6, 4, 2), 3, "expected shape"),
        ((0, 6, 4), (0, 6, 4), 0, "expected shape"),
        ((8, 6, 4), (8, 6, 4), 8, "context must lie in 0 to 7"),
        ((8, 6, 4), (8, 6, 4), -1, "context must lie in 0 to 7"),
    ],
)
def test_bad_predictions(truth: tuple[int, ...], prediction: tuple[int, ...], context: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_open_loop(np.zeros(truth), np.zeros(prediction), context)
